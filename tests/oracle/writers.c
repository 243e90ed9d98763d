/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The writers: a guest that does everything NBD allows, all at once. */

/* Requests are of random kind, length and alignment, several in flight on
 * each connection, and many go to a place that all writers like at the time,
 * so that they overlap there.  When the export is killed, what was in flight
 * stays without an end in the model; the writer connects again when the
 * export is back.
 */

#include <config.h>

#include <inttypes.h>

#include "oracle.h"

#define DEPTH_MAX 64

struct flight {
  int64_t cookie;
  struct op *op;                /* NULL: a flush */
  uint8_t *buf;
};

struct pen {                    /* one writer at work */
  struct oracle *o;
  struct rng rng;
  struct nbd_handle *nbd;       /* NULL: not connected */
  unsigned generation;          /* of the export when it was */
  struct flight flights[DEPTH_MAX];
  unsigned nr_flights;
  bool trim, zero, fast_zero, fua, flush;
};

static void
pen_connect (struct pen *p)
{
  struct server *s = &p->o->export;

  p->generation = atomic_load (&s->generation);
  p->nbd = server_connect (s, EXPORT);
  if (!p->nbd) {
    if (!server_went (s, p->generation))
      die ("a writer cannot connect: %s", nbd_get_error ());
    return;
  }
  p->trim = nbd_can_trim (p->nbd) == 1;
  p->zero = nbd_can_zero (p->nbd) == 1;
  p->fast_zero = nbd_can_fast_zero (p->nbd) == 1;
  p->fua = nbd_can_fua (p->nbd) == 1;
  p->flush = nbd_can_flush (p->nbd) == 1;
}

/* Where all writers like to go: another place now and then. */
static uint64_t
liked_place (struct pen *p)
{
  uint64_t era = atomic_load (&p->o->model->clock) >> 9;
  struct rng r = { p->o->seed + era };

  return rng_below (&r, p->o->opt.size);
}

static void
pick_range (struct pen *p, uint64_t *offset, uint64_t *count)
{
  static const uint64_t steps[] = { 1, 1, 1, 512, 512, 4096, 65536 };
  uint64_t size = p->o->opt.size, n = log_uniform (&p->rng,
                                                   p->o->opt.max_request);
  uint64_t step = steps[rng_below (&p->rng, sizeof steps / sizeof steps[0])];
  uint64_t at = rng_below (&p->rng, size);

  /* Most of the long ones are made short: they cost more than they find. */
  if (n > 65536 && chance (&p->rng, 80))
    n = 1 + rng_below (&p->rng, 16384);
  if (chance (&p->rng, 40))
    at = (liked_place (p) + rng_below (&p->rng, 65536)) % size;
  at -= at % step;
  n += step - 1;
  n -= n % step;
  if (chance (&p->rng, 1) && p->o->opt.max_request >= size)
    at = 0, n = size;
  *offset = at;
  *count = n < size - at ? n : size - at;
}

static enum op_kind
pick_kind (struct pen *p)
{
  unsigned n = rng_below (&p->rng, 100);

  if (n < 55)
    return OP_PATTERN;
  if (n < 65)
    return OP_SPARSE;
  if (n < 70)
    return OP_ZEROES;
  if (n < 85)
    return p->zero ? OP_ZERO : OP_ZEROES;
  return p->trim ? OP_TRIM : OP_PATTERN;
}

static uint32_t
pick_flags (struct pen *p, enum op_kind kind)
{
  uint32_t flags = 0;

  if (p->fua && chance (&p->rng, 3))
    flags |= LIBNBD_CMD_FLAG_FUA;
  if (kind == OP_ZERO && chance (&p->rng, 40))
    flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  if (kind == OP_ZERO && p->fast_zero && chance (&p->rng, 30))
    flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
  return flags;
}

static int64_t
send_op (struct pen *p, const struct op *op, uint32_t flags, const void *buf)
{
  switch (op->kind) {
  case OP_ZERO:
    return nbd_aio_zero (p->nbd, op->count, op->offset, NBD_NULL_COMPLETION,
                         flags);
  case OP_TRIM:
    return nbd_aio_trim (p->nbd, op->count, op->offset, NBD_NULL_COMPLETION,
                         flags);
  default:
    return nbd_aio_pwrite (p->nbd, buf, op->count, op->offset,
                           NBD_NULL_COMPLETION, flags);
  }
}

