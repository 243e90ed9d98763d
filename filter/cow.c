/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copying old clusters before the guest's request changes them. */

/* The fast path is one scan over the words of the map: no LIVE cluster in the
 * range means that there is nothing to do, no lock is taken and nothing is
 * written.  That is safe without the lock since no state ever leads back to
 * LIVE.
 *
 * Otherwise the range is gone through in pieces of at most run_max bytes.  For
 * each the in-flight range of the snapshot is taken, the states are looked at
 * again (another request may have copied them while this one waited), and
 * what is still LIVE is copied: one read and one write for a run.  Zeroes cost
 * a bit and no scratch.  The range is dropped before the request is issued:
 * what is marked stays kept whatever happens to the live disk.
 *
 * What can fail: the read of the live disk, the write to the scratch, the
 * limit, the time-out.  A run that fails is done again cluster by cluster, so
 * that no more is given up than must be.  Under break-snapshot what could not
 * be kept is marked lost, before the request is issued; under
 * break-guest-write nothing is marked, so that the guest may try again, and
 * the request fails with the cause.
 *
 * Holes need not be read, but to ask for them may cost much more than to read:
 * a file system tells where data ends only after looking for it, if need be to
 * the end of the disk.  So the backend is asked for extents only as long as that
 * has paid: a long run of zeroes that was read makes the next one ask, and an
 * answer of "data" makes the next one read.
 *
 * Several snapshots are served one after the other, each by a read of its
 * own: the second read comes from the cache of the host, and no range of one
 * snapshot is held while waiting for another's.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "activity.h"
#include "broken.h"
#include "control.h"
#include "cow.h"
#include "durable.h"
#include "map.h"
#include "scratch.h"
#include "timed.h"

/* Bytes; for a shorter run extents are never asked for. */
#define EXTENTS_MIN (128 * 1024)

struct copy {
  struct fleece *f;
  struct snapshot *s;
  struct durable *durable;      /* of s; NULL: nothing to be flushed */
  nbdkit_next *next;
  char *buf;                    /* BUFFER_SIZE bytes, this request's */
};

#define BUFFER_SIZE (RUN_MAX > BMFILE_CLUSTER_MAX \
                     ? RUN_MAX : BMFILE_CLUSTER_MAX)

/* Buffers are kept for the next copy rather than with a thread: nbdkit makes
 * new threads for each connection. */
static char *
take_buffer (struct fleece *f)
{
  char *buf = NULL;

  pthread_mutex_lock (&f->buffers.lock);
  if (f->buffers.nr > 0)
    buf = f->buffers.free[--f->buffers.nr];
  pthread_mutex_unlock (&f->buffers.lock);
  return buf ? buf : aligned_alloc (4096, BUFFER_SIZE);
}

static void
give_buffer (struct fleece *f, char *buf)
{
  pthread_mutex_lock (&f->buffers.lock);
  if (buf && f->buffers.nr < BUFFERS_KEPT) {
    f->buffers.free[f->buffers.nr++] = buf;
    buf = NULL;
  }
  pthread_mutex_unlock (&f->buffers.lock);
  free (buf);
}

/* W5: who released the clusters while they were being copied found nothing to
 * punch yet.  Partner: L2 before L3 in whoever releases.  The release may not
 * be on disk yet (K7). */
static void
punch_released (const struct copy *c, uint64_t first, uint64_t end)
{
  const struct bmfile *map = &c->s->map;
  uint64_t at, stop;
  int64_t freed;

  atomic_thread_fence (memory_order_seq_cst);
  FAILPOINT ("W5");
  for (at = first; at < end; at = stop) {
    at = bm_next_set (map->bits[MAP_RELEASED_BITS], at, end);
    stop = bm_next_clear (map->bits[MAP_RELEASED_BITS], at, end);
    if (at == end || (c->durable && durable_flush_map (c->durable) == -1))
      break;
    freed = scratch_punch (c->s->scratch, map_offset (map, at),
                           map_length (map, at, stop));
    if (freed > 0)
      map_scratch_freed (map, freed);
  }
}

/* W3, the good way. */
static void
mark_copied (const struct copy *c, uint64_t first, uint64_t end, bool zero)
{
  struct bmfile_live *live = c->s->map.live;
  uint64_t n;

  FAILPOINT ("W3");
  n = bm_set_range (c->s->map.bits[MAP_COPIED_BITS], first, end);
  FAILPOINT ("W3+");
  atomic_fetch_add_explicit (&live->copied_clusters, n, memory_order_relaxed);
  if (zero)
    atomic_fetch_add_explicit (&live->zero_clusters, n, memory_order_relaxed);
  else
    punch_released (c, first, end);
}

