/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What to do next. */

/* In this order:
 *
 * 1. what has to be read one cluster at a time, or without offload, because
 *    it failed otherwise;
 * 2. while the scratch is above its watermark: clusters that sit in it, so
 *    that they can be punched out;
 * 3. the first WANTED cluster of the disk and as many after it as are of one
 *    kind, by the source's extents.
 *
 * Extents are asked for in windows, one at a time.  A short run is read
 * without asking: that costs less than the question.  Since a snapshot does
 * not change, an answer stays true; only that a cluster can get lost after it,
 * which reading it will show. */

#include <config.h>

#include <errno.h>

#include "job.h"

#define ASK_FROM (64 * 1024)    /* bytes; shorter runs are just read */
#define REFLINK_MAX (16 * 1024 * 1024)
#define COPY_RANGE_MAX (4 * 1024 * 1024)
#define PRESSED_PAUSE 0.1       /* seconds between searches in vain */

static uint64_t
round_clusters (const struct job *job, uint64_t bytes)
{
  uint64_t n = bytes >> job->ledger.cluster_bits;

  return n > 0 ? n : 1;
}

/* The longest data request now, in clusters. */
static uint64_t
longest (const struct job *job, uint64_t bytes)
{
  uint64_t even = bucket_largest (&job->bucket);

  return round_clusters (job, bytes < even ? bytes : even);
}

/* The end of a data request from first on: where the next one begins at a
 * multiple of the request size, or `max' further on if that is less. */
static uint64_t
data_end (const struct job *job, uint64_t first, uint64_t end)
{
  uint64_t step = round_clusters (job, job->buf_size);
  uint64_t max = longest (job, job->buf_size);
  uint64_t stop = (first / step + 1) * step;

  if (stop > first + max)
    stop = first + max;
  return stop < end ? stop : end;
}

static void
asked (struct io *io)
{
  struct job *job = io->owner;
  int error = io->error;
  bool progress = job->extents.raw_end > io->offset;

  loop_io_free (io);
  job->asking = false;
  if (error == ENOTCONN || error == ESHUTDOWN)
    policy_source_error (job, 0, 0, error);
  else if (error || !progress) {
    job_log (job, "no extents from the source, reading all of it");
    job->source->can_extents = false;
  }
}

static struct step
ask (struct job *job, uint64_t first)
{
  struct extent_list *l = &job->extents;
  struct io *io = loop_io (job->loop, asked, job);
  uint64_t offset = ledger_offset (&job->ledger, first);
  uint64_t left;

  if (!io) {
    job_fail (job, "no memory");
    return (struct step) { .kind = STEP_WAIT };
  }
  /* Unless it is the rest of an answer that ended within the cluster. */
  if (!(l->first == first && l->end == first && l->raw_end > offset))
    extents_start (l, first);
  left = job->ledger.disk_size - l->raw_end;
  io->list = l;
  io->offset = l->raw_end;
  io->count = left < job->source->extents_window ? left
    : job->source->extents_window;
  job->asking = true;
  job->source->ops->extents (job->source, io);
  return (struct step) { .kind = STEP_WAIT };
}

/* 1. */
static bool
plan_waiting (struct job *job, struct step *step)
{
  uint64_t first, end;

  if (range_list_take (&job->single, 1, &first, &end)
      || range_list_take (&job->plain, longest (job, job->buf_size),
                          &first, &end)) {
    *step = (struct step) { STEP_DATA, first, end };
    return true;
  }
  return false;
}

bool
plan_pressed (const struct job *job)
{
  return job->opt->release && job->opt->scratch_limit > 0
    && atomic_load_explicit (&job->map->map.live->scratch_bytes,
                             memory_order_relaxed)
    > job->opt->scratch_limit / 2;
}

/* The first WANTED cluster from `from' on that the scratch has something of.
 * The ledger's clusters may be larger than the map's. */
static uint64_t
find_copied (const struct job *job, uint64_t from)
{
  const struct ledger *l = &job->ledger;
  const struct bmfile *map = &job->map->map;
  const bm_word *copied = map->bits[MAP_COPIED_BITS];
  unsigned shift = l->cluster_bits - map->cluster_bits;
  uint64_t c;

  if (shift == 0)
    return ledger_find (l, copied, from, l->nr_clusters);
  for (c = from; c < l->nr_clusters; c++) {
    uint64_t bit = bm_next_set (copied, c << shift, map->nr_clusters);

    if (bit == map->nr_clusters)
      break;
    c = bit >> shift;
    if (ledger_find (l, NULL, c, c + 1) == c)
      return c;
  }
  return l->nr_clusters;
}

static uint64_t
copied_run_end (const struct job *job, uint64_t first, uint64_t end)
{
  const struct ledger *l = &job->ledger;

  if (l->cluster_bits == job->map->map.cluster_bits)
    return ledger_run_end (l, job->map->map.bits[MAP_COPIED_BITS], first, end);
  return first + 1;
}

