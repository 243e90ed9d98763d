/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Durable tracking: regions are recorded before they change. */

/* A crash of the host takes what was in memory only: bits of the tracking
 * bitmap, and data of the live disk that a backup may have read.  To flush
 * either before each write would cost a write its speed, so it is done for
 * regions of some MiB instead.  A region is set in the log, on disk, before the
 * first write to it, and cleared a while after the last one, when everything
 * that concerns it has been flushed.  After the crash the regions that are set
 * count as changed (common/actlog.h).
 *
 *   CLEAN ──write──▶ WANTED ──▶ WRITING ──flushed──▶ ACTIVE ◀─write──┐
 *     ▲                                                │ a while     │
 *     │                                                ▼             │
 *     └────────────── C5 ───────── CLEANING ◀──────── IDLE ──────────┤
 *                                     └──────────────write───────────┘
 *
 * A request, after its dirty bits (T1):
 *
 *   A1  looks at the states of its regions: all ACTIVE, and it goes on
 *   A2  else, under the lock: IDLE and CLEANING become ACTIVE, for the log has
 *       them still; CLEAN becomes WANTED, with its bit in the log
 *   A3  and waits until the log's thread has flushed that
 *   W4  goes to the live disk
 *
 * The log's thread flushes what was wanted while it flushed before, so many
 * requests share one flush.  With a region some that follow are taken, if the
 * one before is active: a guest that writes from front to end waits less often.
 *
 * The cleaner, for the regions that were IDLE since it last came:
 *
 *   C1  IDLE becomes CLEANING
 *   C2  a grace period: who saw the region active before C1 has left the gate
 *   C3  the live disk is flushed
 *   C4  all tracked bitmaps are flushed, those that are retired settled
 *   C5  under the lock: what is still CLEANING becomes CLEAN, and its bit in
 *       the log is cleared; that need not be flushed
 *
 * C1, then looking who is inside, against G1, then A1: sequentially consistent
 * on both sides.  Which bitmaps there are is looked at after C1, and a new one
 * is tracked before the flip; so a write that C2 has not waited for is either
 * marked in a bitmap that C4 flushes or finds CLEANING in A1.
 *
 * A checkpoint that begins:
 *
 *   D0  its file is on disk; if the bitmap before it is bound to the log, so is
 *       this one, before F2: the log covers what was written until then
 *   D1  else, after the flip, the live disk is flushed before it is bound
 *   D2  it is flushed, ACTIVE
 *   F3  only then the bitmap before it is FROZEN, and retired: else a crash
 *       could leave neither of them ACTIVE
 *
 * If nothing is tracked, nothing is logged.
 *
 * The log cannot be written: the guest goes on.  Tracking is no longer bound,
 * on disk, before its write does, and a crash of the host makes it inconsistent
 * as without a log.  (Should that flush fail, too, the guest goes on all the
 * same, and it is tried again and again.)  A log that hangs holds up who wants
 * a region, and cow-timeout does not change that: a write that went ahead would
 * be known to nobody after a crash.
 *
 * Something could not be flushed in C3 or C4: that is final, too.  The kernel
 * takes the pages for clean from then on, so that a second try would succeed
 * without them.
 *
 * How long "a while" is: log-idle, twice as long each time that as many regions
 * came back as a quarter of what had been cleaned, up to 16 times.  A guest that
 * writes all over a large disk then keeps its regions.
 *
 * The model is tests/model/activity.pml.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "activity.h"
#include "actlog.h"
#include "broken.h"
#include "map.h"
#include "next.h"
#include "snapshot.h"

#define WANTED_MAX 1024         /* regions of one flush */
#define AHEAD 7                 /* regions taken along with one */
#define TRACKED_MAX 16
#define GRACE_MS 10000
#define SLOWER_MAX 16
#define RETRY_NS UINT64_C (1000000000)

enum { CLEAN = 0, WANTED, WRITING, ACTIVE, IDLE, CLEANING };

enum fate { TRACKED, RETIRED, DROPPED };

struct tracked {
  struct bmfile *file;
  enum fate fate;
};

struct activity {
  /* Set once. */
  struct fleece *f;
  struct bmfile log;
  nbdkit_next *next;            /* for flushes; under flush_lock */
  bool can_flush;
  pthread_t writer, cleaner;

