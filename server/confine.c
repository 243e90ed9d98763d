/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* No new privileges, and no files to write to. */

/* The snapshot server talks to strangers, even if through the front, and its
 * user may write to the live disks: it is that of the nbdkits that carry them.
 * So it is the kernel that keeps it from doing so, by Landlock: what it starts
 * with (sockets, stderr) stays open to it, and /dev/null, which nbdkit wants to
 * have as its output.
 *
 * Sockets are no files to Landlock, and have to be open to it, since a live
 * disk may be behind one: our own, which knows it as a reader by the name that
 * it asks for.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>

#include "confine.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Of the second and third version of Landlock; headers may be older. */
#define ACCESS_REFER (1ULL << 13)
#define ACCESS_TRUNCATE (1ULL << 14)

#define ACCESS_ALWAYS (LANDLOCK_ACCESS_FS_WRITE_FILE                    \
  | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE      \
  | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR          \
  | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK          \
  | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK        \
  | LANDLOCK_ACCESS_FS_MAKE_SYM)

int
confine_rights (void)
{
  return prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Which version the kernel has; 0 if it has none, or it is off. */
static int
landlock_version (void)
{
  long r = syscall (SYS_landlock_create_ruleset, NULL, 0,
                    LANDLOCK_CREATE_RULESET_VERSION);

  return r > 0 ? r : 0;
}

bool
confine_can_read_only (void)
{
  return landlock_version () > 0;
}

static int
allow_writing (int rules, const char *path)
{
  struct landlock_path_beneath_attr what = {
    .allowed_access = LANDLOCK_ACCESS_FS_WRITE_FILE,
    .parent_fd = open (path, O_PATH | O_CLOEXEC),
  };
  int r;

  if (what.parent_fd == -1)
    return -1;
  r = syscall (SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH,
               &what, 0);
  close (what.parent_fd);
  return r;
}

int
confine_read_only (void)
{
  int version = landlock_version (), rules, r, err;
  struct landlock_ruleset_attr forbidden = {
    .handled_access_fs = ACCESS_ALWAYS | (version >= 2 ? ACCESS_REFER : 0)
      | (version >= 3 ? ACCESS_TRUNCATE : 0),
  };

  if (SANITIZED || version == 0)
    return 0;
  rules = syscall (SYS_landlock_create_ruleset, &forbidden, sizeof forbidden,
                   0);
  if (rules == -1)
    return -1;
  r = allow_writing (rules, "/dev/null");
  if (r == 0)
    r = syscall (SYS_landlock_restrict_self, rules, 0);
  err = errno;
  close (rules);
  errno = err;
  return r;
}
