/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Source: map, scratch and raw live disk, read directly. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cached.h"
#include "mapfile.h"
#include "source.h"

/* An answer of more extents than this is cut, so that a disk in shreds does
 * not keep the planner waiting. */
#define EXTENTS_AT_ONCE 2048

struct source_map {
  struct source base;
  struct pool *pool;
  struct reader reader;
  struct cached cached;         /* the loop's thread's */
};

static void
map_connect (struct source *s, struct io *io)
{
  (void) s;
  loop_complete (io, 0);
}

static void
map_disconnect (struct source *s)
{
  (void) s;
}

static int
run_extents (struct io *io)
{
  struct source_map *s = io->end;
  struct extent_list *list = io->list;
  uint64_t end = list->raw_end + io->count;
  size_t i;

  if (end > list->disk_size)
    end = list->disk_size;
  for (i = 0; i < EXTENTS_AT_ONCE && list->raw_end < end; i++) {
    enum reader_extent type;
    int64_t n = reader_extent (&s->reader, list->raw_end, end - list->raw_end,
                               &type);

    if (n == -1 || extents_add (list, n, type) == -1)
      return -1;
  }
  return 0;
}

static int
run_read (struct io *io)
{
  struct source_map *s = io->end;

  return reader_pread (&s->reader, io->buf, io->count, io->offset);
}

static void
map_extents (struct source *s, struct io *io)
{
  io->end = s;
  io->run = run_extents;
  pool_submit (((struct source_map *) s)->pool, io);
}

/* reader_move into a buffer, of what is in memory. */
static int
read_cached (void *opaque, int fd, uint64_t offset, uint64_t count)
{
  struct io *io = opaque;
  struct source_map *s = io->end;
  const int fds[] = { s->reader.live->fd, s->reader.scratch };

  return cached_read (&s->cached, fds, 2, fd,
                      (char *) io->buf + (offset - io->offset), count, offset);
}

/* A short read of what is in memory takes less time than to pass it to a
 * thread and back.  Whatever keeps it from succeeding is the thread's to find
 * out. */
static void
map_read (struct source *s, struct io *io)
{
  struct source_map *m = (struct source_map *) s;

  io->end = s;
  if (io->count <= CACHED_MAX && !m->cached.never
      && reader_copy (&m->reader, io->offset, io->count, read_cached, io) == 0) {
    loop_complete (io, 0);
    return;
  }
  io->run = run_read;
  pool_submit (((struct source_map *) s)->pool, io);
}

static void
map_free (struct source *s)
{
  struct source_map *m = (struct source_map *) s;

  if (m->reader.live)
    m->reader.live->ops->close (m->reader.live);
  free (m);
}

static const struct source_ops map_ops = {
  .connect = map_connect,
  .disconnect = map_disconnect,
  .extents = map_extents,
  .read = map_read,
  .free = map_free,
};

struct source *
source_map_new (struct pool *pool, const char *name, struct mapfile *m)
{
  struct source_map *s = calloc (1, sizeof *s);
  const char *path = bmfile_live_path (&m->map);

  if (!s)
    return NULL;
  s->base.ops = &map_ops;
  s->base.name = name;
  s->base.min_block = 1;
  s->base.max_read = 32 * 1024 * 1024;
  s->base.extents_window = UINT64_C (1) << 40;
  s->base.can_extents = true;
  s->base.tells_lost = true;
  s->base.size = m->map.disk_size;
  s->base.reader = &s->reader;
  s->pool = pool;
  s->reader = (struct reader) { .map = &m->map, .scratch = m->scratch };
  if (!path) {
    message_set (&s->base.why, "%s: its live disk is not a local raw file "
                 "(use the snapshot's NBD address instead)", name);
    return &s->base;
  }
  s->reader.live = live_file_open_map (&m->map);
  if (!s->reader.live)
    message_set (&s->base.why, "%s: live disk %s: %s", name, path,
                 errno == ESTALE ? "not the file that the snapshot is of"
                 : strerror (errno));
  else if (s->reader.live->size < m->map.disk_size)
    message_set (&s->base.why, "%s: live disk %s is smaller than the snapshot",
                 name, path);
  return &s->base;
}
