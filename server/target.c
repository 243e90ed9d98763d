/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Refusing targets that a backup must not be written to. */

/* A target is one of
 *
 *   nbd://HOST[:PORT]/NAME, nbd+unix:///NAME?socket=PATH, nbds...
 *   /PATH            raw file or block device
 *   qcow2:/PATH
 *
 * What is seen here, before anything is made: text that is none of these, a
 * directory, a directory that is missing, a file of our own, the live disk of
 * an export (by whatever name or link), our own sockets, and the target of
 * another job.  Whether it is large enough, can be reached and written is for
 * the copier to find out, which opens it.
 */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "export.h"
#include "job.h"

#define QCOW2 "qcow2:"

static bool
is_uri (const char *target)
{
  static const char *const schemes[] = {
    "nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "nbd+vsock://",
    "nbds+vsock://",
  };
  size_t i;

  for (i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
    if (strncasecmp (target, schemes[i], strlen (schemes[i])) == 0)
      return true;
  return false;
}

/* The path in a target that has one, or NULL. */
static const char *
target_path (const char *target)
{
  const char *path = target;

  if (strncmp (path, QCOW2, strlen (QCOW2)) == 0)
    path += strlen (QCOW2);
  return path[0] == '/' ? path : NULL;
}

static int
hex (int c)
{
  return isdigit (c) ? c - '0' : tolower (c) - 'a' + 10;
}

static void
unescape (char *text)
{
  char *to = text;

  for (; *text; to++) {
    if (text[0] == '%' && isxdigit ((unsigned char) text[1])
        && isxdigit ((unsigned char) text[2])) {
      *to = hex (text[1]) * 16 + hex (text[2]);
      text += 3;
    }
    else
      *to = *text++;
  }
  *to = '\0';
}

/* Splits an NBD URI into the path of its unix socket (NULL: none) and the
 * name of the export, both unescaped and the caller's to free. */
static void
split_uri (const char *uri, char **socket, char **name)
{
  const char *path = strstr (uri, "://") + 3, *query;

  path += strcspn (path, "/?");
  path += *path == '/';
  *name = strndup (path, strcspn (path, "?#"));
  *socket = NULL;
  for (query = strchr (path, '?'); query && !*socket;
       query = strchr (query + 1, '&'))
    if (strncmp (query + 1, "socket=", 7) == 0)
      *socket = strndup (query + 8, strcspn (query + 8, "&#"));
  if (*name)
    unescape (*name);
  if (*socket)
    unescape (*socket);
}

static int
refuse (struct failure *failure, const char *target, const char *why)
{
  failure_set (failure, "bad-target", "%s: %s", target, why);
  return -1;
}

/* ------------------------------------------------------------------- paths */

/* True if path lies in the directory, links resolved. */
static bool
is_inside (const char *path, const char *dir)
{
  char real_dir[PATH_MAX], real[PATH_MAX], *copy = xstrdup (path);
  bool inside = false;
  size_t n;

  /* The file itself may not exist yet. */
  if (realpath (dir, real_dir)
      && (realpath (path, real) || realpath (dirname (copy), real))) {
    n = strlen (real_dir);
    inside = strncmp (real, real_dir, n) == 0
      && (real[n] == '/' || real[n] == '\0');
  }
  free (copy);
  return inside;
}

static int
check_exists (const char *target, const char *path, struct failure *failure)
{
  char *copy = xstrdup (path);
  struct stat st;
  int r = 0;

  if (stat (path, &st) == 0) {
    if (S_ISDIR (st.st_mode))
      r = refuse (failure, target, "is a directory");
    else if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
      r = refuse (failure, target,
                  "is neither a regular file nor a block device");
  }
  else if (errno != ENOENT)
    r = refuse (failure, target, strerror (errno));
  else if (stat (dirname (copy), &st) == -1)
    r = refuse (failure, target, "its directory does not exist");
  free (copy);
  return r;
}

static int
check_path (const struct daemon *d, const char *target, const char *path,
            struct failure *failure)
{
  struct disk_identity id = disk_identify (path), other;
  const struct export *ex;

  if (check_exists (target, path, failure) == -1)
    return -1;
  TAILQ_FOREACH (ex, &d->exports, entry) {
    if (!ex->conf)
      continue;
    other = disk_identify (disk_path (&ex->conf->disk));
    if (same_disk (&id, &other)) {
      failure_set (failure, "bad-target", "%s: is the live disk of export %s",
                   target, ex->name);
      return -1;
    }
    if (strcmp (ex->scratch_dir, ex->dir) != 0 && id.known
        && is_inside (path, ex->scratch_dir) && strstr (path, ".scratch"))
      return refuse (failure, target, "is a scratch");
  }
  if (is_inside (path, d->config->state_dir)
      || is_inside (path, d->config->run_dir))
    return refuse (failure, target, "is in a directory of our own");
  return 0;
}

/* -------------------------------------------------------------------- URIs */

/* True if both URIs mean the same export of the same server, as far as that
 * can be told from here. */
static bool
same_uri (const char *a, const char *b)
{
  char *socket_a, *name_a, *socket_b, *name_b;
  struct disk_identity id_a, id_b;
  bool same;

  if (strcmp (a, b) == 0)
    return true;
  split_uri (a, &socket_a, &name_a);
  split_uri (b, &socket_b, &name_b);
  id_a = disk_identify (socket_a);
  id_b = disk_identify (socket_b);
  same = same_disk (&id_a, &id_b) && name_a && name_b
    && strcmp (name_a, name_b) == 0;
  free (socket_a);
  free (name_a);
  free (socket_b);
  free (name_b);
  return same;
}

static int
check_uri (const struct daemon *d, const char *target, struct failure *failure)
{
  const struct export *ex;
  char *socket, *name;
  int r = 0;

  split_uri (target, &socket, &name);
  if (socket && is_inside (socket, d->config->run_dir))
    r = refuse (failure, target, "is a socket of our own");
  TAILQ_FOREACH (ex, &d->exports, entry) {
    if (r == -1 || !ex->conf || ex->conf->disk.kind != CONFIG_DISK_NBD
        || !same_uri (target, ex->conf->disk.where))
      continue;
    failure_set (failure, "bad-target", "%s: is the live disk of export %s",
                 target, ex->name);
    r = -1;
  }
  free (socket);
  free (name);
  return r;
}

/* ------------------------------------------------------------------- both */

static bool
same_target (const char *a, const char *b)
{
  struct disk_identity id_a, id_b;

  if (is_uri (a) && is_uri (b))
    return same_uri (a, b);
  if (is_uri (a) || is_uri (b))
    return false;
  id_a = disk_identify (target_path (a));
  id_b = disk_identify (target_path (b));
  return strcmp (target_path (a), target_path (b)) == 0
    || same_disk (&id_a, &id_b);
}

/* The image of a restore, or the backing file of a backup, is that target. */
static bool
is_read_by (const struct job *job, const char *target)
{
  const char *image = job->kind == JOB_RESTORE ? job->source : job->backing;

  if (!image)
    return false;
  if (strncmp (image, "raw:", 4) == 0)
    image += 4;
  return same_target (image, target);
}

int
target_check_readable (const char *target, struct failure *failure)
{
  static const char *const prefixes[] = { "raw:", "qcow2:" };
  const char *path = target;
  struct stat st;
  size_t i;

  if (is_uri (target))
    return 0;
  for (i = 0; i < sizeof prefixes / sizeof prefixes[0] && path == target; i++)
    if (strncmp (target, prefixes[i], strlen (prefixes[i])) == 0)
      path += strlen (prefixes[i]);
  if (path[0] != '/' || strlen (path) >= PATH_MAX)
    return refuse (failure, target, "expected an NBD URI, an absolute path, or "
                   "raw: or qcow2: and an absolute path");
  if (stat (path, &st) == -1)
    return refuse (failure, target, strerror (errno));
  if (S_ISREG (st.st_mode) || S_ISBLK (st.st_mode))
    return 0;
  return refuse (failure, target, S_ISDIR (st.st_mode) ? "is a directory"
                 : "is neither a regular file nor a block device");
}

int
target_check (const struct jobs *jobs, const char *target,
              struct failure *failure)
{
  const struct daemon *d = jobs->daemon;
  const struct job *job;
  int r;

  if (is_uri (target))
    r = check_uri (d, target, failure);
  else if (target_path (target) && strlen (target) < PATH_MAX)
    r = check_path (d, target, target_path (target), failure);
  else
    r = refuse (failure, target, "expected an NBD URI, an absolute path, or "
                "qcow2: and an absolute path");
  if (r == -1)
    return -1;
  TAILQ_FOREACH (job, &jobs->list, entry)
    if (!job_has_ended (job) && job->kind != JOB_VERIFY
        && (job->kind != JOB_RESTORE || !job->export_name)
        && same_target (job->target, target)) {
      failure_set (failure, "in-use", "%s: job %s writes to it", target,
                   job->id);
      return -1;
    }
    else if (!job_has_ended (job) && is_read_by (job, target)) {
      failure_set (failure, "in-use", "%s: job %s reads it", target, job->id);
      return -1;
    }
  return 0;
}
