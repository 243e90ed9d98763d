/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Beginning and ending snapshots. */

/* Requests find what they have to look after in an immutable set behind one
 * atomic pointer.  A begin makes a new set and publishes it in the flip, when
 * no request is inside the gate, so the old set can be freed at once.  An end
 * publishes a set without the snapshot while requests go on, and waits for a
 * grace period before it frees; if a request is stuck in the live disk for
 * longer than END_TIMEOUT_MS, set and snapshot are leaked rather than the
 * control thread held.  That is bounded by the requests that are stuck.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "activity.h"
#include "broken.h"
#include "durable.h"
#include "map.h"
#include "scratch.h"
#include "snapshot.h"

#define END_TIMEOUT_MS 10000
#define BY_HAND_TIMEOUT_MS 10000

struct snapset *
snapset_current (const struct fleece *f)
{
  return atomic_load (&f->set);
}

static struct snapset *
copy_set (const struct fleece *f)
{
  struct snapset *set = malloc (sizeof *set);

  if (set)
    *set = *snapset_current (f);
  return set;
}

struct snapshot *
snapshots_find (const struct fleece *f, const uint8_t uuid[16])
{
  struct snapset *set = snapset_current (f);
  unsigned i;

  for (i = 0; i < set->nr; i++)
    if (memcmp (set->snapshots[i]->map.fixed->uuid, uuid, 16) == 0)
      return set->snapshots[i];
  return NULL;
}

static uint64_t
get (const _Atomic uint64_t *p)
{
  return atomic_load_explicit (p, memory_order_relaxed);
}

void
snapshot_count (const struct snapshot *s, struct wire_stats *st)
{
  const struct bmfile_live *live = s->map.live;

  st->copied_clusters += get (&live->copied_clusters);
  st->zero_clusters += get (&live->zero_clusters);
  st->lost_clusters += get (&live->lost_clusters);
  st->scratch_bytes += get (&live->scratch_bytes);
}

/* The flip: runs when no request is inside the gate.  No system call. */
struct flip {
  struct fleece *f;
  struct snapset *set;
  struct snapshot *snapshot;    /* or NULL */
  struct bmfile *old_tracking;  /* to be frozen, or NULL */
  uint64_t disk_size;           /* that the new files were made for */
  int error;                    /* why there was no flip */
  struct bmfile *new_tracking;  /* or NULL */
  int64_t instant_ns;
};

static int64_t
realtime_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_REALTIME, &t);
  return t.tv_sec * INT64_C (1000000000) + t.tv_nsec;
}

/* INCONSISTENT stays what it is. */
void
tracking_freeze (struct bmfile *tracking)
{
  uint32_t active = BMFILE_ACTIVE;

  atomic_compare_exchange_strong (&tracking->live->state, &active,
                                  BMFILE_FROZEN);
}

/* False if whoever made the file has called it off meanwhile, which is done
 * by the same exchange: PREPARED to ENDED. */
static bool
activate (struct bmfile *bf, int64_t instant_ns)
{
  uint32_t prepared = BMFILE_PREPARED;

  atomic_store (&bf->live->instant_ns, instant_ns);
  return atomic_compare_exchange_strong (&bf->live->state, &prepared,
                                         BMFILE_ACTIVE);
}

/* The instant of now.  The order of an export's instants is that of its
 * checkpoints, even if the clock was set back. */
static int64_t
next_instant (const struct bmfile *tracking)
{
  int64_t now = realtime_ns ();
  int64_t last = tracking ? atomic_load (&tracking->live->instant_ns) : 0;

  return now > last ? now : last + 1;
}

/* Links the new bitmap to the one that it follows: who finds the files later
 * sees from that whether one is missing.  Killed in between, the old bitmap
 * and the new one may both be ACTIVE for the next process; snapshots_load
 * knows what that means.  The other order could leave none.  With an activity
 * log the host may crash, too, so there the old one is frozen later. */
