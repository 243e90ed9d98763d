/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Durable scratches: snapshots that outlast a crash of the host. */

/* A crash of the host takes what was in memory only, in any order.  A snapshot
 * outlasts it if at any moment this holds for what is on disk:
 *
 *   A cluster that is LIVE in the map has its old content on the live disk;
 *   one that is COPIED has it in the scratch.
 *
 * Before a request goes to the live disk, then, what it changes has to be kept
 * on disk, and marked there:
 *
 *   W2  the old content goes into the scratch
 *   K1  the scratch is flushed; if that fails, W2 has failed
 *   W3  copied or lost is set
 *   K2  the map is flushed; then its clusters are settled
 *   W4  only now the request goes to the live disk
 *
 * What another request has marked, or somebody released, may not be on disk
 * yet.  So the fast path looks at a bitmap of its own, of what is settled.  A
 * flush of the map settles all that was marked on the same page of it before
 * the flush began: of clusters that were released in great numbers, one of many
 * thousands pays.
 *
 * Flushes are shared.  Who needs one and finds none under way does it for all
 * who have asked until then; who comes meanwhile waits for the next one.  So
 * many requests at once cost two flushes for all of them, not for each.
 *
 * A flush of the scratch that fails tells one caller, once, of an error that
 * may have been anybody's.  So whoever has written since before it began, or
 * while it was under way, takes his write for failed.
 *
 * Around that:
 *
 *   K3  files and names are on disk before the filter is told to begin (the
 *       daemon)
 *   K4  after the flip, the live disk is flushed: what guests wrote before the
 *       instant may have been in memory only
 *   K5  the header says so (BMFILE_OUTLASTS), on disk; only then is begun said
 *   K6  E1 is on disk before E2: else the crash would leave an ACTIVE map for
 *       which nobody has copied any more
 *   K7  released is on disk before anything is punched (map_settle_release,
 *       W5): else the crash might forget the bit and remember the hole.  Before
 *       it is set, L1 is, in whoever delivers
 *
 * A map that cannot be flushed costs the guest nothing: the header says so, on
 * disk, before its write goes on, and the snapshot is one like any other.  That
 * is final.  (Should that flush fail, too, the guest goes on all the same, and
 * it is tried again when the control thread has anything to do.)  A map that
 * hangs holds up who waits for it, and cow-timeout, which is for K1, does not
 * change that: a write that went ahead would be in the snapshot after a crash.
 *
 * The model is tests/model/scratch.pml.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "broken.h"
#include "control.h"
#include "durable.h"
#include "map.h"
#include "next.h"
#include "timed.h"

/* Words of a bitmap on a page of the file, which is what is flushed. */
#define PAGE_WORDS (4096 / sizeof (bm_word))

/* Flushes of one file, each for all who have asked before it began. */
struct sharing {
  pthread_mutex_t lock;         /* never held across a flush */
  pthread_cond_t done;
  /* Under lock. */
  uint64_t asked, flushed;      /* in the order of asking */
  bool busy;
  int error;                    /* of the last one that failed */
  /* Raised under lock.  Partner: durable_mark, before W2. */
  _Atomic unsigned failures;
};

struct durable {
  /* Set once. */
  struct fleece *f;
  const struct bmfile *map;
  int scratch_fd;               /* ours */
  struct sharing of_scratch, of_map;
  bm_word *settled;             /* rises when the map has been flushed */

  pthread_mutex_t lock;         /* held across the flush that gives up */
  _Atomic int error;            /* why it does not hold any more; raised under
                                 * lock, when that is on disk if it can be */
  bool noted;                   /* under lock: that is on disk */
  bool said;                    /* control thread only */
};

/* ----------------------------------------------------------------- flushes */

static void
sharing_init (struct sharing *s)
{
  pthread_mutex_init (&s->lock, NULL);
  pthread_cond_init (&s->done, NULL);
}

static void
sharing_destroy (struct sharing *s)
{
  pthread_cond_destroy (&s->done);
  pthread_mutex_destroy (&s->lock);
}

