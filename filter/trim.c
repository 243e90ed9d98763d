/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Deferred trims. */

/* A guest's fstrim in the middle of a backup would have us copy all that it
 * frees.  NBD_CMD_TRIM is advice and leaves the content undefined, so instead
 * the clusters are noted in a bitmap, and a thread of ours issues the trim
 * once no snapshot needs their old content.
 *
 * Then it is a changing request like any other: inside the gate, with dirty
 * bits set before it is issued.  What must not happen is that it lands on a
 * later write of the guest.  Two things prevent it: a write clears the bits of
 * what it changes, before it is issued and again when it has ended, and all
 * that time it holds its range of `busy', which the thread takes, too, before it looks at the bits.  Writes
 * do this while there is a snapshot or a bit.  A bit rises only in a trim that
 * sees a snapshot, and a snapshot begins when no write is inside; so a write
 * that begins after the trim was acknowledged sees a snapshot or the bit.  (A
 * write that overlaps the trim in time may see neither, if the snapshot ends
 * just then: trim after write is a legal order of the two.)
 *
 * Ranges of busy are taken before any other lock and each owner holds one, so
 * nobody waits in a circle; a write may wait for a trim that is being issued,
 * as it would in the live disk.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "broken.h"
#include "cow.h"
#include "map.h"
#include "next.h"
#include "trim.h"

/* How often the thread looks whether something was released. */
#define LOOK_NS UINT64_C (500000000)

struct trim {
  /* Set once. */
  struct fleece *f;
  nbdkit_next *next;            /* the thread's own */
  pthread_t thread;
  struct bmfile shape;          /* sizes only, for map_clusters and so on */
  bm_word *deferred;
  size_t deferred_size;         /* bytes */
  struct inflight busy;

  _Atomic uint64_t count;       /* bits of deferred set */

  pthread_mutex_t lock;
  pthread_cond_t stopping;
  bool stop;                    /* under lock */
};

bool
trim_enter (struct trim *t, const struct snapset *set,
            struct inflight_range *range, uint64_t offset, uint64_t count)
{
  struct cluster_range c;

  if (set->nr == 0 && atomic_load (&t->count) == 0)
    return false;
  c = map_clusters (&t->shape, offset, count);
  inflight_take (&t->busy, range, c.first, c.end);
  if (atomic_load (&t->count) > 0 && !BROKEN (TRIM_AFTER_WRITE))
    atomic_fetch_sub (&t->count,
                      bm_clear_range (t->deferred, c.first, c.end));
  return true;
}

void
trim_leave (struct trim *t, struct inflight_range *range)
{
  /* A trim that came while the write was in flight may have been before it. */
  if (atomic_load (&t->count) > 0 && !BROKEN (TRIM_AFTER_WRITE))
    atomic_fetch_sub (&t->count,
                      bm_clear_range (t->deferred, range->first, range->end));
  inflight_drop (&t->busy, range);
}

/* True if a snapshot needs the byte at offset; *end is cut down to where that
 * answer may change. */
static bool
needed (const struct snapset *set, uint64_t offset, uint64_t *end)
{
  unsigned i;

  for (i = 0; i < set->nr; i++) {
    const struct bmfile *map = &set->snapshots[i]->map;
    struct cluster_range c = map_clusters (map, offset, *end - offset);
    uint64_t live;

    if (c.first >= c.end)
      continue;                 /* past the end of this snapshot */
    live = map_next_live (map, c.first, c.end);
    if (live == c.first) {
      struct map_run run = map_next_run (map, c.first, c.end);

      if (map_offset (map, run.end) < *end)
        *end = map_offset (map, run.end);
      return true;
    }
    if (live < c.end && map_offset (map, live) < *end)
      *end = map_offset (map, live);
  }
  return false;
}

/* Remembers the whole clusters of [offset, end); what is cut at either side
 * is dropped, as advice may be. */
static void
defer (struct trim *t, uint64_t offset, uint64_t end)
{
  uint64_t size = UINT64_C (1) << t->shape.cluster_bits;
  uint64_t first = (offset + size - 1) >> t->shape.cluster_bits;
  uint64_t last = end >= t->shape.disk_size ? t->shape.nr_clusters
    : end >> t->shape.cluster_bits;

  if (first < last)
    atomic_fetch_add (&t->count, bm_set_range (t->deferred, first, last));
}

int
trim_request (struct trim *t, const struct snapset *set, nbdkit_next *next,
              uint64_t offset, uint64_t count, uint32_t flags, int *err)
{
  uint64_t end, stop = offset + count;

  for (; offset < stop; offset = end) {
    end = stop;
    if (needed (set, offset, &end))
      defer (t, offset, end);
    else if (cow_before_write (t->f, set, next, offset, end - offset,
                               err) == -1
             || next->trim (next, end - offset, offset, flags, err) == -1)
      return -1;
  }
  return 0;
}