/* W3, the other way.  Returns 0 if the request may go on. */
static int
give_up (const struct copy *c, uint64_t first, uint64_t end, int error)
{
  struct bmfile_live *live = c->s->map.live;
  int none = 0;

  if (c->f->options.on_cow_error == BREAK_GUEST_WRITE) {
    errno = error;
    return -1;
  }
  if (!BROKEN (NO_LOST))
    atomic_fetch_add_explicit
      (&live->lost_clusters,
       bm_set_range (c->s->map.bits[MAP_LOST_BITS], first, end),
       memory_order_relaxed);
  /* Whoever reads the log may be slow, so the control thread writes it. */
  if (atomic_compare_exchange_strong (&c->s->first_error, &none, error))
    control_poke (c->f->control);
  return 0;
}

/* Reserves room under scratch-limit and writes.  W2. */
static int
write_scratch (const struct copy *c, const char *buf,
               uint64_t offset, uint64_t count)
{
  _Atomic uint64_t *used = &c->s->map.live->scratch_bytes;
  uint64_t limit = c->f->options.scratch_limit;
  uint64_t before = atomic_fetch_add (used, count);
  int r;

  FAILPOINT ("W2");
  if (limit != 0 && before + count > limit) {
    errno = ENOSPC;
    r = -1;
  }
  else if (c->f->timed)
    r = timed_pwrite (c->f->timed, c->s->scratch, buf, count, offset);
  else
    r = full_pwrite (c->s->scratch, buf, count, offset);
  if (r == -1) {
    int error = errno;

    map_scratch_freed (&c->s->map, count);
    errno = error;
  }
  return r;
}

/* The same, and K1: on disk if need be. */
static int
write_for_good (const struct copy *c, const char *buf,
                uint64_t offset, uint64_t count)
{
  unsigned mark = c->durable ? durable_mark (c->durable) : 0;

  if (write_scratch (c, buf, offset, count) == -1)
    return -1;
  return c->durable ? durable_flush_scratch (c->durable, mark) : 0;
}

/* Keeps the data run [first, end), whose content is at buf; cluster by
 * cluster if it does not go in one. */
static int
keep_data (const struct copy *c, const char *buf, uint64_t first, uint64_t end)
{
  const struct bmfile *map = &c->s->map;
  uint64_t cluster;
  int error;

  if (BROKEN (MARK_BEFORE_COPY))
    mark_copied (c, first, end, false);
  if (write_for_good (c, buf, map_offset (map, first),
                      map_length (map, first, end)) == 0) {
    mark_copied (c, first, end, false);
    return 0;
  }
  error = errno;
  if (end - first == 1 || error == ETIMEDOUT)
    return give_up (c, first, end, error);
  for (cluster = first; cluster < end; cluster++)
    if (keep_data (c, buf + (map_offset (map, cluster)
                             - map_offset (map, first)),
                   cluster, cluster + 1) == -1)
      return -1;
  return 0;
}

static void
guess (const struct copy *c, bool ask)
{
  _Atomic bool *now = &c->f->ask_extents;

  if (atomic_load_explicit (now, memory_order_relaxed) != ask)
    atomic_store_explicit (now, ask, memory_order_relaxed);
}

/* The end of the run of clusters from first on that are all zero, or none of
 * them; the content is at buf. */
static uint64_t
zero_run (const struct bmfile *map, const char *buf, uint64_t first,
          uint64_t end, bool *zero)
{
  uint64_t base = map_offset (map, first), at;

  *zero = is_zero (buf, map_length (map, first, first + 1));
  for (at = first + 1; at < end; at++)
    if (!!is_zero (buf + (map_offset (map, at) - base),
                   map_length (map, at, at + 1)) != *zero)
      break;
  return at;
}

/* All the data of [first, end) with one flush; false if they have to be kept
 * one by one. */
static bool
write_together (const struct copy *c, const char *buf, uint64_t first,
                uint64_t end)
{
  const struct bmfile *map = &c->s->map;
  unsigned mark = durable_mark (c->durable);
  uint64_t written = 0, at;
  int r = 0;
  bool zero;

  if (BROKEN (MARK_BEFORE_COPY))
    mark_copied (c, first, end, false);
  for (; r == 0 && first < end; first = at) {
    uint64_t length;

    at = zero_run (map, buf, first, end, &zero);
    length = map_length (map, first, at);
    if (!zero)
      r = write_scratch (c, buf, map_offset (map, first), length);
    if (!zero && r == 0)
      written += length;
    buf += length;
  }
  if (r == 0 && written > 0)
    r = durable_flush_scratch (c->durable, mark);
  if (r == -1)
    map_scratch_freed (map, written);
  return r == 0;
}

