/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Target: nothing is written, but compared with what is there. */

/* A job that compares is a copy with this target.  What the source has as data
 * comes as a write: the same range is read from the other side, and compared.
 * What the source has as a hole comes as a zero: there the other side is asked
 * for its extents, so holes of both cost nothing, and only its data is read.
 *
 * There is nothing to flush.  What was compared on a connection that is lost
 * is compared again (the job knows no better), which counts nothing twice.
 *
 * Blocks of the other side may be longer than the disk's last one: what is
 * past the disk's end is read and not looked at. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"

#define READ_MAX (256 * 1024)   /* bytes, where zeroes are expected */
#define RANGE_BITS 12           /* extents in clusters of the smallest size */

struct target_compare {
  struct target base;
  struct loop *loop;
  struct source *other;
  const struct target_params *params;
  struct comparison *comparison;
  struct io *connecting;        /* whom to tell */
  struct op *unused;
};

/* One write or zero on its way. */
struct op {
  struct target_compare *t;
  struct io *outer;             /* its range and its end */
  bool zeroes;                  /* are expected, not outer->buf */
  uint64_t pos, count;          /* what is being read */
  struct extent_list extents;   /* zeroes: of the other side */
  char *buf;
  size_t size;                  /* of buf, bytes */
  struct op *next;
};

static void go_on (struct op *op);

/* ------------------------------------------------------------ connections */

static int
judge (struct target_compare *t)
{
  uint64_t size = t->other->size, disk = t->params->size;

  if (size == disk || (size > disk && !t->params->exact))
    return 0;
  t->base.final = true;
  message_set (&t->base.why, "%s: it has another size: %llu bytes, not %llu",
               t->base.name, (unsigned long long) size,
               (unsigned long long) disk);
  return EINVAL;
}

static void
connected (struct io *io)
{
  struct target_compare *t = io->owner;
  struct source *s = t->other;
  struct io *waiting = t->connecting;
  int error = io->error;

  loop_io_free (io);
  t->connecting = NULL;
  if (error) {
    t->base.why = s->why;
    t->base.final = s->final;
  }
  else
    error = judge (t);
  t->base.size = s->size;
  t->base.min_block = s->min_block;
  t->base.max_write = s->max_read;
  t->base.max_zero = 1024 * 1024 * 1024;
  t->base.zero_run = UINT32_MAX; /* what is read is compared in one go */
  t->base.can_zero = true;
  loop_complete (waiting, error);
}

static void
compare_connect (struct target *base, struct io *io)
{
  struct target_compare *t = (struct target_compare *) base;
  struct io *inner = loop_io (t->loop, connected, t);

  if (!inner) {
    loop_complete (io, ENOMEM);
    return;
  }
  t->connecting = io;
  t->other->ops->connect (t->other, inner);
}

static void
compare_disconnect (struct target *base)
{
  struct target_compare *t = (struct target_compare *) base;

  t->other->ops->disconnect (t->other);
  t->base.why = t->other->why;
}

/* -------------------------------------------------------------- comparing */

static struct op *
new_op (struct target_compare *t, struct io *outer, bool zeroes)
{
  struct op *op = t->unused;

  if (op)
    t->unused = op->next;
  else {
    op = calloc (1, sizeof *op);
    if (!op)
      return NULL;
  }
  op->t = t;
  op->outer = outer;
  op->zeroes = zeroes;
  op->pos = outer->offset;
  op->extents.disk_size = t->params->size;
  op->extents.cluster_bits = RANGE_BITS;
  extents_start (&op->extents, outer->offset >> RANGE_BITS);
  return op;
}

static void
op_end (struct op *op, int error)
{
  struct target_compare *t = op->t;

  loop_complete (op->outer, error);
  op->next = t->unused;
  t->unused = op;
}

/* Where the range ends that is looked at. */
static uint64_t
op_limit (const struct op *op)
{
  uint64_t end = op->outer->offset + op->outer->count;
  uint64_t disk = op->t->params->size;

  return end < disk ? end : disk;
}

static void
was_read (struct io *io)
{
  struct op *op = io->owner;
  uint64_t end = op->pos + op->count, limit = op_limit (op);
  const char *expected = op->zeroes ? NULL
    : (char *) op->outer->buf + (op->pos - op->outer->offset);
  int error = io->error;

  loop_io_free (io);
  if (end > limit)
    end = limit;
  if (!error && comparison_look (op->t->comparison, expected, op->buf, op->pos,
                                 end - op->pos) == -1)
    error = ENOMEM;
  op->pos = end;
  if (error || end == limit)
    op_end (op, error);
  else
    go_on (op);
}