static int
flush_file (const struct durable *d, const struct sharing *s)
{
  if (s == &d->of_map)
    return bmfile_sync (d->map);
  return d->f->timed ? timed_fdatasync (d->f->timed, d->scratch_fd)
    : fdatasync (d->scratch_fd);
}

/* Under lock, which it lets go meanwhile. */
static void
flush_for_all (const struct durable *d, struct sharing *s)
{
  uint64_t upto = s->asked;
  int r;

  s->busy = true;
  pthread_mutex_unlock (&s->lock);
  r = flush_file (d, s);
  pthread_mutex_lock (&s->lock);
  s->busy = false;
  s->flushed = upto;
  if (r == -1) {
    s->error = errno;
    atomic_fetch_add (&s->failures, 1);
  }
  pthread_cond_broadcast (&s->done);
}

/* Returns when a flush that began after the call has ended.  0; or -1 and
 * errno if one has failed since `before' was read. */
static int
share (const struct durable *d, struct sharing *s, unsigned before)
{
  uint64_t mine;
  int error = 0;

  pthread_mutex_lock (&s->lock);
  mine = ++s->asked;
  while (s->flushed < mine)
    if (s->busy)
      pthread_cond_wait (&s->done, &s->lock);
    else
      flush_for_all (d, s);
  if (atomic_load (&s->failures) != before)
    error = s->error;
  pthread_mutex_unlock (&s->lock);
  errno = error;
  return error ? -1 : 0;
}

unsigned
durable_mark (struct durable *d)
{
  return atomic_load (&d->of_scratch.failures);
}

int
durable_flush_scratch (struct durable *d, unsigned mark)
{
  if (BROKEN (SCRATCH_NOT_FLUSHED))
    return 0;
  FAILPOINT ("K1");
  return share (d, &d->of_scratch, mark);
}

/* One that has failed, ever, may have been told to somebody else of what is to
 * be flushed now. */
int
durable_flush_map (struct durable *d)
{
  return share (d, &d->of_map, 0);
}

int
durable_flush_header (struct durable *d)
{
  return BROKEN (END_NOT_FLUSHED) ? 0 : bmfile_sync_header (d->map);
}

/* ------------------------------------------------------------------- ending */

/* Under lock.  In this order: who is killed in between leaves a map that does
 * not say that it outlasts, and is claimed (bmfile_claim) on disk. */
static void
note (struct durable *d)
{
  atomic_fetch_or (&d->map->live->flags, BMFILE_GIVEN_UP);
  atomic_fetch_and (&d->map->live->flags, ~(uint32_t) BMFILE_OUTLASTS);
  d->noted = bmfile_sync_header (d->map) == 0;
}

/* Returns when the first who has come here has done what can be done. */
static void
give_up (struct durable *d, int error)
{
  pthread_mutex_lock (&d->lock);
  if (!atomic_load (&d->error)) {
    note (d);
    atomic_store (&d->error, error);
    if (d->f->control)
      control_poke (d->f->control);
  }
  pthread_mutex_unlock (&d->lock);
}

void
durable_report (struct durable *d)
{
  const struct bmfile_fixed *fixed = d->map->fixed;

  if (durable_holds (d))
    return;
  pthread_mutex_lock (&d->lock);
  if (!d->said) {
    errno = atomic_load (&d->error);
    nbdkit_error ("%s@%s will not outlast a crash of the host: %m",
                  fixed->export_name, fixed->name);
  }
  if (!d->noted) {
    note (d);
    if (!d->noted && !d->said)
      nbdkit_error ("nor can that be noted: %m; trying again");
  }
  d->said = true;
  pthread_mutex_unlock (&d->lock);
}

bool
durable_holds (const struct durable *d)
{
  return atomic_load (&d->error) == 0;
}

/* -------------------------------------------------------------- the guest's */

bool
durable_is_settled (const struct durable *d, uint64_t first, uint64_t end)
{
  return bm_all_set (d->settled, first, end);
}

