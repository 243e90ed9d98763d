/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Written under another name, synced, renamed. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

#include "broken.h"
#include "replace.h"

int
sync_directory (const char *path)
{
  char copy[PATH_MAX];
  int fd, r;

  if (strlen (path) >= sizeof copy) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (copy, path);
  fd = open (dirname (copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1)
    return -1;
  r = fsync (fd);
  close (fd);
  return r;
}

int
replace_begin (struct replace *r, const char *path)
{
  int fd, err;

  r->f = NULL;
  if (snprintf (r->path, sizeof r->path, "%s", path) >= (int) sizeof r->path
      || snprintf (r->tmp, sizeof r->tmp, "%s.new", path)
      >= (int) sizeof r->tmp) {
    errno = ENAMETOOLONG;
    return -1;
  }
  fd = open (r->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
             0600);
  if (fd == -1)
    return -1;
  r->f = fdopen (fd, "w");
  if (!r->f) {
    err = errno;
    close (fd);
    unlink (r->tmp);
    errno = err;
    return -1;
  }
  return 0;
}

void
replace_abort (struct replace *r)
{
  int err = errno;

  fclose (r->f);
  r->f = NULL;
  unlink (r->tmp);
  errno = err;
}

int
replace_end (struct replace *r)
{
  FILE *f = r->f;

  FAILPOINT ("P1");
  if (fflush (f) == EOF || ferror (f) || fsync (fileno (f)) == -1
      || rename (r->tmp, r->path) == -1) {
    replace_abort (r);
    return -1;
  }
  FAILPOINT ("P1+");
  fclose (f);
  r->f = NULL;
  return sync_directory (r->path);
}

int
replace_file (const char *path, const char *text)
{
  struct replace r;

  if (replace_begin (&r, path) == -1)
    return -1;
  fputs (text, r.f);
  return replace_end (&r);
}
