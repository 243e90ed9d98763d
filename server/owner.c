/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Giving files to the user. */

/* Who has the configuration changed from one user to another, or to none, has
 * the files changed, too, when the export's nbdkit is started.  A daemon that is
 * not root's has no user, and all files are its own.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actlog.h"
#include "owner.h"

const struct user *
owner_user (const struct daemon *d)
{
  return d->user.name ? &d->user : NULL;
}

uid_t
owner_uid (const struct daemon *d)
{
  return owner_user (d) ? d->user.uid : geteuid ();
}

static int
set_directory (const struct daemon *d, const char *path, mode_t mode)
{
  int fd, r, err;

  if (!owner_user (d))
    return 0;
  fd = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1)
    return -1;
  r = fchown (fd, -1, d->user.gid) == -1 ? -1 : fchmod (fd, mode);
  err = errno;
  close (fd);
  errno = err;
  return r;
}

int
owner_let_pass (const struct daemon *d, const char *path)
{
  return set_directory (d, path, 0710);
}

int
owner_let_list (const struct daemon *d, const char *path)
{
  return set_directory (d, path, 0750);
}

int
owner_let_read (const struct daemon *d, const char *path)
{
  int fd, r, err;

  if (!owner_user (d))
    return 0;
  fd = open (path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd == -1)
    return -1;
  r = fchown (fd, -1, d->user.gid) == -1 ? -1 : fchmod (fd, 0640);
  err = errno;
  close (fd);
  errno = err;
  return r;
}

/* A second name may be anybody's file. */
static int
give_file (int fd, uid_t uid, gid_t gid)
{
  struct stat st;

  if (fstat (fd, &st) == -1)
    return -1;
  if (!S_ISREG (st.st_mode) || st.st_nlink > 1) {
    errno = EPERM;
    return -1;
  }
  if (st.st_uid == uid && st.st_gid == gid)
    return 0;
  return fchown (fd, uid, gid) == -1 ? -1 : fchmod (fd, 0600);
}

int
owner_give_fd (const struct daemon *d, int fd)
{
  return owner_user (d) ? give_file (fd, d->user.uid, d->user.gid) : 0;
}

static int
give_path (const char *path, uid_t uid, gid_t gid)
{
  int fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  int r, err;

  if (fd == -1)
    return -1;
  r = give_file (fd, uid, gid);
  err = errno;
  close (fd);
  errno = err;
  return r;
}

int
owner_give (const struct daemon *d, const char *path)
{
  return owner_user (d) ? give_path (path, d->user.uid, d->user.gid) : 0;
}

/* In a directory that only we write to. */
int
owner_give_socket (const struct daemon *d, const char *path)
{
  return owner_user (d) ? lchown (path, d->user.uid, d->user.gid) : 0;
}

static bool
is_given (const char *name)
{
  static const char *const suffixes[] = { ".map", ".dirty", ".scratch" };
  static const char *const names[] = { ACTLOG_NAME, "restoring" };
  size_t length = strlen (name), n, i;

  for (i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
    n = strlen (suffixes[i]);
    if (length > n && strcmp (name + length - n, suffixes[i]) == 0)
      return true;
  }
  for (i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp (name, names[i]) == 0)
      return true;
  return false;
}

/* What is no file of ours (a link, somebody's joke) is left alone; the filter
 * does not follow it either.  Without a user, what had one is root's again; a
 * file system on which root cannot do that has none of these. */
static void
give_named (const struct export *ex, const char *path)
{
  if (!owner_user (ex->daemon))
    give_path (path, 0, getegid ());
  else if (owner_give (ex->daemon, path) == -1 && errno != ENOENT)
    log_warning (&ex->daemon->log, "%s: %s: %s", ex->name, path,
                 strerror (errno));
}

/* The filter can fill a log, but cannot make one where it may make no files. */
static int
make_log (const struct export *ex)
{
  char *path = xasprintf ("%s/" ACTLOG_NAME, ex->dir);
  int fd = -1, r = 0;

  if (ex->conf->tracking == CONFIG_TRACKING_DURABLE)
    fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
               0600);
  if (fd != -1) {
    r = owner_give_fd (ex->daemon, fd);
    close (fd);
  }
  free (path);
  return r;
}

int
owner_give_all (const struct export *ex)
{
  const struct snapshot *s;
  struct dirent *e;
  char *path;
  DIR *dir;

  if (geteuid () != 0)
    return 0;
  dir = opendir (ex->dir);
  if (!dir || owner_let_list (ex->daemon, ex->dir) == -1
      || (owner_user (ex->daemon) && make_log (ex) == -1)) {
    if (dir)
      closedir (dir);
    return -1;
  }
  while ((e = readdir (dir))) {
    if (!is_given (e->d_name))
      continue;
    path = xasprintf ("%s/%s", ex->dir, e->d_name);
    give_named (ex, path);
    free (path);
  }
  closedir (dir);
  TAILQ_FOREACH (s, &ex->snapshots, entry)
    give_named (ex, s->scratch_path);
  return 0;
}
