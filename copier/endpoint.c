/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Connections that are lost, and made again. */

/* A lost connection to the source costs what was being read.  One to the
 * target costs all that the target had not flushed: it is copied again, since
 * it may have been in the memory of a server that is no more.
 *
 * With --retry, connecting is tried again, at once and then with growing
 * pauses, until it succeeds or the time is over; without, and after that, the
 * side's action decides.  A server that is there but refuses us (the export is
 * gone, or too small now) is not asked again. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "job.h"

#define DELAY_FIRST 0.1
#define DELAY_MAX 10.

static const char *
side_why (const struct job *job, enum side side)
{
  const struct message *m = side == SIDE_SOURCE ? &job->source->why
    : &job->target->why;

  return m->text[0] ? m->text : side == SIDE_SOURCE ? job->source->name
    : job->target->name;
}

static bool
side_final (const struct job *job, enum side side)
{
  return side == SIDE_SOURCE ? job->source->final : job->target->final;
}

bool
endpoints_up (const struct job *job)
{
  return job->ends[SIDE_SOURCE].state == END_UP
    && job->ends[SIDE_TARGET].state == END_UP;
}

static bool
may_retry (const struct job *job, enum side side)
{
  return job->opt->retry_ms > 0 && !side_final (job, side)
    && job->now - job->ends[side].lost_at < job->opt->retry_ms / 1000.;
}

/* Gives up on a side, for now or for good. */
static void
give_up (struct job *job, enum side side)
{
  enum error_action action = side == SIDE_SOURCE ? job->opt->on_source_error
    : job->opt->on_target_error;

  if (action == ACTION_STOP && !side_final (job, side)) {
    if (job->state != JOB_STOPPED) {
      message_set (&job->error, "%s", side_why (job, side));
      job_set_state (job, JOB_STOPPED);
    }
  }
  else if (action == ACTION_IGNORE && !side_final (job, side))
    job->ends[side].next_try = job->now + DELAY_MAX;
  else
    job_fail (job, "%s", side_why (job, side));
}

/* After a side went DOWN, or could not be brought UP. */
static void
retry_or_give_up (struct job *job, enum side side)
{
  if (job->verdict != JOB_CREATED)
    return;
  if (may_retry (job, side))
    message_set (&job->error, "%s (trying again)", side_why (job, side));
  else
    give_up (job, side);
}

static void
take_back (struct job *job)
{
  uint64_t bytes = ledger_lost (&job->ledger);

  if (job->digests)
    digests_lost (job->digests);

  job->generation++;
  job->stats.done -= bytes;
  job->stats.recopied += bytes;
  job_log (job, "%llu bytes were not flushed and are copied again",
           (unsigned long long) bytes);
}

void
endpoint_lost (struct job *job, enum side side)
{
  struct endpoint *e = &job->ends[side];

  if (e->state != END_UP)
    return;
  e->state = END_DOWN;
  e->lost_at = e->next_try = job->now;
  e->delay = DELAY_FIRST;
  if (side == SIDE_SOURCE)
    job->source->ops->disconnect (job->source);
  else {
    job->target->ops->disconnect (job->target);
    take_back (job);
  }
  job_log (job, "connection lost: %s", side_why (job, side));
  retry_or_give_up (job, side);
}

static void
try_failed (struct job *job, enum side side)
{
  struct endpoint *e = &job->ends[side];

  e->state = END_DOWN;
  e->next_try = job->now + e->delay;
  e->delay = e->delay * 2 < DELAY_MAX ? e->delay * 2 : DELAY_MAX;
  job_log (job, "%s", side_why (job, side));
  retry_or_give_up (job, side);
}

static void
connect_done (struct job *job, enum side side, struct io *io)
{
  struct endpoint *e = &job->ends[side];
  int error = io->error;

  loop_io_free (io);
  if (error) {
    try_failed (job, side);
    return;
  }
  e->state = END_UP;
  job->error.text[0] = '\0';
  job_log (job, "connected again: %s", side == SIDE_SOURCE
           ? job->source->name : job->target->name);
  if (job->source->size != job->ledger.disk_size)
    job_fail (job, "%s: the size of the source has changed",
              job->source->name);
}

static void
source_connected (struct io *io)
{
  connect_done (io->owner, SIDE_SOURCE, io);
}

static void
target_connected (struct io *io)
{
  connect_done (io->owner, SIDE_TARGET, io);
}

static void
try_again (struct job *job, enum side side)
{
  struct io *io = loop_io (job->loop, side == SIDE_SOURCE ? source_connected
                           : target_connected, job);

  if (!io) {
    job_fail (job, "no memory");
    return;
  }
  job->ends[side].state = END_CONNECTING;
  if (side == SIDE_SOURCE)
    job->source->ops->connect (job->source, io);
  else
    job->target->ops->connect (job->target, io);
}

void
endpoint_turn (struct job *job)
{
  int side;

  if (job->state != JOB_RUNNING && job->state != JOB_FLUSHING)
    return;
  for (side = SIDE_SOURCE; side <= SIDE_TARGET; side++) {
    struct endpoint *e = &job->ends[side];

    if (e->state != END_DOWN || job->verdict != JOB_CREATED)
      continue;
    if (job->now < e->next_try)
      job_wake_in (job, e->next_try - job->now);
    else
      try_again (job, side);
  }
}

void
endpoint_resume (struct job *job)
{
  int side;

  for (side = SIDE_SOURCE; side <= SIDE_TARGET; side++)
    if (job->ends[side].state == END_DOWN) {
      job->ends[side].lost_at = job->ends[side].next_try = monotonic_now ();
      job->ends[side].delay = DELAY_FIRST;
    }
}