static void
flip (void *opaque)
{
  struct flip *fl = opaque;

  fl->error = ESTALE;
  if (atomic_load (&fl->f->disk_size) != fl->disk_size)
    return;
  fl->error = ECANCELED;
  fl->instant_ns = next_instant (snapset_current (fl->f)->tracking);
  if (fl->new_tracking && fl->old_tracking)
    memcpy (fl->new_tracking->live->prev, fl->old_tracking->fixed->uuid,
            sizeof fl->new_tracking->live->prev);
  FAILPOINT ("F1");
  if (fl->snapshot && !activate (&fl->snapshot->map, fl->instant_ns))
    return;
  FAILPOINT ("F2");
  if (fl->new_tracking && !activate (fl->new_tracking, fl->instant_ns)) {
    if (fl->snapshot)
      atomic_store (&fl->snapshot->map.live->state, BMFILE_ENDED);
    return;
  }
  fl->error = 0;
  FAILPOINT ("F3");
  if (fl->old_tracking && !fl->f->activity)
    tracking_freeze (fl->old_tracking);
  FAILPOINT ("F4");
  atomic_store (&fl->f->set, fl->set);
  FAILPOINT ("F4+");
}

/* Whoever asked may have been killed since, and whoever took its place may
 * have removed the files. */
static bool
hung_up (int client)
{
  struct pollfd p = { .fd = client };

  return client != -1 && poll (&p, 1, 0) > 0
    && (p.revents & (POLLHUP | POLLERR));
}

static int
close_and_flip (struct fleece *f, struct flip *fl, uint32_t deadline_ms,
                bool frozen, int client, struct wire_begun *begun)
{
  int r, err;

  if (!frozen && !BROKEN (NO_GATE) && gate_close (&f->gate, deadline_ms) == -1)
    return -1;
  if (hung_up (client)) {
    errno = ECONNRESET;
    r = -1;
  }
  else if (BROKEN (NO_GATE)) {
    flip (fl);
    r = 0;
  }
  else if ((r = gate_flip (&f->gate, flip, fl)) == -1 && !frozen)
    errno = ETIMEDOUT;          /* it drained, and then the time was up */
  if (r == 0 && fl->error) {
    errno = fl->error;
    r = -1;
  }
  err = errno;
  gate_open (&f->gate, &begun->closed_ns, &begun->drain_ns);
  begun->closed_at_ns = f->gate.closed_at;
  begun->instant_ns = fl->instant_ns;
  errno = err;
  return r;
}

/* A frozen bitmap does not change any more, so it can be made safe from the
 * host's crash at once.  If that fails it is not marked, and doubted then. */
void
tracking_settle (struct bmfile *tracking)
{
  if (tracking && bmfile_settle (tracking) == -1)
    nbdkit_error ("checkpoint %s cannot be flushed: %m",
                  tracking->fixed->name);
  tracking_free (tracking);
}

static void
settle_later (struct fleece *f, struct bmfile *tracking)
{
  tracking_settle (f->unsettled);
  f->unsettled = tracking;
}

void
snapshots_settle (struct fleece *f)
{
  settle_later (f, NULL);
}

/* D0; see activity.c. */
static int
track_durably (struct fleece *f, struct flip *fl)
{
  struct bmfile *old = snapset_current (f)->tracking;

  if (!f->activity || !fl->new_tracking)
    return 0;
  if (activity_covers (f->activity, old)
      && old->disk_size == fl->new_tracking->disk_size)
    memcpy (fl->new_tracking->live->log, old->live->log,
            sizeof old->live->log);
  return activity_track (f->activity, fl->new_tracking);
}

/* D1, D2, F3, with the gate open again.  Or, if nothing was begun, the file is
 * the activity's to free. */
static void
bind_durably (struct fleece *f, struct flip *fl, bool begun)
{
  if (!f->activity || !fl->new_tracking)
    return;
  if (!begun) {
    activity_drop (f->activity, fl->new_tracking);
    fl->new_tracking = NULL;
    return;
  }
  activity_bind (f->activity, fl->new_tracking);
  FAILPOINT ("D2+");
  if (fl->old_tracking) {
    tracking_freeze (fl->old_tracking);
    FAILPOINT ("F3+");
    activity_retire (f->activity, fl->old_tracking);
    fl->old_tracking = NULL;
  }
}

