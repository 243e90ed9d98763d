/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Becoming the user, and asking what he may. */

/* The names are looked up once, when the daemon starts: a child that was forked
 * has no business with name services.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include "user.h"

static int
wrong (const struct config *config, const char *key, const char *name,
       const char *what, struct failure *failure)
{
  failure_set (failure, "bad-config", "%s: %s: %s: %s", config->file, key,
               name, what);
  return -1;
}

static int
find_group (const struct config *config, struct user *user,
            struct failure *failure)
{
  const struct group *gr;

  if (!config->group)
    return 0;
  gr = getgrnam (config->group);
  if (!gr)
    return wrong (config, "group", config->group, "there is no such group",
                  failure);
  user->gid = gr->gr_gid;
  return 0;
}

int
user_find (const struct config *config, struct user *user,
           struct failure *failure)
{
  const struct passwd *pw;

  *user = (struct user) { .name = NULL };
  if (!config->user)
    return 0;
  pw = getpwnam (config->user);
  if (!pw)
    return wrong (config, "user", config->user, "there is no such user",
                  failure);
  if (pw->pw_uid == 0)
    return wrong (config, "user", config->user, "has the rights of root, "
                  "expected a user that has not", failure);
  user->uid = pw->pw_uid;
  user->gid = pw->pw_gid;
  if (find_group (config, user, failure) == -1)
    return -1;
  if (user->gid == 0)
    return wrong (config, "user", config->user, "is in the group of root, "
                  "expected another one, or one in 'group'", failure);
  user->nr_groups = USER_GROUPS_MAX;
  if (getgrouplist (config->user, user->gid, user->groups,
                    &user->nr_groups) == -1)
    return wrong (config, "user", config->user, "is in too many groups",
                  failure);
  if (geteuid () != 0)
    return wrong (config, "user", config->user, "only a daemon that root has "
                  "started can run others as this user", failure);
  user->name = config->user;
  return 0;
}

/* Nothing that is executed later can have any of them again. */
static int
drop_bounding_set (void)
{
  int cap;

  for (cap = 0; prctl (PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
    if (prctl (PR_CAPBSET_DROP, cap, 0, 0, 0) == -1)
      return -1;
  prctl (PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  return 0;
}

int
user_become (const struct user *user)
{
  struct __user_cap_header_struct header = {
    .version = _LINUX_CAPABILITY_VERSION_3,
  };
  const struct __user_cap_data_struct none[2] = { 0 };

  if (!user || !user->name)
    return 0;
  if (drop_bounding_set () == -1
      || setgroups (user->nr_groups, user->groups) == -1
      || setresgid (user->gid, user->gid, user->gid) == -1
      || setresuid (user->uid, user->uid, user->uid) == -1
      || syscall (SYS_capset, &header, none) == -1)
    return -1;
  if (setresuid (0, 0, 0) == -1)
    return 0;
  errno = EPERM;                /* it ought to have failed */
  return -1;
}

/* In a child: what it ended with is an errno. */
static int
ask (const struct user *user, int (*question) (const char *, int),
     const char *path, int argument)
{
  int status;
  pid_t pid = fork ();

  if (pid == -1)
    return errno;
  if (pid == 0)
    _exit (user_become (user) == -1 || question (path, argument) == -1
           ? errno : 0);
  while (waitpid (pid, &status, 0) == -1)
    if (errno != EINTR)
      return errno;
  return WIFEXITED (status) ? WEXITSTATUS (status) : EIO;
}

static int
try_open (const char *path, int flags)
{
  return open (path, flags);
}

int
user_try_open (const struct user *user, const char *path, int flags)
{
  return ask (user, try_open, path, flags | O_CLOEXEC | O_NONBLOCK);
}

int
user_try_access (const struct user *user, const char *path, int mode)
{
  return ask (user, access, path, mode);
}