/* Keeps [first, end), whose content is at buf: zero clusters as a bit. */
static int
keep (const struct copy *c, const char *buf, uint64_t first, uint64_t end)
{
  const struct bmfile *map = &c->s->map;
  bool written = c->durable && write_together (c, buf, first, end), zero;
  uint64_t at;

  for (; first < end; first = at) {
    uint64_t length;

    at = zero_run (map, buf, first, end, &zero);
    length = map_length (map, first, at);
    if (zero && length >= EXTENTS_MIN)
      guess (c, true);
    if (zero || written)
      mark_copied (c, first, at, zero);
    else if (keep_data (c, buf, first, at) == -1)
      return -1;
    buf += length;
  }
  return 0;
}

/* Reads and keeps [first, end), at most run_max bytes or one cluster. */
static int
read_and_keep (const struct copy *c, uint64_t first, uint64_t end)
{
  const struct bmfile *map = &c->s->map;
  uint64_t cluster, offset = map_offset (map, first);
  uint64_t count = map_length (map, first, end), done, n;
  int error = EIO;

  for (done = 0; done < count; done += n) {
    n = count - done < c->f->run_max ? count - done : c->f->run_max;
    if (c->next->pread (c->next, c->buf + done, n, offset + done, 0,
                        &error) == -1)
      break;
  }
  if (done >= count)
    return keep (c, c->buf, first, end);
  if (end - first == 1)
    return give_up (c, first, end, error);
  for (cluster = first; cluster < end; cluster++)
    if (read_and_keep (c, cluster, cluster + 1) == -1)
      return -1;
  return 0;
}

/* The whole clusters from first on that the backend knows to be zeroes; or,
 * if there are none, sets *data to the clusters it would be good to read
 * before asking again. */
static uint64_t
zero_clusters (const struct copy *c, uint64_t first, uint64_t end,
               uint64_t *data)
{
  const struct bmfile *map = &c->s->map;
  uint64_t offset = map_offset (map, first);
  uint64_t count = map_length (map, first, end);
  struct nbdkit_extents *extents = nbdkit_extents_new (offset, offset + count);
  struct nbdkit_extent e;
  uint64_t n = 0;
  int err;

  *data = end - first;
  if (!extents)
    return 0;
  if (c->next->extents (c->next, count, offset, NBDKIT_FLAG_REQ_ONE,
                        extents, &err) == 0
      && nbdkit_extents_count (extents) > 0) {
    e = nbdkit_get_extent (extents, 0);
    if (e.length > count)
      e.length = count;
    if (e.type & NBDKIT_EXTENT_ZERO)
      n = e.length == count ? end - first : e.length >> map->cluster_bits;
    if (e.length < count)
      *data = (e.length >> map->cluster_bits) + 1;
  }
  nbdkit_extents_free (extents);
  return n;
}

/* Copies a run of LIVE clusters, the in-flight range being held. */
static int
copy_run (const struct copy *c, uint64_t first, uint64_t end)
{
  while (first < end) {
    uint64_t data = end - first, zeroes;

    if (c->f->can_extents
        && map_length (&c->s->map, first, end) >= EXTENTS_MIN
        && atomic_load_explicit (&c->f->ask_extents, memory_order_relaxed)) {
      zeroes = zero_clusters (c, first, end, &data);
      guess (c, zeroes > 0);
      if (zeroes > 0) {
        mark_copied (c, first, first + zeroes, true);
        first += zeroes;
        continue;
      }
    }
    if (read_and_keep (c, first, first + data) == -1)
      return -1;
    first += data;
  }
  return 0;
}

/* One piece: takes the range, copies what is LIVE, drops it. */
static int
copy_piece (const struct copy *c, uint64_t first, uint64_t end)
{
  struct inflight_range range;
  struct map_run run;
  uint64_t at;
  int r = 0, error;

  inflight_take (&c->s->inflight, &range, first, end);
  FAILPOINT ("W1");
  for (at = first; r == 0 && at < end; at = run.end) {
    run = map_next_run (&c->s->map, at, end); /* W1 */
    if (run.state == MAP_LIVE && !c->buf)
      r = give_up (c, run.first, run.end, ENOMEM);
    else if (run.state == MAP_LIVE)
      r = copy_run (c, run.first, run.end);
  }
  error = errno;
  inflight_drop (&c->s->inflight, &range);
  errno = error;
  return r;
}