static int
begin_with (struct fleece *f, struct flip *fl, uint32_t deadline_ms,
            bool frozen, int client, struct wire_begun *begun)
{
  struct snapset *old = snapset_current (f);
  int err;

  if (fl->snapshot && old->nr == SNAPSHOTS_MAX) {
    errno = EMFILE;
    return -1;
  }
  fl->f = f;
  fl->disk_size = fl->snapshot ? fl->snapshot->map.disk_size
    : fl->new_tracking->disk_size;
  /* So that the stores in the flip find their pages writable. */
  if (fl->snapshot)
    atomic_store (&fl->snapshot->map.live->clean, BMFILE_IN_USE);
  if (fl->new_tracking)
    atomic_store (&fl->new_tracking->live->clean, BMFILE_IN_USE);
  fl->set = copy_set (f);
  if (!fl->set)
    return -1;
  if (fl->snapshot)
    fl->set->snapshots[fl->set->nr++] = fl->snapshot;
  if (fl->new_tracking) {
    fl->old_tracking = old->tracking;
    fl->set->tracking = fl->new_tracking;
  }
  if (track_durably (f, fl) == -1
      || close_and_flip (f, fl, deadline_ms, frozen, client, begun) == -1) {
    err = errno;
    bind_durably (f, fl, false);
    free (fl->set);
    errno = err;
    return -1;
  }
  bind_durably (f, fl, true);
  if (fl->snapshot && fl->snapshot->durable)
    durable_begin (fl->snapshot->durable); /* K4, K5 */
  if (!BROKEN (NO_GATE)) {      /* nobody was inside, nobody has it */
    free (old);
    settle_later (f, fl->old_tracking);
  }
  return 0;
}

int
snapshots_begin (struct fleece *f, const struct wire_request *req,
                 const int *fds, unsigned nr_fds, int client,
                 struct wire_begun *begun)
{
  bool with_map = req->flags & WIRE_BEGIN_SNAPSHOT;
  bool with_tracking = req->flags & WIRE_BEGIN_CHECKPOINT;
  bool frozen = req->flags & WIRE_BEGIN_FROZEN;
  struct flip fl = { 0 };
  int err;

  errno = EINVAL;
  if ((!with_map && !with_tracking)
      || (req->flags & ~(WIRE_BEGIN_SNAPSHOT | WIRE_BEGIN_CHECKPOINT
                         | WIRE_BEGIN_FROZEN))
      || nr_fds != 2u * with_map + with_tracking)
    goto failed;
  if (with_map) {
    fl.snapshot = snapshot_new ();
    if (!fl.snapshot || snapshot_open (f, fds[0], fds[1],
                                       fl.snapshot) == -1)
      goto failed;
  }
  if (with_tracking) {
    fl.new_tracking = tracking_open (f, fds[2 * with_map]);
    if (!fl.new_tracking)
      goto failed;
  }
  if (begin_with (f, &fl, req->deadline_ms, frozen, client, begun) == 0)
    return 0;

 failed:
  err = errno;
  snapshot_free (fl.snapshot);
  tracking_free (fl.new_tracking);
  if (frozen)
    gate_open (&f->gate, NULL, NULL);
  errno = err;
  return -1;
}

/* Publishes a set that lacks something, and waits until the old one can be
 * freed.  True if it could. */
static bool
replace_set (struct fleece *f, struct snapset *set)
{
  struct snapset *old = atomic_exchange (&f->set, set);

  if (gate_synchronize (&f->gate, END_TIMEOUT_MS) == -1)
    return false;
  free (old);
  return true;
}

