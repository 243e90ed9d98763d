/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Flushes of the target, and what only a flush allows. */

/*   IDLE ──due──▶ TARGET ──flushed──▶ RELEASE ──▶ IDLE
 *
 * One flush at a time.  It covers the clusters that were drained when it
 * began; writing goes on meanwhile.  Only when the target has answered, on the
 * connection on which all of it was written, are
 *
 *   1. the bits in the copy bitmap cleared (and that flushed, if the snapshot
 *      is to outlast a crash of the host),
 *   2. the clusters released in the map (no guest write copies them any more),
 *   3. and their old content punched out of the scratch.
 *
 * In this order, so that a copier that is killed in between leaves clusters
 * that are done and not released, which the next one releases at its start
 * (release_rest), and never one that is released and not done.
 *
 * A target that cannot flush has nothing to ask: what it has answered is
 * taken for durable, and the report says so. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "broken.h"
#include "job.h"

/* When a flush is due: so many bytes or ranges, or --flush-interval after the
 * last one.  With the scratch above its watermark fewer bytes are enough, and
 * fewer still if the limit is low: what waits for a flush fills it. */
#define DUE_BYTES (UINT64_C (1) << 30)
#define DUE_BYTES_PRESSED (16 * 1024 * 1024)
#define DUE_OF_LIMIT 8          /* a part of it */
#define DUE_RANGES 65536

static bool
due_by_pressure (const struct job *job)
{
  uint64_t due = job->opt->scratch_limit / DUE_OF_LIMIT;

  if (due > DUE_BYTES_PRESSED)
    due = DUE_BYTES_PRESSED;
  return job->ledger.drained_bytes >= due && plan_pressed (job);
}

static void
released (struct io *io)
{
  struct job *job = io->owner;

  if (io->error)
    job_log (job, "scratch: %s", strerror (io->error));
  loop_io_free (io);
  range_list_clear (&job->flush.releasing);
  job->flush.state = FLUSH_IDLE;
}

/* The clusters of the map that lie wholly in the range: the copy bitmap may
 * have smaller ones.  The last one of the disk may be short. */
static struct cluster_range
released_range (const struct job *job, const struct range *r)
{
  const struct ledger *l = &job->ledger;
  const struct bmfile *map = &job->map->map;
  uint64_t offset = ledger_offset (l, r->first);
  struct cluster_range c = map_clusters (map, offset,
                                         ledger_length (l, r->first, r->end));

  if (c.first < c.end && map_offset (map, c.first) < offset)
    c.first++;
  if (r->end < l->nr_clusters && c.first < c.end
      && map_offset (map, c.end) > ledger_offset (l, r->end))
    c.end--;
  return c;
}

/* After a crash of the host, a cluster that is released must not be wanted: it
 * could not be read any more. */
static int
settle_delivered (const struct job *job)
{
  const struct bmfile *copy = &job->ledger.copy;

  return copy->fixed && map_is_durable (&job->map->map)
    && !BROKEN (DELIVERED_NOT_FLUSHED) ? bmfile_sync (copy) : 0;
}

static int
release (struct job *job, const struct range_list *l)
{
  struct cluster_range c;
  size_t i;
  int r = 0;

  if (settle_delivered (job) == -1)
    return -1;
  FAILPOINT ("L2");
  for (i = 0; i < l->nr; i++) {
    c = released_range (job, &l->list[i]);
    map_release (&job->map->map, c.first, c.end);
  }
  if (map_settle_release (&job->map->map) == -1)
    return -1;
  for (i = 0; i < l->nr; i++) {
    c = released_range (job, &l->list[i]);
    if (c.first < c.end && mapfile_punch (job->map, c.first, c.end) == -1)
      r = -1;
  }
  return r;
}

static int
run_release (struct io *io)
{
  struct job *job = io->owner;

  return release (job, &job->flush.releasing);
}

/* Releases flush.releasing, on a thread. */
static int
start_release (struct job *job)
{
  struct io *io = loop_io (job->loop, released, job);

  if (!io)
    return -1;
  job->flush.state = FLUSH_RELEASE;
  io->run = run_release;
  pool_submit (job->pool, io);
  return 0;
}

