/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The states of a job, and the ways between them. */

#include <config.h>

#include <string.h>

#include "jobstate.h"

#define TO(state) (1u << (state))
#define TO_BAD_END (TO (JOB_FAILED) | TO (JOB_CANCELLED))

static const struct {
  const char *name;
  unsigned next;                /* states that may follow; none: it has ended */
} states[JOB_STATES] = {
  [JOB_CREATED] = { "created", TO (JOB_RUNNING) | TO_BAD_END },
  [JOB_RUNNING] = { "running", TO (JOB_PAUSED) | TO (JOB_STOPPED)
                    | TO (JOB_FLUSHING) | TO_BAD_END },
  [JOB_PAUSED] = { "paused", TO (JOB_RUNNING) | TO (JOB_STOPPED)
                   | TO_BAD_END },
  [JOB_STOPPED] = { "stopped-on-error", TO (JOB_RUNNING) | TO_BAD_END },
  /* Back to running if what was drained got lost. */
  [JOB_FLUSHING] = { "flushing", TO (JOB_RUNNING) | TO (JOB_STOPPED)
                     | TO (JOB_COMPLETED) | TO (JOB_INCOMPLETE)
                     | TO_BAD_END },
  [JOB_COMPLETED] = { "completed", 0 },
  [JOB_INCOMPLETE] = { "incomplete", 0 },
  [JOB_FAILED] = { "failed", 0 },
  [JOB_CANCELLED] = { "cancelled", 0 },
};

const char *
job_state_name (enum job_state state)
{
  return states[state].name;
}

int
job_state_of_name (const char *name)
{
  int i;

  for (i = 0; i < JOB_STATES; i++)
    if (strcmp (states[i].name, name) == 0)
      return i;
  return -1;
}

bool
job_state_may_follow (enum job_state from, enum job_state to)
{
  return (states[from].next & TO (to)) != 0;
}

enum job_state
job_state_step (enum job_state from, enum job_state to)
{
  unsigned near = TO (to), before = 0, i; /* near: so many steps from `to' */

  while (!(states[from].next & near)) {
    if (near == before)
      return from;
    before = near;
    for (i = 0; i < JOB_STATES; i++)
      if (states[i].next & before)
        near |= TO (i);
  }
  return __builtin_ctz (states[from].next & near);
}