  pthread_mutex_t flush_lock;   /* held across a flush; before no other */

  /* Atomic, one for each region.  Raised to ACTIVE by the log's thread (from
   * WRITING) and under lock; lowered to IDLE and CLEANING by the cleaner, by
   * compare-and-swap, and to CLEAN under lock.  Partner: A1. */
  _Atomic uint8_t *states;

  pthread_mutex_t lock;         /* held for moments, and across I/O only in
                                 * give_up */
  /* Under lock. */
  pthread_cond_t work, flushed, clean;
  uint64_t wanted[WANTED_MAX];
  unsigned nr_wanted;
  struct tracked tracked[TRACKED_MAX];
  unsigned nr_tracked;
  uint64_t activations;         /* since the cleaner last looked */
  bool stop, poked;

  _Atomic bool failed;          /* the log; for good */

  /* The cleaner's. */
  unsigned slower;              /* times log-idle */
  int unflushed;                /* errno of C3 or C4, or 0; under lock */
};

static uint8_t
state_of (const struct activity *a, uint64_t region)
{
  return atomic_load_explicit (&a->states[region], memory_order_acquire);
}

/* ------------------------------------------------------------ the guest's */

/* A2, under lock.  Regions that have no room to be wanted stay CLEAN. */
static void
want (struct activity *a, uint64_t region)
{
  switch (state_of (a, region)) {
  case IDLE:
  case CLEANING:
    atomic_store (&a->states[region], ACTIVE);
    break;
  case CLEAN:
    if (a->nr_wanted == WANTED_MAX)
      break;
    FAILPOINT ("A2");
    bm_set_range (a->log.bits[0], region, region + 1);
    atomic_store (&a->states[region], WANTED);
    a->wanted[a->nr_wanted++] = region;
    a->activations++;
    break;
  }
}

/* Under lock: true if the requests of [first, end) have to wait. */
static bool
want_range (struct activity *a, uint64_t first, uint64_t end)
{
  bool wait = false, ahead = first > 0 && state_of (a, first - 1) != CLEAN;
  uint64_t i;

  for (i = first; i < end; i++) {
    want (a, i);
    wait |= state_of (a, i) < ACTIVE;
  }
  for (; wait && ahead && i < end + AHEAD && i < a->log.nr_clusters; i++)
    if (state_of (a, i) == CLEAN)
      want (a, i);
  return wait;
}

/* However long that takes: there is no other way to know that the log has it. */
static void
activate (struct activity *a, uint64_t first, uint64_t end)
{
  pthread_mutex_lock (&a->lock);
  while (!atomic_load (&a->failed) && want_range (a, first, end)) {
    pthread_cond_signal (&a->work);
    pthread_cond_wait (&a->flushed, &a->lock);
  }
  pthread_mutex_unlock (&a->lock);
}

void
activity_enter (struct activity *a, uint64_t offset, uint64_t count)
{
  struct cluster_range r = map_clusters (&a->log, offset, count);
  uint64_t i;

  if (BROKEN (NO_LOG))
    return;
  for (i = r.first; i < r.end; i++)
    if (state_of (a, i) != ACTIVE) { /* A1 */
      if (!atomic_load (&a->failed))
        activate (a, i, r.end);
      return;
    }
}

/* ------------------------------------------------------- the log's thread */

/* Tracking goes on, without the log.  True if that is on disk. */
static bool
unbind_all (struct activity *a)
{
  bool done = true;
  unsigned i;

  for (i = 0; i < a->nr_tracked; i++) {
    actlog_bind (a->tracked[i].file, NULL);
    if (bmfile_sync_header (a->tracked[i].file) == -1)
      done = false;
  }
  return done;
}

/* Under lock, which is kept: nothing may be tracked anew meanwhile, and the
 * requests that wait have to wait for this. */
static void
give_up (struct activity *a, int error)
{
  errno = error;
  nbdkit_error ("the activity log of %s cannot be relied on: checkpoints will "
                "not outlast a crash of the host: %m",
                a->f->options.export_name);
  while (!unbind_all (a) && !a->stop) {
    struct timespec t;
    uint64_t when = now_ns () + RETRY_NS;

    nbdkit_error ("nor can that be noted: %m; trying again");
    atomic_store (&a->failed, true);
    pthread_cond_broadcast (&a->flushed);
    t = (struct timespec) { .tv_sec = when / 1000000000,
                            .tv_nsec = when % 1000000000 };
    pthread_cond_timedwait (&a->work, &a->lock, &t);
  }
  atomic_store (&a->failed, true);
  pthread_cond_broadcast (&a->flushed);
}

