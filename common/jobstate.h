/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The states of a job: one table for the copier, whose job it is, and for the
 * daemon, which hears about it. */

/*   CREATED ─▶ RUNNING ◀──────▶ PAUSED ─▶ STOPPED
 *                │  ▲ ◀──────▶ STOPPED (on an error; resume tries again)
 *                ▼  │
 *              FLUSHING ─▶ COMPLETED, or INCOMPLETE if clusters were lost
 *                  └────▶ STOPPED
 *
 *   and from each of them to FAILED and CANCELLED.
 *
 * The copier takes one step of the table at a time.  The daemon hears of them
 * over a pipe that drops lines when it is full, and not at all while it does
 * not run, so it may have to make up for several: it goes the shortest way.
 */

#ifndef NBDFLEECE_JOBSTATE_H
#define NBDFLEECE_JOBSTATE_H

#include <stdbool.h>

enum job_state {
  JOB_CREATED,                  /* its snapshot is being made */
  JOB_RUNNING,
  JOB_PAUSED,
  JOB_STOPPED,                  /* on an error; resume tries again */
  JOB_FLUSHING,
  JOB_COMPLETED,                /* from here on: ended */
  JOB_INCOMPLETE,
  JOB_FAILED,
  JOB_CANCELLED,
};
#define JOB_STATES (JOB_CANCELLED + 1)

/* "stopped-on-error" and so on. */
extern const char *job_state_name (enum job_state state);

/* The state of that name, or -1. */
extern int job_state_of_name (const char *name);

/* Whether there is a step from one to the other. */
extern bool job_state_may_follow (enum job_state from, enum job_state to);

/* The first step of the shortest way; from itself if there is none. */
extern enum job_state job_state_step (enum job_state from, enum job_state to);

#endif /* NBDFLEECE_JOBSTATE_H */