int
snapshots_end (struct fleece *f, const uint8_t uuid[16])
{
  struct snapshot *s = snapshots_find (f, uuid);
  struct snapset *set;
  unsigned i;
  bool unused;

  if (!s) {
    errno = ENOENT;
    return -1;
  }
  FAILPOINT ("E1");
  if (!BROKEN (END_LATE))
    atomic_store (&s->map.live->state, BMFILE_ENDED); /* E1 */
  if (s->durable && durable_flush_header (s->durable) == -1)
    return -1;                  /* K6; it goes on being copied for */
  set = copy_set (f);
  if (!set)
    return -1;
  for (i = 0; set->snapshots[i] != s; i++)
    ;
  set->snapshots[i] = set->snapshots[--set->nr];
  FAILPOINT ("E2");
  unused = replace_set (f, set); /* E2 */
  FAILPOINT ("E2+");
  snapshot_count (s, &f->ended);
  if (BROKEN (END_LATE))
    atomic_store (&s->map.live->state, BMFILE_ENDED);
  if (unused && !BROKEN (KEEP_ENDED))
    snapshot_free (s);
  return 0;
}

int
snapshots_untrack (struct fleece *f, const uint8_t uuid[16])
{
  static const uint8_t any[16];
  struct bmfile *tracking = snapset_current (f)->tracking;
  struct snapset *set;

  if (!tracking) {
    errno = ENOENT;
    return -1;
  }
  if (memcmp (uuid, any, 16) != 0
      && memcmp (uuid, tracking->fixed->uuid, 16) != 0) {
    errno = ESTALE;
    return -1;
  }
  set = copy_set (f);
  if (!set)
    return -1;
  set->tracking = NULL;
  tracking_freeze (tracking);
  if (!replace_set (f, set))
    return 0;
  if (f->activity)
    activity_retire (f->activity, tracking);
  else
    settle_later (f, tracking);
  return 0;
}

static bool
by_hand_exists (const struct fleece *f)
{
  struct snapset *set = snapset_current (f);
  unsigned i;

  for (i = 0; i < set->nr; i++)
    if (strcmp (set->snapshots[i]->map.fixed->name, f->options.snapshot) == 0)
      return true;
  return false;
}

static int
make_by_hand (struct fleece *f, const char *map_path, const char *scratch_path)
{
  struct bmfile_params params = {
    .kind = BMFILE_MAP,
    .disk_size = f->disk_size, .cluster_size = f->cluster_size,
    .export_name = f->options.export_name, .name = f->options.snapshot,
    .live = f->options.live, .scratch = scratch_path,
  };
  struct flip fl = { .snapshot = snapshot_new () };
  struct wire_begun begun;
  int err;

  if (!fl.snapshot)
    return -1;
  if (bmfile_create (map_path, &params, &fl.snapshot->map) == -1) {
    err = errno;
    snapshot_free (fl.snapshot);
    errno = err;
    return -1;
  }
  fl.snapshot->scratch = scratch_create (scratch_path, f->disk_size);
  if (fl.snapshot->scratch != -1
      && bmfile_record_files (&fl.snapshot->map, fl.snapshot->scratch) == 0
      && begin_with (f, &fl, BY_HAND_TIMEOUT_MS, false, -1, &begun) == 0)
    return 0;
  err = errno;
  unlink (map_path);
  if (fl.snapshot->scratch != -1)
    unlink (scratch_path);
  snapshot_free (fl.snapshot);
  errno = err;
  return -1;
}

int
snapshots_begin_by_hand (struct fleece *f)
{
  char *map_path = NULL, *scratch_path = NULL;
  int r = -1;

  if (!f->options.snapshot || by_hand_exists (f))
    return 0;
  if (asprintf (&map_path, "%s/%s.map", f->options.state,
                f->options.snapshot) != -1
      && asprintf (&scratch_path, "%s/%s@%s.scratch", f->options.state,
                   f->options.export_name, f->options.snapshot) != -1)
    r = make_by_hand (f, map_path, scratch_path);
  if (r == -1)
    nbdkit_error ("snapshot %s: %m", f->options.snapshot);
  free (map_path);
  free (scratch_path);
  return r;
}