/* What the target may have lost is copied again. */
static void
take_back (struct job *job)
{
  uint64_t bytes = ledger_lost (&job->ledger);

  if (job->digests)
    digests_lost (job->digests);
  job->stats.done -= bytes;
  job->stats.recopied += bytes;
}

static void
flushed (struct job *job)
{
  FAILPOINT ("L0+");
  if (job->digests && digests_flushed (job->digests) == -1) {
    job->flush.state = FLUSH_IDLE;
    take_back (job);
    job_fail (job, "%s.part: manifest: %s", job->digests->path,
              strerror (errno));
    return;
  }
  if (BROKEN (RELEASE_EARLY) && job->opt->release)
    release (job, &job->ledger.flushing);
  FAILPOINT ("L1");
  ledger_flushed (&job->ledger, &job->flush.releasing);
  FAILPOINT ("L1+");
  job_log (job, "flushed, %llu bytes delivered",
           (unsigned long long) job->ledger.delivered);
  job->flush.state = FLUSH_IDLE;
  if (!job->opt->release)
    range_list_clear (&job->flush.releasing);
  else if (start_release (job) == -1)
    job_fail (job, "no memory");
}

int
flush_release_rest (struct job *job)
{
  const struct ledger *l = &job->ledger;
  uint64_t a, b;

  /* Nothing is TAKEN yet. */
  for (a = 0; a < l->nr_clusters; a = ledger_run_end (l, NULL, b,
                                                        l->nr_clusters)) {
    b = ledger_find (l, NULL, a, l->nr_clusters);
    if (a < b && range_list_add (&job->flush.releasing, a, b) == -1)
      return -1;
    if (b == l->nr_clusters)
      break;
  }
  return job->flush.releasing.nr > 0 ? start_release (job) : 0;
}

static void
flush_done (struct io *io)
{
  struct job *job = io->owner;
  int error = io->error;

  loop_io_free (io);
  if (error == 0 && job->flush.generation == job->generation) {
    flushed (job);
    return;
  }
  job->flush.state = FLUSH_IDLE;
  if (error == ENOTCONN)
    endpoint_lost (job, SIDE_TARGET);
  if (error == 0 || error == ENOTCONN)
    return;                     /* endpoint_lost has taken all back */
  take_back (job);
  policy_error (job, SIDE_TARGET, error, "flushing");
}

static void
start_flush (struct job *job)
{
  struct io *io = loop_io (job->loop, flush_done, job);

  if (!io) {
    job_fail (job, "no memory");
    return;
  }
  FAILPOINT ("L0");
  ledger_flush_begin (&job->ledger);
  if (job->digests)
    digests_flush_begin (job->digests);
  job->flush.state = FLUSH_TARGET;
  job->flush.generation = job->generation;
  job->flush.last = job->now;
  if (job->target->can_flush)
    job->target->ops->flush (job->target, io);
  else
    loop_complete (io, 0);
}

void
flush_turn (struct job *job, bool all)
{
  const struct ledger *l = &job->ledger;
  bool durable = job->opt->copy_bitmap || job->opt->release;
  double due = job->flush.last + job->opt->flush_interval_ms / 1000.;

  if (job->flush.state != FLUSH_IDLE || l->drained.nr == 0)
    return;
  if (all || l->drained.nr >= DUE_RANGES
      || (durable && (job->now >= due || l->drained_bytes >= DUE_BYTES))
      || due_by_pressure (job))
    start_flush (job);
  else if (durable)
    job_wake_in (job, due - job->now);
}

void
flush_drained (struct job *job, uint64_t first, uint64_t end)
{
  if (ledger_drained (&job->ledger, first, end) == -1)
    job_fail (job, "no memory");
  job->stats.done += ledger_length (&job->ledger, first, end);
  job->later_delay = 0;
}

void
flush_skipped (struct job *job, uint64_t first, uint64_t end)
{
  struct manifest_extent e = {
    ledger_offset (&job->ledger, first),
    ledger_length (&job->ledger, first, end),
    job->skip_holes ? EXTENT_LEFT_OUT : EXTENT_ZERO, { 0 }
  };

  if (job->digests && digests_drained (job->digests, &e) == -1)
    job_fail (job, "no memory");
  job->stats.skipped += e.length;
  flush_drained (job, first, end);
}
