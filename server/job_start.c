/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Beginning jobs: records, snapshots of one instant, copy bitmaps, copiers. */

/* Jobs that are asked for together begin together or not at all.  In order:
 *
 *   1  the records are written, without the uuids of snapshots: a daemon that
 *      finds such a record knows that a snapshot job-ID may exist that belongs
 *      to nobody
 *   2  the snapshots (and checkpoints) are made; as long as the record of
 *      unfinished.h exists, too, the next daemon discards them
 *   3  the copy bitmaps are made.  What has changed since a checkpoint is
 *      looked up now and not before: a write that came between the question
 *      and the flip would be in the snapshot and not in the bitmap
 *   4  the job records get the uuids, and the unfinished one goes; from then
 *      on each job goes on whatever dies
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broken.h"
#include "chain.h"
#include "dirty.h"
#include "export.h"
#include "job.h"
#include "unfinished.h"
#include "work.h"

/* One job's bitmap, in the making on a thread. */
struct marking {
  struct starting *starting;
  struct job *job;
  struct bmfile bitmap;
  struct chain chain;           /* empty: everything is to be delivered */
  bool durable;                 /* it has to outlast a crash of the host */
  int error;                    /* of mark, or 0 */
};

struct starting {
  struct daemon *daemon;
  jobs_started done;
  void *opaque;
  struct failure failure;       /* code is NULL as long as all is well */
  char *record;                 /* of unfinished.h, or NULL */
  struct json_object *report;   /* for whoever asked; of created */
  size_t nr, waiting;           /* jobs; bitmaps or snapshots to wait for */
  struct marking markings[];
};

/* ---------------------------------------------------------------- failure */

static void
remove_record (struct starting *st)
{
  if (st->record)
    unfinished_remove (st->record);
  free (st->record);
  st->record = NULL;
}

/* The end of jobs that never were. */
static void
give_up (struct starting *st)
{
  size_t i;

  for (i = 0; i < st->nr; i++) {
    struct job *job = st->markings[i].job;

    remove_file (job->bitmap_path);
    remove_file (job->record_path);
    job_free (job);
  }
  remove_record (st);
  st->done (st->opaque, &st->failure, NULL, 0, NULL);
  json_object_put (st->report);
  free (st);
}

static void
one_gone (void *opaque)
{
  struct starting *st = opaque;

  if (--st->waiting == 0)
    give_up (st);
}

/* Ends the snapshots, and with them the jobs. */
static void
undo (struct starting *st)
{
  size_t i;

  st->waiting = 1;
  for (i = 0; i < st->nr; i++) {
    struct job *job = st->markings[i].job;
    struct snapshot *s = job->snapshot;

    job_drop_checkpoint (job);
    job->snapshot = NULL;
    if (!s)
      continue;
    s->job = NULL;
    st->waiting++;
    snapshot_end (s, one_gone, st);
  }
  one_gone (st);
}

/* ----------------------------------------------------------------- success */

static void
start_copier (struct job *job)
{
  if (job_has_ended (job) || job->jobs->ending)
    return;                     /* its snapshot was lost; the next daemon's */
  if (job->cancelled)
    job_end (job, JOB_CANCELLED, "");
  else
    job_copier_start (job);
}

static void
finish (struct starting *st)
{
  struct job **jobs = xcalloc (st->nr, sizeof *jobs);
  size_t i;

  for (i = 0; i < st->nr && !st->failure.code; i++) {
    jobs[i] = st->markings[i].job;
    FAILPOINT ("J3");
    if (job_write_record (jobs[i]) == -1)
      failure_set (&st->failure, "failed", "%s: cannot be written",
                   jobs[i]->record_path);
  }
  if (st->failure.code)
    undo (st);
  else {
    FAILPOINT ("J4");
    remove_record (st);
    FAILPOINT ("J4+");
    for (i = 0; i < st->nr; i++)
      start_copier (jobs[i]);
    st->done (st->opaque, NULL, jobs, st->nr, st->report);
    json_object_put (st->report);
    free (st);
  }
  free (jobs);
}

/* ----------------------------------------------------------------- bitmaps */

static void
mark (void *opaque)
{
  struct marking *m = opaque;
  struct bmfile *bitmap = &m->bitmap;

  if (m->chain.nr == 0)
    bm_set_range (bitmap->bits[0], 0, bitmap->nr_clusters);
  else if (chain_add_to (&m->chain, bitmap->bits[0],
                         bitmap->cluster_bits) == -1)
    m->error = errno;
  atomic_store (&bitmap->live->state, BMFILE_ACTIVE);
  /* Without its bits it would say that everything has been delivered. */
  if (m->durable && bmfile_sync (bitmap) == -1)
    m->error = errno;
}

