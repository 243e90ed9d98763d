/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Source: a raw file or block device. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cached.h"
#include "live.h"
#include "source.h"

/* As in source_map.c. */
#define EXTENTS_AT_ONCE 2048

struct source_file {
  struct source base;
  struct pool *pool;
  struct live *file;
  struct cached cached;         /* the loop's thread's */
};

static void
file_connect (struct source *s, struct io *io)
{
  (void) s;
  loop_complete (io, 0);
}

static void
file_disconnect (struct source *s)
{
  (void) s;
}

static int
run_extents (struct io *io)
{
  struct source_file *s = io->end;
  struct extent_list *list = io->list;
  uint64_t end = list->raw_end + io->count;
  size_t i;

  if (end > list->disk_size)
    end = list->disk_size;
  for (i = 0; i < EXTENTS_AT_ONCE && list->raw_end < end; i++) {
    int is_hole;
    int64_t n = s->file->ops->extent (s->file, list->raw_end,
                                      end - list->raw_end, &is_hole);

    if (n == -1
        || extents_add (list, n, is_hole ? READER_HOLE : READER_DATA) == -1)
      return -1;
  }
  return 0;
}

static int
run_read (struct io *io)
{
  struct source_file *s = io->end;

  return s->file->ops->pread (s->file, io->buf, io->count, io->offset);
}

static void
submit (struct source *s, struct io *io, int (*run) (struct io *))
{
  io->end = s;
  io->run = run;
  pool_submit (((struct source_file *) s)->pool, io);
}

static void
file_extents (struct source *s, struct io *io)
{
  submit (s, io, run_extents);
}

static void
file_read (struct source *s, struct io *io)
{
  struct source_file *f = (struct source_file *) s;

  if (io->count <= CACHED_MAX
      && cached_read (&f->cached, &f->file->fd, 1, f->file->fd, io->buf,
                      io->count, io->offset) == 0)
    loop_complete (io, 0);
  else
    submit (s, io, run_read);
}

static void
file_free (struct source *s)
{
  struct source_file *f = (struct source_file *) s;

  if (f->file)
    f->file->ops->close (f->file);
  free (f);
}

static const struct source_ops file_ops = {
  .connect = file_connect,
  .disconnect = file_disconnect,
  .extents = file_extents,
  .read = file_read,
  .free = file_free,
};

struct source *
source_file_new (struct pool *pool, const char *path)
{
  struct source_file *s = calloc (1, sizeof *s);

  if (!s)
    return NULL;
  s->base.ops = &file_ops;
  s->base.name = path;
  s->base.min_block = 1;
  s->base.max_read = 32 * 1024 * 1024;
  s->base.extents_window = UINT64_C (1) << 40;
  s->base.can_extents = true;
  s->base.tells_lost = true;    /* nothing ever is */
  s->pool = pool;
  s->file = live_file_open (path);
  if (s->file)
    s->base.size = s->file->size;
  else
    message_set (&s->base.why, "%s: %s", path, errno == EINVAL
                 ? "neither a file nor a block device" : strerror (errno));
  return &s->base;
}
