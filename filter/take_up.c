/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Taking up what an earlier process left, and leaving it to the next. */

/* The maps that are ACTIVE on disk are taken up before the first client is
 * served, so there is no moment in which a write goes by unseen (what was in
 * flight when the process died had been copied before it was issued).  A map
 * that cannot be trusted is ENDED, with the reason in the file; a tracking
 * bitmap becomes INCONSISTENT.
 *
 * The verdict goes to the file whatever it takes, and to the disk: a reader
 * may have a refused map mapped, and a later start must not find sound what
 * this one has had to leave out.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "activity.h"
#include "actlog.h"
#include "broken.h"
#include "durable.h"
#include "map.h"
#include "scratch.h"
#include "snapshot.h"

/* What a file found at start cannot be used for, and why. */
static void
distrust (struct bmfile *bf, enum bmfile_state state, const char *why)
{
  nbdkit_error ("%s@%s: %s: %s", bf->fixed->export_name, bf->fixed->name,
                state == BMFILE_ENDED ? "the snapshot is lost"
                : "the checkpoint is inconsistent", why);
  snprintf (bf->live->reason, sizeof bf->live->reason, "%s", why);
  atomic_store (&bf->live->state, state);
  if (bmfile_sync_header (bf) == -1)
    nbdkit_error ("%s: cannot be flushed: %m", bf->fixed->name);
}

/* True if both say where the disk is, and one of the places is a file. */
static bool
is_of_another_disk (const struct fleece *f, const struct bmfile *bf)
{
  const char *now = f->options.live, *then = bf->fixed->live;

  return now && then[0] && strcmp (now, then) != 0
    && (strncmp (now, "file:", 5) == 0 || strncmp (then, "file:", 5) == 0);
}

static int
claim (const struct fleece *f, struct bmfile *bf, bool recovered,
       const char **why)
{
  *why = "it is of another disk";
  errno = ESTALE;
  if (is_of_another_disk (f, bf)
      || bmfile_claim (bf, bmfile_live_path (bf), recovered, why) == -1)
    return -1;
  *why = "the disk is smaller than it was";
  errno = ESTALE;
  return f->disk_size < bf->disk_size ? -1 : 0;
}

/* The counter may have been left between a reservation and its write. */
static void
recount_scratch (struct snapshot *s)
{
  struct stat st;

  if (fstat (s->scratch, &st) == 0)
    atomic_store (&s->map.live->scratch_bytes, st.st_blocks * UINT64_C (512));
}

/* A map that is no map to us may still be mapped by a reader that opened it
 * when it was one, and must not take new data for old; a tracking bitmap may
 * be sound, and be found sound the next time, with a gap in it.  So the state
 * in the file is overwritten, and if not even that can be done, it is better
 * not to serve the disk. */
