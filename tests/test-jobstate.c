/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The states of a job: their names, and that every one that has not ended can
 * get to every end, and no other way. */

#include <config.h>

#include "jobstate.h"
#include "testing.h"

static bool
ended (enum job_state s)
{
  return s >= JOB_COMPLETED;
}

/* Goes the way step by step.  Returns the number of steps, or -1. */
static int
walk (enum job_state from, enum job_state to)
{
  enum job_state s = from, next;
  int n = 0;

  do {
    next = job_state_step (s, to);
    if (next == s)
      return -1;
    CHECK (job_state_may_follow (s, next));
    s = next;
    n++;
    CHECK (n < JOB_STATES);
  } while (s != to);
  return n;
}

int
main (void)
{
  int a, b;

  for (a = 0; a < JOB_STATES; a++) {
    CHECK (job_state_of_name (job_state_name (a)) == a);
    for (b = 0; b < JOB_STATES; b++) {
      if (a == b)
        continue;
      /* Nothing leads out of an end, nor back to the start. */
      CHECK ((walk (a, b) != -1) == (!ended (a) && b != JOB_CREATED));
      CHECK (!job_state_may_follow (a, b) || walk (a, b) == 1);
    }
  }
  CHECK (job_state_of_name ("") == -1 && job_state_of_name ("done") == -1);
  /* A job completes after a flush only. */
  CHECK (walk (JOB_RUNNING, JOB_COMPLETED) == 2);
  CHECK (walk (JOB_PAUSED, JOB_INCOMPLETE) == 3);
  CHECK (walk (JOB_STOPPED, JOB_CANCELLED) == 1);
  CHECK (walk (JOB_STOPPED, JOB_PAUSED) == 2);
  return 0;
}