/* Issues what can be issued of the deferred clusters [first, end), at most a
 * small run, as a request of its own.  Returns where to go on. */
static uint64_t
issue (struct trim *t, uint64_t first, uint64_t end)
{
  struct fleece *f = t->f;
  struct gate_ticket ticket = gate_enter (&f->gate);
  const struct snapset *set = atomic_load (&f->set);
  struct inflight_range range;
  uint64_t offset = map_offset (&t->shape, first), stop;
  int err = 0;

  inflight_take (&t->busy, &range, first, end);
  /* A write may have cleared some since the caller saw them. */
  first = bm_next_set (t->deferred, first, end);
  end = bm_next_clear (t->deferred, first, end);
  if (first < end) {
    offset = map_offset (&t->shape, first);
    stop = offset + map_length (&t->shape, first, end);
    if (needed (set, offset, &stop))
      end = (stop - 1) >> t->shape.cluster_bits;
    else {
      end = stop >= t->shape.disk_size ? end : stop >> t->shape.cluster_bits;
      if (first < end
          && cow_before_write (f, set, t->next, offset,
                               map_length (&t->shape, first, end), &err) == 0
          && t->next->trim (t->next, map_length (&t->shape, first, end),
                            offset, 0, &err) == -1)
        nbdkit_debug ("deferred trim at %" PRIu64 " failed: %s",
                      offset, strerror (err));
      atomic_fetch_sub (&t->count,
                        bm_clear_range (t->deferred, first, end));
    }
  }
  inflight_drop (&t->busy, &range);
  gate_leave (&f->gate, ticket);
  return end > first ? end : first + 1;
}

static bool
wait_or_stop (struct trim *t)
{
  uint64_t when = now_ns () + LOOK_NS;
  struct timespec ts = { .tv_sec = when / 1000000000,
                         .tv_nsec = when % 1000000000 };
  bool stop;

  pthread_mutex_lock (&t->lock);
  if (!t->stop)
    pthread_cond_timedwait (&t->stopping, &t->lock, &ts);
  stop = t->stop;
  pthread_mutex_unlock (&t->lock);
  return stop;
}

static void *
trimmer (void *opaque)
{
  struct trim *t = opaque;
  uint64_t max = (32 << 20) >> t->shape.cluster_bits, at, end;

  while (!wait_or_stop (t)) {
    if (atomic_load (&t->count) == 0)
      continue;
    for (at = 0; at < t->shape.nr_clusters; ) {
      at = bm_next_set (t->deferred, at, t->shape.nr_clusters);
      if (at == t->shape.nr_clusters)
        break;
      end = t->shape.nr_clusters - at < max ? t->shape.nr_clusters : at + max;
      at = issue (t, at, bm_next_clear (t->deferred, at, end));
    }
  }
  return NULL;
}

static int
open_next (struct trim *t)
{
  t->next = next_open (t->f->backend, false);
  return t->next ? 0 : -1;
}

struct trim *
trim_new (struct fleece *f)
{
  struct trim *t = calloc (1, sizeof *t);
  pthread_condattr_t attr;

  if (!t)
    return NULL;
  t->f = f;
  t->shape.disk_size = f->disk_size;
  t->shape.cluster_bits = __builtin_ctzll (f->cluster_size);
  t->shape.nr_clusters = (f->disk_size + f->cluster_size - 1)
    >> t->shape.cluster_bits;
  t->deferred_size = bm_bytes (t->shape.nr_clusters);
  t->deferred = mmap (NULL, t->deferred_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (t->deferred == MAP_FAILED)
    goto free_t;
  if (inflight_init (&t->busy) == -1 || open_next (t) == -1)
    goto unmap;
  pthread_mutex_init (&t->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&t->stopping, &attr);
  pthread_condattr_destroy (&attr);
  if (pthread_create (&t->thread, NULL, trimmer, t) == 0)
    return t;
  next_close (t->next);
 unmap:
  munmap (t->deferred, t->deferred_size);
 free_t:
  nbdkit_error ("cannot start deferring trims: %m");
  free (t);
  return NULL;
}

void
trim_free (struct trim *t)
{
  if (!t)
    return;
  pthread_mutex_lock (&t->lock);
  t->stop = true;
  pthread_cond_signal (&t->stopping);
  pthread_mutex_unlock (&t->lock);
  pthread_join (t->thread, NULL);
  next_close (t->next);
  munmap (t->deferred, t->deferred_size);
  inflight_destroy (&t->busy);
  free (t);
}