static int
refuse_file (const char *path, enum bmfile_state state, const char *why)
{
  uint32_t word = state;
  struct stat st;
  int fd, r = -1;

  if (lstat (path, &st) == -1) {
    if (errno == ENOENT)
      return 0;                 /* just removed by whoever made it */
  }
  else if (!S_ISREG (st.st_mode))
    return 0;                   /* nobody can have taken it for one */
  nbdkit_error ("%s: %s: the %s is lost", path, why,
                state == BMFILE_ENDED ? "snapshot" : "checkpoint");
  fd = open (path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  if (fd == -1 && errno == ENOENT)
    return 0;
  if (fd != -1
      && pwrite (fd, &word, sizeof word, BMFILE_LIVE_OFFSET
                 + offsetof (struct bmfile_live, state)) == sizeof word
      && fdatasync (fd) == 0)
    r = 0;
  if (r == -1)
    nbdkit_error ("%s: cannot be marked as lost: %m", path);
  if (fd != -1)
    close (fd);
  return r;
}

/* Flushes what the process before has left, so that nothing has to be asked
 * about it any more.  If that process had not come to say that the snapshot
 * outlasts the host (K5), this one does. */
static int
resume_durable (struct fleece *f, struct snapshot *s)
{
  if (!map_is_durable (&s->map)
      || (atomic_load (&s->map.live->flags) & BMFILE_GIVEN_UP))
    return 0;
  if (snapshot_make_durable (f, s) == -1 || durable_resume (s->durable) == -1)
    return -1;
  if (!(atomic_load (&s->map.live->flags) & BMFILE_OUTLASTS))
    durable_begin (s->durable);
  return 0;
}

/* After a crash of the host: what is on disk is whole.  Counters, for people,
 * may not be. */
static bool
has_outlasted (struct bmfile *map)
{
  struct bmfile_live *live = map->live;

  if (!bmfile_has_crashed (map)
      || (atomic_load (&live->flags) & (BMFILE_OUTLASTS | BMFILE_GIVEN_UP))
      != BMFILE_OUTLASTS)
    return false;
  atomic_store (&live->copied_clusters,
                bm_count (map->bits[MAP_COPIED_BITS], 0, map->nr_clusters));
  atomic_store (&live->lost_clusters,
                bm_count (map->bits[MAP_LOST_BITS], 0, map->nr_clusters));
  nbdkit_error ("%s@%s: the host stopped without closing it: its scratch is "
                "durable, and the snapshot goes on",
                map->fixed->export_name, map->fixed->name);
  return true;
}

/* Whoever set it to ENDED may have been killed before that was on disk (K6), and
 * from here on nobody copies for it. */
static int
leave_ended (const struct bmfile *map)
{
  if (!map_is_durable (map) || bmfile_sync_header (map) == 0)
    return 0;
  nbdkit_error ("%s@%s has ended, which cannot be flushed: %m",
                map->fixed->export_name, map->fixed->name);
  return -1;
}

/* 1 if path was taken up, 0 if not (and need not be), -1 on error. */
static int
take_up_map (struct fleece *f, struct snapset *set, const char *path)
{
  struct snapshot *s = snapshot_new ();
  const char *why = "no memory";
  int r = 0;

  if (!s)
    return -1;
  if (bmfile_open (path, true, BMFILE_MAP, &s->map, &why) == -1) {
    snapshot_free (s);
    return refuse_file (path, BMFILE_ENDED, why);
  }
  if (!map_is_active (&s->map))
    r = leave_ended (&s->map);
  else if (claim (f, &s->map, has_outlasted (&s->map), &why) == -1)
    distrust (&s->map, BMFILE_ENDED, why);
  else if ((s->scratch = scratch_open (&s->map, true, true)) == -1
           || bmfile_record_files (&s->map, s->scratch) == -1)
    distrust (&s->map, BMFILE_ENDED, "its scratch is gone or another file");
  else if (set->nr == SNAPSHOTS_MAX)
    distrust (&s->map, BMFILE_ENDED, "too many snapshots");
  else if (resume_durable (f, s) == -1)
    distrust (&s->map, BMFILE_ENDED, "it cannot be flushed");
  else {
    recount_scratch (s);
    set->snapshots[set->nr++] = s;
    return 1;
  }
  snapshot_free (s);
  return r;
}

/* A frozen bitmap that cannot be flushed must not be recovered from a log that
 * goes on without it. */
static void
settle (struct bmfile *tracking)
{
  if (bmfile_settle (tracking) == -1)
    distrust (tracking, BMFILE_INCONSISTENT, "it cannot be flushed");
  tracking_free (tracking);
}

/* After a crash of the host: what the log says may have changed.  True if that
 * makes good what the crash took. */
static bool
recover (struct bmfile *tracking, const struct bmfile *log)
{
  if (!bmfile_has_crashed (tracking) || !actlog_is_bound (tracking, log))
    return false;
  actlog_replay (tracking, log);
  nbdkit_error ("%s@%s: the host stopped without closing it: the regions of "
                "the activity log count as changed",
                tracking->fixed->export_name, tracking->fixed->name);
  return true;
}

/* Two bitmaps are ACTIVE if the process died in the flip or, with an activity
 * log, soon after, when the new one had begun: the older is complete. */
static int
take_tracking (struct snapset *set, struct bmfile *tracking)
{
  struct bmfile *older = set->tracking, *newer = tracking;

  if (older && memcmp (older->live->prev, newer->fixed->uuid, 16) == 0) {
    older = tracking;
    newer = set->tracking;
  }
  set->tracking = newer;
  if (!older)
    return 1;
  /* The host may crash now: then one of them must be found ACTIVE. */
  if (bmfile_sync (newer) == -1) {
    distrust (older, BMFILE_INCONSISTENT, "the next one cannot be flushed");
    tracking_free (older);
    return 1;
  }
  tracking_freeze (older);
  settle (older);
  return 1;
}

static int
take_up_tracking (struct fleece *f, struct snapset *set, const char *path,
                  const struct bmfile *log)
{
  struct bmfile *tracking = calloc (1, sizeof *tracking);
  const char *why;

  if (!tracking)
    return -1;
  if (bmfile_open (path, true, BMFILE_DIRTY, tracking, &why) == -1) {
    tracking_free (tracking);
    return refuse_file (path, BMFILE_INCONSISTENT, why);
  }
  if (atomic_load (&tracking->live->state) == BMFILE_FROZEN) {
    if (!recover (tracking, log) && !bmfile_is_settled (tracking))
      distrust (tracking, BMFILE_INCONSISTENT,
                "the host stopped before it was flushed");
    else if (atomic_load (&tracking->live->clean) != BMFILE_CLEAN) {
      settle (tracking);        /* we died before we had */
      return 0;
    }
  }
  else if (atomic_load (&tracking->live->state) != BMFILE_ACTIVE)
    ;
  else if (claim (f, tracking, recover (tracking, log), &why) == -1
           || (f->disk_size != tracking->disk_size
               && (why = "the disk has another size than it had")))
    distrust (tracking, BMFILE_INCONSISTENT, why);
  else
    return take_tracking (set, tracking);
  tracking_free (tracking);
  return 0;
}

static bool
has_suffix (const char *name, const char *suffix)
{
  size_t n = strlen (name), m = strlen (suffix);

  return n > m && strcmp (name + n - m, suffix) == 0;
}

static int
take_up_all (struct fleece *f, struct snapset *set, DIR *dir,
             const struct bmfile *log)
{
  struct dirent *d;
  int r = 0;

  while (r != -1 && (d = readdir (dir)) != NULL) {
    char *path = NULL;

    if (!has_suffix (d->d_name, ".map") && !has_suffix (d->d_name, ".dirty"))
      continue;
    if (asprintf (&path, "%s/%s", f->options.state, d->d_name) == -1)
      return -1;
    r = has_suffix (d->d_name, ".map") ? take_up_map (f, set, path)
      : take_up_tracking (f, set, path, log);
    free (path);
  }
  return r == -1 ? -1 : 0;
}

/* Frozen bitmaps with no active one after them: changes since then were seen
 * by nobody. */
static int
doubt_frozen (struct fleece *f)
{
  DIR *dir = opendir (f->options.state);
  struct dirent *d;
  int r = 0;

  while (dir && r == 0 && (d = readdir (dir)) != NULL) {
    struct bmfile bf;
    const char *why;
    char *path;

    if (!has_suffix (d->d_name, ".dirty"))
      continue;
    if (asprintf (&path, "%s/%s", f->options.state, d->d_name) == -1)
      r = -1;
    else {
      if (bmfile_open (path, true, BMFILE_DIRTY, &bf, &why) == 0
          && atomic_load (&bf.live->state) == BMFILE_FROZEN)
        distrust (&bf, BMFILE_INCONSISTENT, "tracking was interrupted");
      bmfile_close (&bf);
      free (path);
    }
  }
  if (dir)
    closedir (dir);
  return dir ? r : -1;
}

/* What is left of the log is flushed before it is believed: a process that was
 * killed may have set bits and not flushed them.  A bitmap that is not tracked
 * durably any more must not be recovered from a log that nobody keeps. */
static int
start_log (struct fleece *f, struct bmfile *log)
{
  struct bmfile *tracking = snapset_current (f)->tracking;

  if (f->options.durable_tracking) {
    if (log->fixed && (log->disk_size != f->disk_size
                       || bmfile_sync (log) == -1))
      bmfile_close (log);
    if (!log->fixed && actlog_create (f->options.state, f->options.export_name,
                                      f->disk_size, log) == -1)
      nbdkit_error ("%s/" ACTLOG_NAME ": %m: checkpoints will not outlast a "
                    "crash of the host", f->options.state);
    else
      f->activity = activity_new (f, log);
    if (f->activity && tracking) {
      activity_track (f->activity, tracking);
      activity_bind (f->activity, tracking);
    }
  }
  else
    bmfile_close (log);
  if (f->activity || !tracking)
    return 0;
  actlog_bind (tracking, NULL);
  if (bmfile_sync_header (tracking) == 0)
    return 0;
  nbdkit_error ("%s: cannot be flushed: %m", tracking->fixed->name);
  return -1;
}

int
snapshots_load (struct fleece *f)
{
  struct snapset *set = calloc (1, sizeof *set);
  struct bmfile log = { 0 };
  const char *why;
  DIR *dir;
  int r = 0;

  if (!set) {
    nbdkit_error ("no memory");
    return -1;
  }
  if (f->options.state && !BROKEN (NO_TAKE_UP)) {
    dir = opendir (f->options.state);
    if (!dir) {
      nbdkit_error ("%s: %m", f->options.state);
      free (set);
      return -1;
    }
    if (actlog_open (f->options.state, &log, &why) == -1 && errno != ENOENT)
      nbdkit_error ("%s/" ACTLOG_NAME ": %s", f->options.state, why);
    r = take_up_all (f, set, dir, &log);
    closedir (dir);
    if (r == 0 && !set->tracking)
      r = doubt_frozen (f);
  }
  atomic_store (&f->set, set);
  if (r == -1) {
    nbdkit_error ("the files of snapshots and checkpoints cannot be taken up");
    bmfile_close (&log);
  }
  else
    r = start_log (f, &log);
  if (r == 0 && set->nr > 0)
    nbdkit_debug ("took up %u snapshots", set->nr);
  return r;
}

void
snapshots_unload (struct fleece *f)
{
  struct snapset *set = snapset_current (f);
  unsigned i;

  if (!set)
    return;
  for (i = 0; i < set->nr; i++) {
    struct snapshot *s = set->snapshots[i];

    if (fdatasync (s->scratch) == -1
        || bmfile_release (&s->map, bmfile_live_path (&s->map)) == -1)
      nbdkit_error ("%s@%s: cannot be closed cleanly: %m",
                    s->map.fixed->export_name, s->map.fixed->name);
    snapshot_free (s);
  }
  snapshots_settle (f);
  if (set->tracking) {
    if (bmfile_release (set->tracking, bmfile_live_path (set->tracking)) == -1)
      nbdkit_error ("tracking of %s cannot be closed cleanly: %m",
                    f->options.export_name);
    tracking_free (set->tracking);
  }
  atomic_store (&f->set, NULL);
  free (set);
}

void
snapshots_resized (struct fleece *f, uint64_t before, uint64_t now)
{
  struct gate_ticket ticket = gate_enter (&f->gate);
  struct bmfile *tracking = snapset_current (f)->tracking;

  nbdkit_debug ("the disk had %" PRIu64 " bytes and has %" PRIu64, before, now);
  if (tracking)
    distrust (tracking, BMFILE_INCONSISTENT, "the size of the disk changed");
  gate_leave (&f->gate, ticket);
}