/* 2. */
static bool
plan_scratch (struct job *job, struct step *step)
{
  const struct ledger *l = &job->ledger;
  uint64_t c, end;

  if (!plan_pressed (job) || job->now < job->pressed_again
      || job->map->map.cluster_bits > l->cluster_bits)
    return false;
  c = find_copied (job, job->pressed_cursor);
  if (c == l->nr_clusters)
    c = find_copied (job, 0);
  if (c == l->nr_clusters) {
    job->pressed_again = job->now + PRESSED_PAUSE;
    return false;
  }
  end = copied_run_end (job, c, data_end (job, c, l->nr_clusters));
  job->pressed_cursor = end;
  *step = (struct step) { STEP_DATA, c, end };
  return true;
}

static struct step
plan_data (struct job *job, uint64_t first, uint64_t end)
{
  uint64_t max;

  if (job->offload == OFFLOAD_NONE)
    return (struct step) { STEP_DATA, first, data_end (job, first, end) };
  max = longest (job, job->offload == OFFLOAD_REFLINK ? REFLINK_MAX
                 : COPY_RANGE_MAX);
  return (struct step) { STEP_MOVE, first,
                         end - first > max ? first + max : end };
}

static struct step
plan_zero (struct job *job, uint64_t first, uint64_t end)
{
  uint64_t max;

  if (job->target->known_zero || job->skip_holes)
    return (struct step) { STEP_SKIP, first, end };
  if (!job->target->can_zero)
    return (struct step) { STEP_ZERO, first, data_end (job, first, end) };
  max = round_clusters (job, job->target->max_zero);
  return (struct step) { STEP_ZERO, first,
                         end - first > max ? first + max : end };
}

/* By a manifest: an extent of data is read as a whole, since its digest is of
 * all of it.  In one of zeroes *end is cut to it, and false returned. */
static bool
plan_extent (const struct job *job, uint64_t first, uint64_t *end,
             struct step *step)
{
  const struct ledger *l = &job->ledger;
  const struct manifest_extent *e = manifest_find (job->expected,
                                                   ledger_offset (l, first));
  const uint64_t size = UINT64_C (1) << l->cluster_bits;
  uint64_t stop = (e->offset + e->length + size - 1) >> l->cluster_bits;

  if (e->kind == EXTENT_ZERO) {
    if (*end > stop)
      *end = stop;
    return false;
  }
  *step = (struct step) {
    e->kind == EXTENT_DATA ? STEP_DATA : STEP_SKIP, first, stop
  };
  return true;
}

/* 3. */
static struct step
plan_linear (struct job *job)
{
  struct step step;
  struct ledger *l = &job->ledger;
  uint64_t first = ledger_first (l), end, same;
  /* No request is longer: looking for the end of a run costs its length. */
  uint64_t most = round_clusters (job, job->buf_size > REFLINK_MAX
                                  ? job->buf_size : REFLINK_MAX);
  enum reader_extent type = READER_DATA;

  if (first == l->nr_clusters)
    return (struct step) { .kind = STEP_NONE };
  if (job->source->can_extents) {
    bool known = job->extents.nr > 0 && first >= job->extents.first
      && first < job->extents.end;
    uint64_t limit = first + round_clusters (job, ASK_FROM) + 1;

    if (known) {
      type = extents_find (&job->extents, first, &same);
      limit = job->extents.end < same ? job->extents.end : same;
      if (type == READER_DATA && limit - first > most)
        limit = first + most;
    }
    end = ledger_run_end (l, NULL, first, limit);
    if (!known && ledger_length (l, first, end) > ASK_FROM)
      return ask (job, first);
  }
  else
    end = ledger_run_end (l, NULL, first, first + most);
  if (job->expected && plan_extent (job, first, &end, &step))
    return step;
  switch (type) {
  case READER_DATA:
    return plan_data (job, first, end);
  case READER_HOLE:
    return plan_zero (job, first, end);
  case READER_FORBIDDEN:
    if (job->comparison)        /* it was never in scope */
      return (struct step) { STEP_SKIP, first, end };
    break;
  case READER_LOST:
    break;
  }
  return (struct step) { STEP_LOST, first, end };
}

struct step
plan_next (struct job *job)
{
  struct step step = { .kind = STEP_WAIT };
  double wait = bucket_wait (&job->bucket, job->now);
  bool taken;

  if (wait > 0) {
    job_wake_in (job, wait);
    return step;
  }
  taken = plan_waiting (job, &step);
  if (!taken && !plan_scratch (job, &step)) {
    if (job->asking)
      return step;
    step = plan_linear (job);
  }
  if (step.kind == STEP_NONE || step.kind == STEP_WAIT)
    return step;
  if (!taken)
    ledger_take (&job->ledger, step.first, step.end);
  if (step.kind == STEP_DATA || step.kind == STEP_MOVE)
    bucket_take (&job->bucket, ledger_length (&job->ledger, step.first,
                                              step.end), job->now);
  return step;
}

bool
plan_empty (struct job *job)
{
  return !job->asking && job->single.nr == 0 && job->plain.nr == 0
    && job->later.nr == 0
    && ledger_first (&job->ledger) == job->ledger.nr_clusters;
}
