/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Leaving out what only layers below the disk's top one have. */

/* A disk that is an image on top of another one tells by the meta context
 * qemu:allocation-depth which layer a piece comes from: 1 is the top, 0 none.
 * The question goes to the live disk, so the answer is about now and not about
 * the instant.  It is good for a cluster that is still LIVE after the answer:
 * then no guest has written to it, and what was not in the top layer now was
 * not then (a neighbour's write may have put more into it, which is copied
 * for nothing).  A cluster that is not LIVE any more is copied: the content is
 * right in any case.
 *
 * Asking again when a copy is gone on with gives the same or less to leave
 * out, so nothing has to be remembered.
 *
 * libnbd's calls that wait are made on a thread, while the loop looks after
 * orders.
 */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include <libnbd.h>

#include "copier.h"

#define CONTEXT "qemu:allocation-depth"
#define WINDOW (UINT64_C (1) << 30) /* bytes to ask about at once */

struct top {
  struct copier *c;
  struct nbd_handle *nbd;
  uint64_t offset;              /* how far the answers go */
  bool answered;                /* by the last question */
  bool tells;                   /* the server knows depths */
  uint64_t left_out;            /* bytes */
  _Atomic bool stop;            /* the loop's thread does not wait any more */
  struct message why;
};

/* The answer says that none of [first, end) is in the top layer. */
static void
leave_out (struct top *t, uint64_t first, uint64_t end)
{
  struct ledger *l = &t->c->job.ledger;
  const struct bmfile *map = &t->c->map.map;
  struct map_run run;
  uint64_t bit;

  /* Partner: the fence between W3 and W4. */
  atomic_thread_fence (memory_order_acquire);
  for (; first < end; first = run.end) {
    run = map_next_run (map, first, end);
    if (run.state != MAP_LIVE)
      continue;
    for (bit = bm_next_set (l->wanted, first, run.end); bit < run.end;
         bit = bm_next_set (l->wanted, first, run.end)) {
      first = bm_next_clear (l->wanted, bit, run.end);
      bm_clear_range (l->copy.bits[0], bit, first);
      t->left_out += ledger_length (l, bit, first);
    }
  }
}

static int
got_extents (void *opaque, const char *context, uint64_t offset,
             uint32_t *entries, size_t nr, int *error)
{
  struct top *t = opaque;
  const struct ledger *l = &t->c->job.ledger;
  const uint64_t size = UINT64_C (1) << l->cluster_bits;
  uint64_t end, last;
  size_t i;

  if (*error || strcmp (context, CONTEXT) != 0)
    return 0;
  for (i = 0; i + 1 < nr && offset < l->disk_size; i += 2) {
    end = offset + entries[i];
    last = end >= l->disk_size ? l->nr_clusters : end >> l->cluster_bits;
    if (entries[i + 1] != 1 && (offset + size - 1) >> l->cluster_bits < last)
      leave_out (t, (offset + size - 1) >> l->cluster_bits, last);
    t->answered |= entries[i] > 0;
    offset = end;
  }
  t->offset = offset;
  return 0;
}

static int
failed (struct top *t, const char *what)
{
  int err = nbd_get_errno ();

  message_set (&t->why, "%s: %s: %s", t->c->opt.top_of, what,
               nbd_get_error ());
  errno = err ? err : EIO;
  return -1;
}

static int
ask (struct top *t)
{
  const uint64_t size = t->c->job.ledger.disk_size;
  uint64_t left;

  while (t->offset < size && !atomic_load (&t->stop)) {
    left = size - t->offset;
    t->answered = false;
    if (nbd_block_status (t->nbd, left < WINDOW ? left : WINDOW, t->offset,
                          (nbd_extent_callback) { .callback = got_extents,
                                                  .user_data = t }, 0) == -1)
      return failed (t, "asking for depths");
    if (!t->answered) {
      errno = EPROTO;
      return message_set (&t->why, "%s: no answer about depths",
                          t->c->opt.top_of);
    }
  }
  return 0;
}

static int
run (struct io *io)
{
  struct top *t = io->end;

  if (nbd_add_meta_context (t->nbd, CONTEXT) == -1
      || nbd_set_uri_allow_local_file (t->nbd, true) == -1
      || nbd_connect_uri (t->nbd, t->c->opt.top_of) == -1)
    return failed (t, "connecting");
  t->tells = nbd_can_meta_context (t->nbd, CONTEXT) == 1;
  if (t->tells && (uint64_t) nbd_get_size (t->nbd)
      != t->c->job.ledger.disk_size) {
    errno = EINVAL;
    return message_set (&t->why, "%s: it has another size than the disk",
                        t->c->opt.top_of);
  }
  return t->tells ? ask (t) : 0;
}

/* Waits until the thread is done, also if the job is cancelled meanwhile. */
struct wait { struct top *top; bool done; int error; };

static void
answered (struct io *io)
{
  struct wait *w = io->owner;

  w->done = true;
  w->error = io->error;
  loop_io_free (io);
}

static void
turn (void *opaque)
{
  struct wait *w = opaque;
  struct job *job = &w->top->c->job;

  if (job->verdict != JOB_CREATED)
    atomic_store (&w->top->stop, true);
  if (w->done)
    loop_stop (job->loop);
}

static int
ask_on_thread (struct top *t, struct message *why)
{
  struct job *job = &t->c->job;
  struct wait w = { .top = t };
  struct io *io = loop_io (job->loop, answered, &w);

  if (!io)
    return message_set (why, "no memory");
  io->end = t;
  io->run = run;
  pool_submit (job->pool, io);
  job->loop->turn = turn;
  job->loop->opaque = &w;
  loop_run (job->loop);
  job->loop->turn = NULL;
  if (job->verdict != JOB_CREATED)
    return message_set (why, "cancelled");
  return w.error == 0 ? 0 : message_set (why, "%s", t->why.text);
}

int
top_narrow (struct copier *c, struct message *why)
{
  struct top t = { .c = c };
  int r;

  /* With layers, a hole may hide what is below. */
  c->job.skip_holes = c->opt.top && !c->opt.top_of;
  if (!c->opt.top_of || c->map.map.cluster_bits != c->job.ledger.cluster_bits)
    return 0;
  t.nbd = nbd_create ();
  if (!t.nbd)
    return message_set (why, "%s", nbd_get_error ());
  r = ask_on_thread (&t, why);
  nbd_close (t.nbd);
  if (r == 0 && !t.tells)
    c->job.skip_holes = true;
  ledger_narrow (&c->job.ledger, t.left_out);
  job_log (&c->job, "%llu bytes are not in the top layer",
           (unsigned long long) t.left_out);
  return r;
}