/* Under lock, which it lets go meanwhile. */
static int
flush_wanted (struct activity *a)
{
  uint64_t regions[WANTED_MAX], first = UINT64_MAX, end = 0;
  unsigned nr = a->nr_wanted, i;
  int r;

  memcpy (regions, a->wanted, nr * sizeof regions[0]);
  a->nr_wanted = 0;
  for (i = 0; i < nr; i++) {
    atomic_store (&a->states[regions[i]], WRITING);
    if (regions[i] < first)
      first = regions[i];
    if (regions[i] >= end)
      end = regions[i] + 1;
  }
  pthread_mutex_unlock (&a->lock);
  FAILPOINT ("A3");
  r = BROKEN (LOG_NOT_FLUSHED) ? 0
    : bmfile_sync_bits (&a->log, 0, first, end); /* A3 */
  FAILPOINT ("A3+");
  pthread_mutex_lock (&a->lock);
  for (i = 0; r == 0 && i < nr; i++)
    atomic_store (&a->states[regions[i]], ACTIVE);
  return r;
}

static void *
writer_thread (void *opaque)
{
  struct activity *a = opaque;

  pthread_mutex_lock (&a->lock);
  while (!a->stop && !a->unflushed && !atomic_load (&a->failed)) {
    if (a->nr_wanted == 0)
      pthread_cond_wait (&a->work, &a->lock);
    else if (flush_wanted (a) == -1)
      give_up (a, errno);
    else
      pthread_cond_broadcast (&a->flushed);
  }
  if (a->unflushed && !a->stop)
    give_up (a, a->unflushed);
  pthread_mutex_unlock (&a->lock);
  return NULL;
}

/* ------------------------------------------------------------- the cleaner */

static int
flush_live (struct activity *a)
{
  int r = 0, err = 0;

  if (!a->can_flush || BROKEN (LIVE_NOT_FLUSHED))
    return 0;
  pthread_mutex_lock (&a->flush_lock);
  r = a->next->flush (a->next, 0, &err);
  pthread_mutex_unlock (&a->flush_lock);
  errno = err;
  return r;
}

/* C1, and the step before it.  Returns the number of regions to clean. */
static uint64_t
choose (struct activity *a)
{
  uint64_t i, nr = 0;

  for (i = 0; i < a->log.nr_clusters; i++) {
    uint8_t idle = IDLE, active = ACTIVE;

    if (state_of (a, i) == IDLE)
      nr += atomic_compare_exchange_strong (&a->states[i], &idle, CLEANING);
    else if (state_of (a, i) == ACTIVE)
      atomic_compare_exchange_strong (&a->states[i], &active, IDLE);
  }
  return nr;
}

/* C5; or, if something could not be flushed, back. */
static void
clear (struct activity *a, bool good)
{
  uint64_t i;

  for (i = 0; i < a->log.nr_clusters; i++) {
    if (state_of (a, i) != CLEANING)
      continue;
    pthread_mutex_lock (&a->lock);
    if (state_of (a, i) == CLEANING && good) {
      bm_clear_range (a->log.bits[0], i, i + 1);
      atomic_store (&a->states[i], CLEAN);
    }
    else if (state_of (a, i) == CLEANING)
      atomic_store (&a->states[i], ACTIVE);
    pthread_mutex_unlock (&a->lock);
  }
}

static void
forget (struct activity *a, struct bmfile *file)
{
  unsigned i;

  pthread_mutex_lock (&a->lock);
  for (i = 0; i < a->nr_tracked && a->tracked[i].file != file; i++)
    ;
  if (i < a->nr_tracked)
    a->tracked[i] = a->tracked[--a->nr_tracked];
  pthread_mutex_unlock (&a->lock);
}

