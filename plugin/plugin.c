/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* nbdkit-fleece-plugin: serves snapshots, read-only. */

/* Each connection opens its snapshot for itself (snapshot.c) and reads it
 * through the reader of common/, which takes no lock and needs none of us: the
 * guest's nbdkit, the daemon and other readers may come and go meanwhile.  So
 * there is no state here but the directory, and a limit on how much we say.
 *
 * A client that reads what it may not, or what could not be kept, could make
 * us log a line for each of its requests.  A few a second are enough to tell
 * what is wrong; the next one then says how many were left out.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "broken.h"
#include "guard.h"
#include "snapshot.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* The largest request that nbdkit takes, in bytes. */
#define REQUEST_MAX (64u << 20)

/* Answers of the reader that make up one answer about extents: each may take
 * two system calls, and the client asks again from where the answer ends. */
#define EXTENTS_PER_REQUEST 8192

enum { REPORTS_PER_SECOND = 10 };

/* All there is besides connections. */
static struct plugin {
  char *dir;                    /* set once, by config */
  int dirfd;                    /* set once, by get_ready */

  pthread_mutex_t lock;         /* protects: */
  time_t second;                /* in which we counted */
  unsigned reports;             /* in that second */
  unsigned left_out;            /* since the last report */
} fleece = { .dirfd = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

/* One connection. */
struct connection {
  struct snapshot snapshot;
  char description[FULL_NAME_SIZE + STATEDIR_INSTANT_SIZE + 32];
};

/* Whether one more report may be made now, and how many could not be since
 * the last. */
static bool
may_report (unsigned *left_out)
{
  struct timespec now;
  bool may;

  clock_gettime (CLOCK_MONOTONIC, &now);
  pthread_mutex_lock (&fleece.lock);
  if (now.tv_sec != fleece.second) {
    fleece.second = now.tv_sec;
    fleece.reports = 0;
  }
  may = fleece.reports < REPORTS_PER_SECOND;
  *left_out = fleece.left_out;
  if (may) {
    fleece.reports++;
    fleece.left_out = 0;
  }
  else
    fleece.left_out++;
  pthread_mutex_unlock (&fleece.lock);
  return may;
}

/* Tells the client, and the log unless it has been told enough. */
static void __attribute__ ((format (printf, 2, 3)))
report (int err, const char *fmt, ...)
{
  unsigned left_out;
  char text[1024];
  va_list ap;

  if (may_report (&left_out)) {
    va_start (ap, fmt);
    vsnprintf (text, sizeof text, fmt, ap);
    va_end (ap);
    if (left_out > 0)
      nbdkit_error ("%s (%u errors before that were not shown)",
                    text, left_out);
    else
      nbdkit_error ("%s", text);
  }
  nbdkit_set_error (err);
}

static int
fleece_config (const char *key, const char *value)
{
  if (strcmp (key, "dir") != 0) {
    nbdkit_error ("unknown parameter '%s'", key);
    return -1;
  }
  if (fleece.dir) {
    nbdkit_error ("dir was given twice");
    return -1;
  }
  fleece.dir = nbdkit_realpath (value);
  return fleece.dir ? 0 : -1;
}

static int
fleece_config_complete (void)
{
  if (!fleece.dir) {
    nbdkit_error ("dir=STATE is needed: "
                  "the state directory whose snapshots to serve");
    return -1;
  }
  return 0;
}

#define fleece_config_help \
  "dir=STATE     (required) the state directory: exports/EXPORT/SNAPSHOT.map"

static int
fleece_get_ready (void)
{
  fleece.dirfd = open (fleece.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fleece.dirfd == -1) {
    nbdkit_error ("%s: %m", fleece.dir);
    return -1;
  }
  guard_install ();
  return 0;
}

static void
fleece_unload (void)
{
  if (fleece.dirfd != -1)
    close (fleece.dirfd);
  free (fleece.dir);
}

static void
fleece_dump_plugin (void)
{
  printf ("fleece_map_version=%d\n", BMFILE_VERSION);
  printf ("fleece_built_nbdkit=%s\n", BUILT_NBDKIT_VERSION);
}

/* What tells two snapshots of one name apart. */
static void
describe (const char *name, const char *instant, char *text, size_t size)
{
  snprintf (text, size, "%s as of %s", name, instant);
}

static int
list_one (void *opaque, const struct bmfile *map)
{
  char name[FULL_NAME_SIZE], instant[STATEDIR_INSTANT_SIZE];
  char text[FULL_NAME_SIZE + STATEDIR_INSTANT_SIZE + 32];

  statedir_name (map, name);
  statedir_instant (map, instant);
  describe (name, instant, text, sizeof text);
  return nbdkit_add_export (opaque, name, text);
}

static int
fleece_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  (void) readonly;
  (void) is_tls;
  if (statedir_list (fleece.dirfd, list_one, exports) == 0)
    return 0;
  report (errno, "%s/exports: %s", fleece.dir, strerror (errno));
  return -1;
}

static void *
fleece_open (int readonly)
{
  const char *name = nbdkit_export_name ();
  struct connection *c = calloc (1, sizeof *c);
  char instant[STATEDIR_INSTANT_SIZE];
  struct why why;

  (void) readonly;
  if (!name || !c) {
    report (ENOMEM, "cannot open a snapshot: %s", strerror (ENOMEM));
    free (c);
    return NULL;
  }
  if (snapshot_open (fleece.dirfd, name, &c->snapshot, &why) == -1) {
    report (errno, "snapshot '%.*s': %s", FULL_NAME_SIZE, name, why.text);
    free (c);
    return NULL;
  }
  statedir_instant (&c->snapshot.map, instant);
  describe (c->snapshot.name, instant, c->description, sizeof c->description);
  return c;
}