static int
copy_range (struct copy *c, struct cluster_range range)
{
  uint64_t step = RUN_MAX >> c->s->map.cluster_bits, at, end;

  if (step == 0)
    step = 1;
  for (at = range.first; at < range.end; at = end) {
    at = map_next_live (&c->s->map, at, range.end);
    if (at < range.end && !c->buf)
      c->buf = take_buffer (c->f);
    end = range.end - at < step ? range.end : at + step;
    if (at < end && copy_piece (c, at, end) == -1)
      return -1;
  }
  return 0;
}

static void
account (struct fleece *f, uint64_t started)
{
  uint64_t us = (now_ns () - started) / 1000;
  uint64_t max = atomic_load_explicit (&f->cow_max_us, memory_order_relaxed);

  atomic_fetch_add_explicit (&f->cow_requests, 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&f->histogram[wire_bucket (us)], 1,
                             memory_order_relaxed);
  while (us > max
         && !atomic_compare_exchange_weak (&f->cow_max_us, &max, us))
    ;
}

/* T1: the bits rise before the request is issued, so that whoever looks after
 * a crash, or after the next flip, finds a superset of what changed.  Bits
 * that are set already cost a load. */
static void
mark_dirty (struct bmfile *tracking, uint64_t offset, uint64_t count)
{
  struct cluster_range range = map_clusters (tracking, offset, count);

  FAILPOINT ("T1");
  if (!BROKEN (NO_DIRTY) && !BROKEN (DIRTY_AFTER_WRITE))
    bm_set_range (tracking->bits[0], range.first, range.end);
  FAILPOINT ("T1+");
}

/* The fast path, for one snapshot: what is left of the range to look after, an
 * empty one if nothing is. */
static struct cluster_range
what_is_left (const struct copy *c, struct cluster_range range)
{
  if (!c->durable)
    range.first = map_next_live (&c->s->map, range.first, range.end);
  else if (durable_is_settled (c->durable, range.first, range.end))
    range.first = range.end;
  return range;
}

int
cow_before_write (struct fleece *f, const struct snapset *set,
                  nbdkit_next *next, uint64_t offset, uint64_t count, int *err)
{
  struct copy c = { .f = f, .next = next };
  uint64_t started = 0;
  unsigned i;
  int r = 0;

  for (i = 0; r == 0 && i < set->nr; i++) {
    struct cluster_range range;

    c.s = set->snapshots[i];
    c.durable = c.s->durable && durable_holds (c.s->durable)
      ? c.s->durable : NULL;
    range = what_is_left (&c, map_clusters (&c.s->map, offset, count));
    if (range.first >= range.end)
      continue;
    if (!started)
      started = now_ns ();
    r = copy_range (&c, range);
    if (r == 0 && c.durable)
      durable_settle (c.durable, range.first, range.end); /* K2 */
  }
  if (r == -1)
    /* Not every errno may go to an NBD client, nor leave a zero request. */
    *err = errno == ENOSPC || errno == EDQUOT ? ENOSPC : EIO;
  if (started) {
    account (f, started);
    if (c.buf)
      give_buffer (f, c.buf);
  }
  if (r == -1)
    atomic_fetch_add_explicit (&f->failed_requests, 1, memory_order_relaxed);
  else if (set->tracking)
    mark_dirty (set->tracking, offset, count);
  /* Between W3 (ours, or another's that we saw) and W4.  Partner: the fence
   * between R2 and R3 in the reader. */
  atomic_thread_fence (memory_order_seq_cst);
  if (r == 0 && set->tracking && f->activity)
    activity_enter (f->activity, offset, count);
  FAILPOINT ("W4");
  return r;
}

void
cow_too_late (struct fleece *f, const struct snapset *set, nbdkit_next *next,
              uint64_t offset, uint64_t count)
{
  struct cluster_range range;
  int err;

  if (BROKEN (MARK_AFTER_WRITE))
    cow_before_write (f, set, next, offset, count, &err);
  else if (BROKEN (DIRTY_AFTER_WRITE) && set->tracking) {
    /* Long enough to be killed in. */
    nanosleep (&(struct timespec) { .tv_nsec = 20000000 }, NULL);
    range = map_clusters (set->tracking, offset, count);
    bm_set_range (set->tracking->bits[0], range.first, range.end);
  }
}