/* C4.  A retired bitmap is settled when the one after it is on disk. */
static int
flush_tracked (struct activity *a)
{
  struct tracked files[TRACKED_MAX];
  unsigned nr, i;
  int r = 0;

  pthread_mutex_lock (&a->lock);
  nr = a->nr_tracked;
  memcpy (files, a->tracked, nr * sizeof files[0]);
  pthread_mutex_unlock (&a->lock);
  for (i = 0; r == 0 && i < nr; i++)
    if (files[i].fate == TRACKED && !BROKEN (BITMAPS_NOT_FLUSHED))
      r = bmfile_sync (files[i].file);
  for (i = 0; r == 0 && i < nr; i++) {
    if (files[i].fate == RETIRED)
      r = bmfile_settle (files[i].file);
    if (r == 0 && files[i].fate != TRACKED) {
      forget (a, files[i].file);
      tracking_free (files[i].file);
    }
  }
  return r;
}

/* C3, C4.  The log's thread does the rest. */
static int
flush_all (struct activity *a, uint64_t nr)
{
  int r = nr > 0 ? flush_live (a) : 0, err;

  FAILPOINT ("C4");
  if (r == 0)
    r = flush_tracked (a);
  err = errno;
  FAILPOINT ("C5");
  if (r == 0)
    return 0;
  if (BROKEN (FLUSH_TRIED_AGAIN)) {
    nbdkit_error ("a flush has failed, and that is forgotten");
    return -1;
  }
  pthread_mutex_lock (&a->lock);
  a->unflushed = err ? err : EIO;
  pthread_cond_signal (&a->work);
  pthread_mutex_unlock (&a->lock);
  return -1;
}

static void
clean (struct activity *a)
{
  uint64_t nr = choose (a);
  bool good;

  FAILPOINT ("C2");
  good = nr == 0 || gate_synchronize (&a->f->gate, GRACE_MS) == 0; /* C2 */
  if (good)
    good = flush_all (a, nr) == 0;
  if (nr > 0)
    clear (a, good);
  FAILPOINT ("C5+");
  pthread_mutex_lock (&a->lock);
  if (nr > 0 && a->activations > nr / 4)
    a->slower = a->slower < SLOWER_MAX ? a->slower * 2 : SLOWER_MAX;
  else if (a->slower > 1)
    a->slower /= 2;
  a->activations = 0;
  pthread_mutex_unlock (&a->lock);
}

/* Under lock: true if a while has passed. */
static bool
wait_for_cleaning (struct activity *a, uint64_t when)
{
  struct timespec t = { .tv_sec = when / 1000000000,
                        .tv_nsec = when % 1000000000 };

  while (!a->stop && !a->poked && now_ns () < when)
    pthread_cond_timedwait (&a->clean, &a->lock, &t);
  return now_ns () >= when;
}

static void *
cleaner_thread (void *opaque)
{
  struct activity *a = opaque;
  uint64_t when = now_ns () + a->f->options.log_idle_ns;
  bool due;

  pthread_mutex_lock (&a->lock);
  while (!a->stop) {
    due = wait_for_cleaning (a, when);
    a->poked = false;
    pthread_mutex_unlock (&a->lock);
    if (due && !atomic_load (&a->failed))
      clean (a);
    else
      flush_tracked (a);
    if (due)
      when = now_ns () + a->slower * a->f->options.log_idle_ns;
    pthread_mutex_lock (&a->lock);
  }
  pthread_mutex_unlock (&a->lock);
  return NULL;
}

/* ------------------------------------------------------ the control thread */

int
activity_track (struct activity *a, struct bmfile *tracking)
{
  int r = 0;

  pthread_mutex_lock (&a->lock);
  if (a->nr_tracked == TRACKED_MAX) {
    errno = EAGAIN;
    r = -1;
  }
  else
    a->tracked[a->nr_tracked++] = (struct tracked) { tracking, TRACKED };
  pthread_mutex_unlock (&a->lock);
  return r;
}

static void
set_fate (struct activity *a, const struct bmfile *tracking, enum fate fate)
{
  unsigned i;

  pthread_mutex_lock (&a->lock);
  for (i = 0; i < a->nr_tracked; i++)
    if (a->tracked[i].file == tracking)
      a->tracked[i].fate = fate;
  a->poked = true;
  pthread_cond_signal (&a->clean);
  pthread_mutex_unlock (&a->lock);
}

void
activity_retire (struct activity *a, struct bmfile *tracking)
{
  set_fate (a, tracking, RETIRED);
}

void
activity_drop (struct activity *a, struct bmfile *tracking)
{
  set_fate (a, tracking, DROPPED);
}