static void
fleece_close (void *handle)
{
  struct connection *c = handle;

  if (BROKEN (KEEP_ENDED))
    return;
  snapshot_close (&c->snapshot);
  free (c);
}

static const char *
fleece_export_description (void *handle)
{
  struct connection *c = handle;

  return c->description;
}

static int64_t
fleece_get_size (void *handle)
{
  struct connection *c = handle;

  return c->snapshot.map.disk_size;
}

/* Any request will do; the least effort is whole clusters. */
static int
fleece_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                   uint32_t *maximum)
{
  struct connection *c = handle;

  *minimum = 1;
  *preferred = 1u << c->snapshot.map.cluster_bits;
  *maximum = REQUEST_MAX;
  return 0;
}

/* All connections see the same unchanging content. */
static int
fleece_can_multi_conn (void *handle)
{
  (void) handle;
  return 1;
}

static int
fleece_can_extents (void *handle)
{
  (void) handle;
  return 1;
}

/* Without a file to advise on, nbdkit's reading warms the live disk's end. */
static int
fleece_can_cache (void *handle)
{
  struct connection *c = handle;

  return c->snapshot.reader.live->fd != -1
    ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_EMULATE;
}

/* The first cluster of the range that is in the state. */
static uint64_t
find_state (const struct bmfile *map, uint64_t offset, uint32_t count,
            enum map_state state)
{
  struct cluster_range r = map_clusters (map, offset, count);
  struct map_run run;

  for (; r.first < r.end; r.first = run.end) {
    run = map_next_run (map, r.first, r.end);
    if (run.state == state)
      break;
  }
  return r.first;
}

/* Reports an error of the reader, as NBD knows it.  Returns -1. */
static int
read_failed (const struct connection *c, int err, uint64_t offset,
             uint32_t count)
{
  const struct snapshot *s = &c->snapshot;

  switch (err) {
  case EPERM:
    report (EPERM, "%s: cluster %" PRIu64 " was released, "
            "or was never part of the snapshot", s->name,
            find_state (&s->map, offset, count, MAP_RELEASED));
    break;
  case ENODATA:
    report (EIO, "%s: cluster %" PRIu64 " is lost: its old content could not "
            "be kept", s->name,
            find_state (&s->map, offset, count, MAP_LOST));
    break;
  case ESHUTDOWN:
    report (ESHUTDOWN, "%s: the snapshot has ended", s->name);
    break;
  default:
    report (EIO, "%s: reading %" PRIu32 " bytes at %" PRIu64
            " from the live disk or the scratch: %s",
            s->name, count, offset, strerror (err));
  }
  return -1;
}

static int
fleece_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  struct connection *c = handle;

  (void) flags;
  if (reader_pread (&c->snapshot.reader, buf, count, offset) == 0)
    return 0;
  return read_failed (c, errno, offset, count);
}

/* Clusters that cannot be read are no holes: whoever wants them shall ask and
 * get the error. */
static uint32_t
extent_flags (enum reader_extent type)
{
  return type == READER_HOLE ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
}

static int
fleece_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                struct nbdkit_extents *extents)
{
  struct connection *c = handle;
  uint64_t pos = offset, end = offset + count;
  uint32_t first = 0, now;
  enum reader_extent type;
  int i;

  for (i = 0; pos < end && i < EXTENTS_PER_REQUEST; i++) {
    int64_t n = reader_extent (&c->snapshot.reader, pos, end - pos, &type);

    if (n == -1)
      return read_failed (c, errno, pos, end - pos);
    now = extent_flags (type);
    if (i == 0)
      first = now;
    else if (now != first && (flags & NBDKIT_FLAG_REQ_ONE))
      break;
    if (nbdkit_add_extent (extents, pos, n, now) == -1)
      return -1;
    pos += n;
  }
  return 0;
}

/* Where a cluster is read from may change at any time, so both places are
 * told; the one that has nothing there has nothing to do. */
static int
fleece_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct connection *c = handle;
  const struct reader *r = &c->snapshot.reader;

  (void) flags;
  if (!map_is_active (r->map))
    return read_failed (c, ESHUTDOWN, offset, count);
  /* Advice: that it was not taken is no error. */
  (void) posix_fadvise (r->live->fd, offset, count, POSIX_FADV_WILLNEED);
  (void) posix_fadvise (r->scratch, offset, count, POSIX_FADV_WILLNEED);
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "fleece",
  .longname = "nbdfleece snapshots",
  .version = PACKAGE_VERSION,
  .description = "serves each snapshot of a state directory, read-only, "
                 "as EXPORT@SNAPSHOT",
  .unload = fleece_unload,
  .config = fleece_config,
  .config_complete = fleece_config_complete,
  .config_help = fleece_config_help,
  .magic_config_key = "dir",
  .dump_plugin = fleece_dump_plugin,
  .get_ready = fleece_get_ready,
  .list_exports = fleece_list_exports,
  .open = fleece_open,
  .close = fleece_close,
  .export_description = fleece_export_description,
  .get_size = fleece_get_size,
  .block_size = fleece_block_size,
  .can_multi_conn = fleece_can_multi_conn,
  .can_extents = fleece_can_extents,
  .extents = fleece_extents,
  .can_cache = fleece_can_cache,
  .cache = fleece_cache,
  .pread = fleece_pread,
};

NBDKIT_REGISTER_PLUGIN (plugin)
