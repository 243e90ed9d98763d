/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The files of a snapshot or checkpoint that is to begin, and their end. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "durable.h"
#include "map.h"
#include "snapshot.h"

void
snapshot_free (struct snapshot *s)
{
  if (!s)
    return;
  durable_free (s->durable);
  if (s->scratch != -1)
    close (s->scratch);
  bmfile_close (&s->map);
  inflight_destroy (&s->inflight);
  free (s);
}

struct snapshot *
snapshot_new (void)
{
  struct snapshot *s = calloc (1, sizeof *s);

  if (!s)
    return NULL;
  s->scratch = -1;
  if (inflight_init (&s->inflight) == -1) {
    free (s);
    return NULL;
  }
  return s;
}

void
tracking_free (struct bmfile *tracking)
{
  if (!tracking)
    return;
  bmfile_close (tracking);
  free (tracking);
}

int
snapshot_make_durable (struct fleece *f, struct snapshot *s)
{
  s->durable = durable_new (f, &s->map, s->scratch);
  return s->durable ? 0 : -1;
}

/* A file that the daemon passed must be what it is to be used for. */
static int
check_new (const struct fleece *f, const struct bmfile *bf)
{
  if (atomic_load (&bf->live->state) != BMFILE_PREPARED
      || bf->disk_size != f->disk_size
      || strcmp (bf->fixed->export_name, f->options.export_name) != 0) {
    errno = EINVAL;
    return -1;
  }
  return 0;
}

int
snapshot_open (struct fleece *f, int map_fd, int scratch_fd,
          struct snapshot *s)
{
  const char *why;
  struct stat st;

  if (bmfile_open_fd (map_fd, true, BMFILE_MAP, &s->map, &why) == -1) {
    nbdkit_error ("begin: map: %s", why);
    return -1;
  }
  if (check_new (f, &s->map) == -1)
    return -1;
  if (snapshots_find (f, s->map.fixed->uuid)) {
    errno = EEXIST;
    return -1;
  }
  if (fstat (scratch_fd, &st) == -1)
    return -1;
  if (!S_ISREG (st.st_mode) || (uint64_t) st.st_size != f->disk_size
      || (fcntl (scratch_fd, F_GETFL) & O_ACCMODE) != O_RDWR) {
    errno = EINVAL;
    return -1;
  }
  s->scratch = fcntl (scratch_fd, F_DUPFD_CLOEXEC, 0);
  if (s->scratch == -1 || bmfile_record_files (&s->map, s->scratch) == -1)
    return -1;
  return map_is_durable (&s->map) ? snapshot_make_durable (f, s) : 0;
}

struct bmfile *
tracking_open (const struct fleece *f, int fd)
{
  struct bmfile *tracking = calloc (1, sizeof *tracking);
  const char *why;
  int err;

  if (!tracking)
    return NULL;
  if (bmfile_open_fd (fd, true, BMFILE_DIRTY, tracking, &why) == 0) {
    if (check_new (f, tracking) == 0
        && bmfile_record_files (tracking, -1) == 0)
      return tracking;
  }
  else
    nbdkit_error ("begin: tracking bitmap: %s", why);
  err = errno;
  tracking_free (tracking);
  errno = err;
  return NULL;
}