/* One bit for each of 64 clusters that is not LIVE. */
static uint64_t
marked (const struct bmfile *map, uint64_t w)
{
  return atomic_load (&map->bits[MAP_COPIED_BITS][w])
    | atomic_load (&map->bits[MAP_LOST_BITS][w])
    | atomic_load (&map->bits[MAP_RELEASED_BITS][w]);
}

/* What is marked on a page before the flush is settled after it. */
static int
settle_page (struct durable *d, uint64_t page)
{
  const uint64_t nr = (d->map->nr_clusters + 63) / 64;
  const uint64_t first = page * PAGE_WORDS;
  uint64_t seen[PAGE_WORDS], i, n = nr - first;

  if (n > PAGE_WORDS)
    n = PAGE_WORDS;
  for (i = 0; i < n; i++)
    seen[i] = marked (d->map, first + i);
  FAILPOINT ("K2");
  if (!BROKEN (MAP_NOT_FLUSHED) && durable_flush_map (d) == -1)
    return -1;
  FAILPOINT ("K2+");
  for (i = 0; i < n; i++)
    if (seen[i] & ~atomic_load (&d->settled[first + i]))
      atomic_fetch_or (&d->settled[first + i], seen[i]);
  return 0;
}

void
durable_settle (struct durable *d, uint64_t first, uint64_t end)
{
  const uint64_t bits = PAGE_WORDS * 64;
  uint64_t page;

  for (page = first / bits; page <= (end - 1) / bits; page++) {
    uint64_t from = page * bits, to = from + bits;

    if (!durable_holds (d))
      return;
    if (durable_is_settled (d, from > first ? from : first,
                            to < end ? to : end))
      continue;
    if (settle_page (d, page) == -1)
      give_up (d, errno);
  }
}

/* ---------------------------------------------------------- begin and resume */

/* A flush has to mean all that was written, by whatever connection. */
static int
flush_live (struct fleece *f)
{
  nbdkit_next *next;
  int r = -1, err = ENOTSUP;

  if (BROKEN (LIVE_NOT_FLUSHED))
    return 0;
  next = next_open (f->backend, false);
  if (!next) {
    errno = EIO;
    return -1;
  }
  if (next->can_flush (next) == 1 && next->can_multi_conn (next) == 1)
    r = next->flush (next, 0, &err);
  next_close (next);
  errno = err;
  return r;
}

void
durable_begin (struct durable *d)
{
  FAILPOINT ("K4");
  if (flush_live (d->f) == -1) {
    give_up (d, errno);
    return;
  }
  atomic_fetch_or (&d->map->live->flags, BMFILE_OUTLASTS);
  FAILPOINT ("K5");
  if (durable_flush_map (d) == -1)
    give_up (d, errno);
  FAILPOINT ("K5+");
}

int
durable_resume (struct durable *d)
{
  const uint64_t nr = (d->map->nr_clusters + 63) / 64;
  uint64_t w;

  /* Before the flush: somebody may be releasing. */
  for (w = 0; w < nr; w++)
    atomic_store (&d->settled[w], marked (d->map, w));
  return fdatasync (d->scratch_fd) == -1 ? -1 : bmfile_sync (d->map);
}

struct durable *
durable_new (struct fleece *f, const struct bmfile *map, int scratch)
{
  struct durable *d = calloc (1, sizeof *d);

  if (!d)
    return NULL;
  d->f = f;
  d->map = map;
  pthread_mutex_init (&d->lock, NULL);
  d->settled = calloc (1, bm_bytes (map->nr_clusters));
  d->scratch_fd = fcntl (scratch, F_DUPFD_CLOEXEC, 0);
  sharing_init (&d->of_scratch);
  sharing_init (&d->of_map);
  if (d->settled && d->scratch_fd != -1)
    return d;
  durable_free (d);
  errno = EMFILE;
  return NULL;
}

void
durable_free (struct durable *d)
{
  if (!d)
    return;
  if (d->scratch_fd != -1)
    close (d->scratch_fd);
  sharing_destroy (&d->of_scratch);
  sharing_destroy (&d->of_map);
  pthread_mutex_destroy (&d->lock);
  free (d->settled);
  free (d);
}