/* Returns false if the connection turns out to be dead. */
static bool
submit (struct pen *p)
{
  struct flight *f = &p->flights[p->nr_flights];
  enum op_kind kind = pick_kind (p);
  uint32_t flags = pick_flags (p, kind);
  uint64_t offset, count;

  *f = (struct flight) { .cookie = -1 };
  if (p->flush && chance (&p->rng, 1))
    f->cookie = nbd_aio_flush (p->nbd, NBD_NULL_COMPLETION, 0);
  else {
    pick_range (p, &offset, &count);
    f->op = model_start (p->o->model, kind, offset, count);
    if (kind != OP_ZERO && kind != OP_TRIM) {
      f->buf = xmalloc (count);
      op_fill (p->o->model, f->op, offset, count, f->buf);
    }
    f->cookie = send_op (p, f->op, flags, f->buf);
  }
  if (f->cookie == -1) {
    free (f->buf);
    return false;
  }
  p->nr_flights++;
  return true;
}

/* A failed request: is it one that may fail, and then without effect? */
static void
excuse (struct pen *p, const struct op *op, int err)
{
  struct oracle *o = p->o;

  atomic_fetch_add (&o->tally.failed, 1);
  if (op && op->kind == OP_ZERO && (err == ENOTSUP || err == EOPNOTSUPP))
    return;
  if (op && strcmp (o->opt.on_cow_error, "break-guest-write") == 0
      && (o->opt.scratch_limit || o->opt.cow_timeout))
    return;
  die ("a writer's %s failed: %s", op ? "request" : "flush",
       nbd_get_error ());
}

/* While the gate is held, nothing that began after that may end. */
static void
check_frozen (struct pen *p, const struct op *op)
{
  uint64_t since = atomic_load (&p->o->frozen_since);

  if (since && op->start > since)
    die ("request %" PRIu64 " began at %" PRIu64 " and ended while the gate"
         " was held since %" PRIu64, op->id, op->start, since);
}

static void
retire (struct pen *p, unsigned i)
{
  struct flight f = p->flights[i];
  int r = nbd_aio_command_completed (p->nbd, f.cookie);
  int err = r == -1 ? nbd_get_errno () : 0;

  if (r == -1 && (nbd_aio_is_dead (p->nbd) || nbd_aio_is_closed (p->nbd)))
    return;                     /* nobody knows; see lose_all */
  if (err == ESHUTDOWN && server_went (&p->o->export, p->generation))
    f.op = NULL;                /* nobody knows */
  else if (r == -1)
    excuse (p, f.op, err);
  if (f.op) {
    check_frozen (p, f.op);
    model_end (p->o->model, f.op, r == 1);
    atomic_fetch_add (&p->o->tally.requests, 1);
    atomic_fetch_add (&p->o->tally.written, f.op->count);
  }
  free (f.buf);
  p->flights[i] = p->flights[--p->nr_flights];
}

static void
retire_completed (struct pen *p)
{
  int64_t cookie;
  unsigned i;

  while ((cookie = nbd_aio_peek_command_completed (p->nbd)) > 0) {
    unsigned before = p->nr_flights;

    for (i = 0; i < p->nr_flights && p->flights[i].cookie != cookie; i++)
      ;
    if (i == p->nr_flights)
      die ("a reply to nothing");
    retire (p, i);
    if (p->nr_flights == before)
      return;
  }
}

static void
lose_all (struct pen *p)
{
  unsigned i;

  if (!server_went (&p->o->export, p->generation))
    die ("the export cut off a writer: %s", nbd_get_error ());
  for (i = 0; i < p->nr_flights; i++)
    free (p->flights[i].buf);
  p->nr_flights = 0;
  nbd_close (p->nbd);
  p->nbd = NULL;
}

static void
step (struct pen *p)
{
  struct oracle *o = p->o;
  bool wants = !atomic_load (&o->turn.paused) && !atomic_load (&o->stop);

  if (p->nr_flights == 0 && !wants) {
    turn_idle (o, false);
    return;
  }
  if (!p->nbd) {
    turn_idle (o, true);
    pen_connect (p);
    return;
  }
  while (wants && p->nr_flights < o->opt.depth && p->nr_flights < DEPTH_MAX)
    if (!submit (p)) {
      lose_all (p);
      return;
    }
  if (nbd_poll (p->nbd, -1) == -1) {
    retire_completed (p);
    lose_all (p);
    return;
  }
  retire_completed (p);
}

void *
writer_run (void *arg)
{
  struct writer *w = arg;
  struct pen p = { .o = w->o, .rng = { w->o->seed * 31 + w->nr } };

  while (!atomic_load (&w->o->stop) || p.nr_flights > 0)
    step (&p);
  if (p.nbd)
    nbd_close (p.nbd);
  return NULL;
}