static void
marked (void *opaque)
{
  struct marking *m = opaque;
  struct starting *st = m->starting;

  if (m->error)
    failure_set (&st->failure, "inconsistent", "export %s: checkpoint %s "
                 "cannot be used: a file of the chain is damaged: %s; make a "
                 "full backup", m->job->export_name, m->job->since,
                 strerror (m->error));
  if (m->bitmap.fixed)
    m->job->total = dirty_bytes (m->bitmap.bits[0], m->bitmap.cluster_bits,
                                 m->bitmap.disk_size);
  chain_close (&m->chain);
  bmfile_close (&m->bitmap);
  if (--st->waiting == 0)
    finish (st);
}

/* The files that say what has changed, now that the instant has passed. */
static int
open_chain (struct marking *m, const struct checkpoint *until)
{
  struct job *job = m->job;
  const struct export *ex = job->snapshot->export;
  const struct checkpoint *since;

  if (!job->since)
    return 0;
  since = checkpoint_find (ex, job->since);
  if (since)
    format_uuid (since->file.fixed->uuid, job->since_uuid);
  if (since)
    return chain_check (since, until, job->snapshot->map.disk_size,
                        &m->starting->failure) == -1 ? -1
      : chain_open (since, until, &m->chain, &m->starting->failure);
  failure_set (&m->starting->failure, "unknown-checkpoint", "export %s has no "
               "checkpoint %s", ex->name, job->since);
  return -1;
}

static int
make_bitmap (struct marking *m)
{
  const struct job *job = m->job;
  const struct bmfile *map = &job->snapshot->map;
  struct bmfile_params params = {
    .kind = BMFILE_COPY, .disk_size = map->disk_size,
    .cluster_size = UINT64_C (1) << map->cluster_bits,
    .export_name = job->export_name, .name = job->snapshot_name,
    .durable = map_is_durable (map),
  };

  m->durable = params.durable;
  remove_file (job->bitmap_path);
  if (bmfile_create (job->bitmap_path, &params, &m->bitmap) == 0)
    return 0;
  failure_set (&m->starting->failure, errno == ENOSPC ? "no-space" : "failed",
               "%s: %s", job->bitmap_path, strerror (errno));
  return -1;
}

/* --------------------------------------------------------------- snapshots */

static void
take_snapshot (struct job *job, struct snapshot *s, struct checkpoint *cp)
{
  job->snapshot = s;
  s->job = job;
  format_uuid (s->map.fixed->uuid, job->uuid);
  job->instant_ns = atomic_load (&s->map.live->instant_ns);
  job->total = s->map.disk_size;
  if (cp) {
    cp->job = job;
    format_uuid (cp->file.fixed->uuid, job->checkpoint_uuid);
  }
}

static void
snapshots_made (void *opaque, const struct failure *failure,
                struct created *created)
{
  struct starting *st = opaque;
  const size_t nr = st->nr;     /* st may be gone with the last one marked */
  size_t i;
  int r = 0;

  if (failure) {
    st->failure = *failure;
    give_up (st);
    return;
  }
  st->record = created->record;
  created->record = NULL;
  st->report = json_object_get (created->report);
  for (i = 0; i < nr; i++)
    take_snapshot (st->markings[i].job, created->snapshots[i],
                   created->checkpoints[i]);
  FAILPOINT ("J2");
  for (i = 0; i < nr && r == 0; i++)
    if (open_chain (&st->markings[i], created->checkpoints[i]) == -1
        || make_bitmap (&st->markings[i]) == -1)
      r = -1;
  st->waiting = nr;
  for (i = 0; i < nr; i++)
    if (r == 0)
      work_start (st->daemon, mark, marked, &st->markings[i]);
    else
      marked (&st->markings[i]);
}

void
jobs_start (struct daemon *d, struct job **jobs, size_t nr,
            const struct config_group *const *groups, size_t nr_groups,
            jobs_started done, void *opaque)
{
  struct starting *st = xcalloc (1, sizeof *st + nr * sizeof st->markings[0]);
  struct create_wish *wishes = xcalloc (nr, sizeof *wishes);
  struct create_params params = {
    .wishes = wishes, .nr = nr, .checkpoint = jobs[0]->checkpoint,
    .groups = groups, .nr_groups = nr_groups, .keep_record = true,
  };
  size_t i;

  st->daemon = d;
  st->done = done;
  st->opaque = opaque;
  st->nr = nr;
  for (i = 0; i < nr; i++) {
    st->markings[i] = (struct marking) { .starting = st, .job = jobs[i] };
    jobs[i]->created_ns = now_ns ();
    FAILPOINT ("J1");
    job_write_record (jobs[i]);
    FAILPOINT ("J1+");
    wishes[i] = (struct create_wish) {
      .export = export_find (d, jobs[i]->export_name),
      .name = jobs[i]->snapshot_name, .since = jobs[i]->since,
    };
  }
  snapshots_create (d, &params, snapshots_made, st);
  free (wishes);
}