bool
activity_covers (struct activity *a, const struct bmfile *tracking)
{
  bool covers;

  pthread_mutex_lock (&a->lock);
  covers = tracking && !atomic_load (&a->failed)
    && actlog_is_bound (tracking, &a->log);
  pthread_mutex_unlock (&a->lock);
  return covers;
}

/* The header is changed under the lock, so that give_up is not undone. */
void
activity_bind (struct activity *a, struct bmfile *tracking)
{
  int r = 0, err;

  FAILPOINT ("D1");
  if (!activity_covers (a, tracking))
    r = flush_live (a);         /* D1 */
  err = errno;
  pthread_mutex_lock (&a->lock);
  if (atomic_load (&a->failed) || tracking->disk_size != a->log.disk_size) {
    err = ENOTSUP;
    r = -1;
  }
  actlog_bind (tracking, r == 0 ? &a->log : NULL);
  pthread_mutex_unlock (&a->lock);
  FAILPOINT ("D2");
  if (bmfile_sync (tracking) == -1) { /* D2 */
    err = errno;
    r = -1;
  }
  if (r == -1)
    nbdkit_error ("checkpoint %s will not outlast a crash of the host: %s",
                  tracking->fixed->name, strerror (err));
}

/* ---------------------------------------------------------- start and stop */

static void
take_over_states (struct activity *a)
{
  const bm_word *bits = a->log.bits[0];
  uint64_t nr = a->log.nr_clusters, i;

  for (i = bm_next_set (bits, 0, nr); i < nr; i = bm_next_set (bits, i + 1, nr))
    a->states[i] = ACTIVE;
}

/* A flush has to mean all that was written, by whatever connection. */
static int
open_next (struct activity *a)
{
  a->next = next_open (a->f->backend, false);
  if (!a->next)
    return -1;
  a->can_flush = a->next->can_flush (a->next) == 1;
  if (a->can_flush && a->next->can_multi_conn (a->next) == 1)
    return 0;
  nbdkit_error ("warning: this disk %s: its checkpoints will not outlast a "
                "crash of the host", a->can_flush
                ? "is flushed for each connection by itself"
                : "cannot be flushed");
  next_close (a->next);
  return -1;
}

static int
start_threads (struct activity *a)
{
  pthread_condattr_t attr;

  pthread_mutex_init (&a->lock, NULL);
  pthread_mutex_init (&a->flush_lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&a->work, &attr);
  pthread_cond_init (&a->flushed, &attr);
  pthread_cond_init (&a->clean, &attr);
  pthread_condattr_destroy (&attr);
  if (pthread_create (&a->writer, NULL, writer_thread, a) != 0)
    return -1;
  if (pthread_create (&a->cleaner, NULL, cleaner_thread, a) == 0)
    return 0;
  pthread_mutex_lock (&a->lock);
  a->stop = true;
  pthread_cond_signal (&a->work);
  pthread_mutex_unlock (&a->lock);
  pthread_join (a->writer, NULL);
  return -1;
}

struct activity *
activity_new (struct fleece *f, struct bmfile *log)
{
  struct activity *a = calloc (1, sizeof *a);

  if (a) {
    *a = (struct activity) { .f = f, .log = *log, .slower = 1,
                             .states = calloc (log->nr_clusters, 1) };
    if (a->states && open_next (a) == 0) {
      take_over_states (a);
      if (start_threads (a) == 0)
        return a;
      nbdkit_error ("cannot start the threads of the activity log");
      next_close (a->next);
    }
    free ((void *) a->states);
    free (a);
  }
  bmfile_close (log);
  return NULL;
}

void
activity_free (struct activity *a)
{
  if (!a)
    return;
  pthread_mutex_lock (&a->lock);
  a->stop = true;
  pthread_cond_broadcast (&a->work);
  pthread_cond_broadcast (&a->clean);
  pthread_mutex_unlock (&a->lock);
  pthread_join (a->writer, NULL);
  pthread_join (a->cleaner, NULL);
  if (flush_live (a) == -1 || flush_tracked (a) == -1)
    nbdkit_error ("%s: cannot be flushed: %m", a->f->options.export_name);
  next_close (a->next);
  bmfile_close (&a->log);
  pthread_mutex_destroy (&a->lock);
  pthread_mutex_destroy (&a->flush_lock);
  free ((void *) a->states);
  free (a);
}
