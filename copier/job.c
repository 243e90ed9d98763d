/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The job: its states, its turns, its end. */

#include <config.h>

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "job.h"
#include "report.h"

/* How long a job with a verdict waits for what is in flight and for the last
 * flush. */
#define END_SECONDS 10.

/* Bytes under way to begin with, unless four requests are more. */
#define WINDOW_FIRST (4 * 1024 * 1024)

void
job_log (const struct job *job, const char *fmt, ...)
{
  va_list ap;

  if (!job->opt->verbose)
    return;
  va_start (ap, fmt);
  fputs ("nbdfleece-copy: ", stderr);
  vfprintf (stderr, fmt, ap);
  fputc ('\n', stderr);
  va_end (ap);
}

void
job_set_state (struct job *job, enum job_state state)
{
  if (!job_state_may_follow (job->state, state))
    abort ();                   /* a bug; the copy bitmap stays right */
  job_log (job, "%s -> %s%s%s", job_state_name (job->state),
           job_state_name (state), job->error.text[0] ? ": " : "", job->error.text);
  job->state = state;
  if (job->reporter)
    report_now (job);
}

double
monotonic_now (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

void
job_wake_in (struct job *job, double seconds)
{
  if (job->now + seconds < job->wake_at)
    job->wake_at = job->now + seconds;
}

static void
set_verdict (struct job *job, enum job_state verdict)
{
  if (job->verdict != JOB_CREATED || job->state >= JOB_COMPLETED)
    return;
  job->verdict = verdict;
  job->end_by = monotonic_now () + END_SECONDS;
}

void
job_fail (struct job *job, const char *fmt, ...)
{
  va_list ap;
  char text[sizeof job->error.text];

  if (job->verdict != JOB_CREATED)
    return;
  va_start (ap, fmt);
  vsnprintf (text, sizeof text, fmt, ap);
  va_end (ap);
  message_set (&job->error, "%s", text);
  set_verdict (job, JOB_FAILED);
}

void
job_pause (struct job *job)
{
  if (job->state == JOB_CREATED)
    job->pause_first = true;
  else if (job->state == JOB_RUNNING && job->verdict == JOB_CREATED)
    job_set_state (job, JOB_PAUSED);
}

void
job_resume (struct job *job)
{
  job->pause_first = false;
  if (job->verdict != JOB_CREATED
      || (job->state != JOB_PAUSED && job->state != JOB_STOPPED))
    return;
  job->error.text[0] = '\0';
  endpoint_resume (job);
  job_set_state (job, JOB_RUNNING);
}

void
job_cancel (struct job *job)
{
  set_verdict (job, JOB_CANCELLED);
}

void
job_set_speed (struct job *job, uint64_t rate)
{
  job_log (job, "speed %llu", (unsigned long long) rate);
  bucket_set_rate (&job->bucket, rate, monotonic_now ());
}

static void
end (struct job *job, enum job_state state)
{
  job_set_state (job, state);
  loop_stop (job->loop);
}

static bool
idle (const struct job *job)
{
  return job->in_flight == 0 && !job->asking
    && job->flush.state == FLUSH_IDLE
    && job->ends[SIDE_SOURCE].state != END_CONNECTING
    && job->ends[SIDE_TARGET].state != END_CONNECTING;
}

/* A turn of a job that has its verdict. */
static void
turn_to_end (struct job *job)
{
  bool worth = (job->opt->copy_bitmap || job->opt->release)
    && job->ends[SIDE_TARGET].state == END_UP && !job->finishing;

  if (job->ends[SIDE_SOURCE].state == END_CONNECTING)
    job->source->ops->disconnect (job->source);
  if (job->ends[SIDE_TARGET].state == END_CONNECTING)
    job->target->ops->disconnect (job->target);
  if (job->in_flight == 0 && worth)
    flush_turn (job, true);
  if (idle (job) && !job->finishing
      && (!worth || job->ledger.drained.nr == 0))
    end (job, job->verdict);
  else if (job->now >= job->end_by) {
    job->abandoned = !idle (job) || job->finishing;
    end (job, job->verdict);
  }
  else
    job_wake_in (job, job->end_by - job->now);
}

static void
finished (struct io *io)
{
  struct job *job = io->owner;
  int error = io->error;
  struct message why;

  loop_io_free (io);
  job->finishing = false;
  if (job->verdict != JOB_CREATED)
    return;
  if (error)
    job_fail (job, "%s: %s", job->target->name, job->target->why.text[0]
              ? job->target->why.text : strerror (error));
  else if (job->complete
           && job->complete (job, job->stats.lost > 0, &why) == -1)
    job_fail (job, "%s", why.text);
  else if (job->stats.lost > 0) {
    range_list_coalesce (&job->lost);
    message_set (&job->error, "%llu bytes in %zu ranges could not be had from "
                 "the snapshot", (unsigned long long) job->stats.lost,
                 job->lost.nr);
    end (job, JOB_INCOMPLETE);
  }
  else {
    job->error.text[0] = '\0';  /* of what was ignored, and went well later */
    end (job, JOB_COMPLETED);
  }
}

static void
finish (struct job *job)
{
  struct io *io = loop_io (job->loop, finished, job);

  if (!io) {
    job_fail (job, "no memory");
    return;
  }
  job->finishing = true;
  job->target->ops->finish (job->target, io);
}

static void
start_requests (struct job *job)
{
  window_turn (&job->window, job->stats.written, job->now);
  while (job->unused && endpoints_up (job)
         && window_open (&job->window, job->under_way)
         && job->state == JOB_RUNNING && job->verdict == JOB_CREATED) {
    struct step step = plan_next (job);

    switch (step.kind) {
    case STEP_NONE:
    case STEP_WAIT:
      return;
    case STEP_SKIP:
      flush_skipped (job, step.first, step.end);
      break;
    case STEP_LOST:
      policy_lost (job, step.first, step.end);
      break;
    case STEP_DATA:
    case STEP_ZERO:
    case STEP_MOVE:
      request_start (job, &step);
    }
  }
}

/* A turn of a job that is RUNNING, PAUSED, STOPPED or FLUSHING. */
static void
turn_on (struct job *job)
{
  bool done, still;

  endpoint_turn (job);
  policy_turn (job);
  start_requests (job);
  done = job->in_flight == 0 && plan_empty (job);
  if (job->state == JOB_RUNNING && done)
    job_set_state (job, JOB_FLUSHING);
  else if (job->state == JOB_FLUSHING && !done)
    job_set_state (job, JOB_RUNNING);
  still = job->in_flight == 0 && job->state != JOB_RUNNING;
  if (job->ends[SIDE_TARGET].state == END_UP)
    flush_turn (job, still);
  if (job->state == JOB_FLUSHING && job->verdict == JOB_CREATED && done
      && job->ledger.drained.nr == 0 && job->flush.state == FLUSH_IDLE
      && !job->finishing)
    finish (job);
}

static void
job_turn (void *opaque)
{
  struct job *job = opaque;
  double wait;

  if (job->state >= JOB_COMPLETED)
    return;
  job->now = monotonic_now ();
  job->wake_at = INFINITY;
  if (job->verdict == JOB_CREATED)
    turn_on (job);
  if (job->verdict != JOB_CREATED)
    turn_to_end (job);
  if (job->state >= JOB_COMPLETED)
    return;
  report_turn (job);
  ev_timer_stop (job->loop->ev, &job->wake);
  wait = job->wake_at - job->now;
  if (wait < INFINITY) {
    ev_timer_set (&job->wake, wait > 0 ? wait : 0., 0.);
    ev_timer_start (job->loop->ev, &job->wake);
  }
}

/* That the loop wakes up is all. */
static void
woke (struct ev_loop *ev, ev_timer *w, int revents)
{
  (void) ev;
  (void) w;
  (void) revents;
}

int
job_init (struct job *job)
{
  uint64_t cluster = UINT64_C (1) << job->ledger.cluster_bits, first;

  job->state = job->verdict = JOB_CREATED;
  job->now = job->started = job->flush.last = monotonic_now ();
  job->buf_size = job->opt->request_size > cluster ? job->opt->request_size
    : cluster;
  job->extents.disk_size = job->ledger.disk_size;
  job->extents.cluster_bits = job->ledger.cluster_bits;
  /* What the kernel copies has no digest. */
  job->offload = job->source->reader && job->target->ops->move && !job->digests
    ? job->target->offload : OFFLOAD_NONE;
  job->stats.done = job->ledger.delivered;
  bucket_set_rate (&job->bucket, job->opt->speed, job->now);
  ev_timer_init (&job->wake, woke, 0., 0.);
  if (requests_init (job) == -1)
    return -1;
  first = 4 * job->buf_size > WINDOW_FIRST ? 4 * job->buf_size : WINDOW_FIRST;
  window_init (&job->window, first, job->nr_requests * job->buf_size, job->now);
  return job->opt->release ? flush_release_rest (job) : 0;
}

void
job_free (struct job *job)
{
  if (job->loop)
    ev_timer_stop (job->loop->ev, &job->wake);
  requests_free (job);
  extents_free (&job->extents);
  range_list_free (&job->single);
  range_list_free (&job->plain);
  range_list_free (&job->later);
  range_list_free (&job->lost);
  range_list_free (&job->flush.releasing);
}

void
job_run (struct job *job)
{
  job_set_state (job, JOB_RUNNING);
  if (job->pause_first)
    job_pause (job);
  job->loop->turn = job_turn;
  job->loop->opaque = job;
  loop_run (job->loop);
  job->loop->turn = NULL;
}
