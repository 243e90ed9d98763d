/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Making, finding and replaying activity logs. */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actlog.h"
#include "dirty.h"

#define REGION_SIZE (UINT64_C (4) << 20)
#define REGIONS_MAX (UINT64_C (16) << 20)

uint64_t
actlog_region_size (uint64_t disk_size)
{
  uint64_t size = REGION_SIZE;

  while (disk_size / size > REGIONS_MAX)
    size *= 2;
  return size;
}

static char *
path_of (const char *dir, const char *suffix)
{
  char *path;

  if (asprintf (&path, "%s/" ACTLOG_NAME "%s", dir, suffix) != -1)
    return path;
  errno = ENOMEM;
  return NULL;
}

/* Made for a filter that may make no files: none yet. */
static bool
is_empty (const char *path)
{
  struct stat st;

  if (lstat (path, &st) == -1 || !S_ISREG (st.st_mode) || st.st_size > 0)
    return false;
  errno = ENOENT;
  return true;
}

int
actlog_open (const char *dir, struct bmfile *log, const char **why)
{
  char *path = path_of (dir, "");
  int r, err;

  memset (log, 0, sizeof *log);
  *why = "no memory";
  if (!path)
    return -1;
  r = is_empty (path) ? -1 : bmfile_open (path, true, BMFILE_LOG, log, why);
  err = errno;
  free (path);
  errno = err;
  return r;
}

int
actlog_create (const char *dir, const char *export_name, uint64_t disk_size,
               struct bmfile *log)
{
  struct bmfile_params params = {
    .kind = BMFILE_LOG, .disk_size = disk_size,
    .cluster_size = actlog_region_size (disk_size),
    .export_name = export_name, .name = ACTLOG_NAME, .durable = true,
  };
  char *path = path_of (dir, ""), *new = path_of (dir, ".new");
  int r = -1, err;

  memset (log, 0, sizeof *log);
  if (path && new && (unlink (new) == 0 || errno == ENOENT)
      && bmfile_create (new, &params, log) == 0) {
    r = rename (new, path) == 0 ? bmfile_sync_directory (path) : -1;
    if (r == -1)
      bmfile_close (log);
  }
  else if (path && errno == EACCES)
    r = bmfile_create_in (path, &params, log);
  err = errno;
  free (path);
  free (new);
  errno = err;
  return r;
}

bool
actlog_is_bound (const struct bmfile *tracking, const struct bmfile *log)
{
  return log->fixed && tracking->disk_size == log->disk_size
    && memcmp (tracking->live->log, log->fixed->uuid,
               sizeof tracking->live->log) == 0;
}

void
actlog_bind (struct bmfile *tracking, const struct bmfile *log)
{
  if (log)
    memcpy (tracking->live->log, log->fixed->uuid,
            sizeof tracking->live->log);
  else
    memset (tracking->live->log, 0, sizeof tracking->live->log);
}

void
actlog_replay (struct bmfile *tracking, const struct bmfile *log)
{
  dirty_add (tracking->bits[0], tracking->cluster_bits, log);
}
