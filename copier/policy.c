/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What an error leads to. */

/* Causes are told apart first:
 *
 *   connection lost      endpoint.c tries to make it again
 *   snapshot has ended   the job fails, whatever the action says
 *   cluster lost or      the job goes on without it and ends INCOMPLETE; told
 *   out of scope         for each cluster, so a longer read that fails like
 *                        that is done again one cluster at a time
 *   anything else        the action of that side:
 *
 *     report   the job fails
 *     stop     the job pauses, saying why; when resumed it tries again
 *     ignore   it is noted and tried again, later and later: a job may still
 *              complete, or go on until it is cancelled
 *     enospc   stop if there is no space left, else report
 *
 * Over NBD a lost cluster reads as EIO, like a disk that is broken.  With a
 * map at hand its lost bit decides.  Without, the cluster counts as lost,
 * unless the user has asked for an action on source errors. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "job.h"

/* Seconds until what was ignored is tried again: the first time, at most. */
#define LATER_FIRST 0.1
#define LATER_MAX 10.

static const char *
side_name (const struct job *job, enum side side)
{
  return side == SIDE_SOURCE ? job->source->name : job->target->name;
}

static void
give_back (struct job *job, uint64_t first, uint64_t end)
{
  if (first < end)
    ledger_give_back (&job->ledger, first, end);
}

static void
try_later (struct job *job, uint64_t first, uint64_t end)
{
  if (job->later.nr == 0) {
    job->later_delay = job->later_delay == 0 ? LATER_FIRST
      : job->later_delay * 2;
    if (job->later_delay > LATER_MAX)
      job->later_delay = LATER_MAX;
    job->later_at = job->now + job->later_delay;
  }
  if (first < end && range_list_add (&job->later, first, end) == -1)
    job_fail (job, "no memory");
}

/* Carries out the action of a side for an error on [first, end), which may be
 * empty. */
static void
act (struct job *job, enum side side, int err, uint64_t first, uint64_t end,
     const struct message *what)
{
  enum error_action action = side == SIDE_SOURCE ? job->opt->on_source_error
    : job->opt->on_target_error;

  if (job->verdict != JOB_CREATED) {
    give_back (job, first, end);
    return;
  }
  if (action == ACTION_ENOSPC)
    action = err == ENOSPC ? ACTION_STOP : ACTION_REPORT;
  if (action == ACTION_IGNORE) {
    job->error = *what;
    job_log (job, "ignored: %s", what->text);
    try_later (job, first, end);
    return;
  }
  give_back (job, first, end);
  if (action == ACTION_REPORT)
    job_fail (job, "%s", what->text);
  else if (job->state != JOB_STOPPED) {
    job->error = *what;
    job_set_state (job, JOB_STOPPED);
  }
}

void
policy_error (struct job *job, enum side side, int err, const char *what)
{
  struct message m;

  message_set (&m, "%s: %s: %s", side_name (job, side), what,
               strerror (err));
  act (job, side, err, 0, 0, &m);
}

static void
act_on_range (struct job *job, enum side side, const char *what,
              uint64_t first, uint64_t end, int err)
{
  struct message m;

  message_set (&m, "%s: %s %llu bytes at %llu: %s", side_name (job, side),
               what,
               (unsigned long long) ledger_length (&job->ledger, first, end),
               (unsigned long long) ledger_offset (&job->ledger, first),
               strerror (err));
  act (job, side, err, first, end, &m);
}

void
policy_lost (struct job *job, uint64_t first, uint64_t end)
{
  job->stats.lost += ledger_length (&job->ledger, first, end);
  if (range_list_add (&job->lost, first, end) == -1)
    job_fail (job, "no memory");
}

/* With a map: whether it says that the cluster cannot be had. */
static bool
map_says_lost (const struct job *job, uint64_t cluster)
{
  const struct ledger *l = &job->ledger;
  struct cluster_range c = map_clusters (&job->map->map,
                                         ledger_offset (l, cluster),
                                         ledger_length (l, cluster,
                                                        cluster + 1));
  struct map_run run;

  for (; c.first < c.end; c.first = run.end) {
    run = map_next_run (&job->map->map, c.first, c.end);
    if (run.state == MAP_LOST || run.state == MAP_RELEASED)
      return true;
  }
  return false;
}

/* Whether err means that content cannot be had, for one cluster. */
static bool
is_lost (const struct job *job, uint64_t cluster, int err)
{
  if (err == EPERM || err == ENODATA)
    return true;
  if (err != EIO || job->source->tells_lost)
    return false;
  if (job->map)
    return map_says_lost (job, cluster);
  return !job->opt->source_action_given;
}

/* Whether err may mean that for a part of the range. */
static bool
may_be_lost (const struct job *job, int err)
{
  if (job->expected)            /* an extent is read as a whole */
    return false;
  return err == EPERM || err == ENODATA
    || (err == EIO && !job->source->tells_lost
        && (job->map || !job->opt->source_action_given));
}

void
policy_source_error (struct job *job, uint64_t first, uint64_t end, int err)
{
  bool gone = job->map && !map_is_active (&job->map->map);

  /* A server that is being stopped says ESHUTDOWN too, and may come back. */
  if (err == ENOTCONN || (err == ESHUTDOWN && !gone && !job->source->reader)) {
    give_back (job, first, end);
    endpoint_lost (job, SIDE_SOURCE);
  }
  else if (err == ESHUTDOWN || gone) {
    give_back (job, first, end);
    job_fail (job, "%s: the snapshot has ended", job->source->name);
  }
  else if (end - first > 1 && may_be_lost (job, err)) {
    if (range_list_add (&job->single, first, end) == -1)
      job_fail (job, "no memory");
  }
  else if (end - first == 1 && err == EPERM && job->comparison) {
    flush_skipped (job, first, end); /* it was never in scope */
  }
  else if (end - first == 1 && !job->expected && is_lost (job, first, err))
    policy_lost (job, first, end);
  else
    act_on_range (job, SIDE_SOURCE, "reading", first, end, err);
}

void
policy_target_error (struct job *job, uint64_t first, uint64_t end, int err)
{
  if (err == ENOTCONN || err == ESHUTDOWN) {
    give_back (job, first, end);
    endpoint_lost (job, SIDE_TARGET);
  }
  else
    act_on_range (job, SIDE_TARGET, job->comparison ? "comparing" : "writing",
                  first, end, err);
}

/* Makes what was ignored WANTED again when its time has come. */
void
policy_turn (struct job *job)
{
  uint64_t first, end;

  if (job->later.nr == 0)
    return;
  if (job->now < job->later_at) {
    job_wake_in (job, job->later_at - job->now);
    return;
  }
  while (range_list_take (&job->later, UINT64_MAX, &first, &end))
    ledger_give_back (&job->ledger, first, end);
}