static void
read_other (struct op *op, uint64_t count)
{
  struct target_compare *t = op->t;
  uint64_t block = t->other->min_block;
  struct io *io = NULL;

  op->count = (count + block - 1) / block * block;
  if (op->size < op->count) {
    free (op->buf);
    op->buf = malloc (op->count);
    op->size = op->buf ? op->count : 0;
  }
  if (op->buf)
    io = loop_io (t->loop, was_read, op);
  if (!io) {
    op_end (op, ENOMEM);
    return;
  }
  io->buf = op->buf;
  io->offset = op->pos;
  io->count = op->count;
  t->other->ops->read (t->other, io);
}

static void
told (struct io *io)
{
  struct op *op = io->owner;
  int error = io->error;
  bool progress = op->extents.raw_end > io->offset;

  loop_io_free (io);
  if (error == ENOTCONN || error == ESHUTDOWN)
    op_end (op, error);
  else {
    if (error || !progress)
      op->t->other->can_extents = false;
    go_on (op);
  }
}

static void
ask (struct op *op)
{
  struct target_compare *t = op->t;
  struct io *io = loop_io (t->loop, told, op);
  uint64_t left = op_limit (op) - op->extents.raw_end;

  if (!io) {
    op_end (op, ENOMEM);
    return;
  }
  io->list = &op->extents;
  io->offset = op->extents.raw_end;
  io->count = left < t->other->extents_window ? left
    : t->other->extents_window;
  t->other->ops->extents (t->other, io);
}

/* Goes to the next range that has to be read, of a range of zeroes. */
static void
go_on (struct op *op)
{
  const struct extent_list *l = &op->extents;
  uint64_t limit = op_limit (op), end, cluster = 0;
  enum reader_extent type = READER_DATA;

  while (op->pos < limit && op->t->other->can_extents) {
    if (op->pos >> RANGE_BITS >= l->end) {
      ask (op);
      return;
    }
    type = extents_find (l, op->pos >> RANGE_BITS, &cluster);
    end = cluster << RANGE_BITS < limit ? cluster << RANGE_BITS : limit;
    if (type != READER_HOLE) {
      read_other (op, end - op->pos < READ_MAX ? end - op->pos : READ_MAX);
      return;
    }
    op->pos = end;
  }
  if (op->pos == limit)
    op_end (op, 0);
  else
    read_other (op, limit - op->pos < READ_MAX ? limit - op->pos : READ_MAX);
}

static void
compare_write (struct target *base, struct io *io)
{
  struct op *op = new_op ((struct target_compare *) base, io, false);

  if (op)
    read_other (op, io->count);
  else
    loop_complete (io, ENOMEM);
}

static void
compare_zero (struct target *base, struct io *io)
{
  struct op *op = new_op ((struct target_compare *) base, io, true);

  if (op)
    go_on (op);
  else
    loop_complete (io, ENOMEM);
}

static void
nothing (struct target *base, struct io *io)
{
  (void) base;
  loop_complete (io, 0);
}

static void
compare_finish (struct target *base, struct io *io)
{
  compare_disconnect (base);
  loop_complete (io, 0);
}

static void
compare_free (struct target *base)
{
  struct target_compare *t = (struct target_compare *) base;
  struct op *op;

  t->other->ops->free (t->other);
  while ((op = t->unused) != NULL) {
    t->unused = op->next;
    extents_free (&op->extents);
    free (op->buf);
    free (op);
  }
  free (t);
}

static const struct target_ops compare_ops = {
  .connect = compare_connect,
  .disconnect = compare_disconnect,
  .write = compare_write,
  .zero = compare_zero,
  .flush = nothing,
  .finish = compare_finish,
  .free = compare_free,
};

struct target *
target_compare_new (struct loop *l, struct source *other,
                    const struct target_params *params, struct comparison *c)
{
  struct target_compare *t = calloc (1, sizeof *t);

  if (!t)
    return NULL;
  t->base.ops = &compare_ops;
  t->base.name = other->name;
  t->base.why = other->why;
  t->base.flush_kind = "none";
  t->base.offload = OFFLOAD_NONE;
  t->loop = l;
  t->other = other;
  t->params = params;
  t->comparison = c;
  return &t->base;
}
