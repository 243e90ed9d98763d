/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A copy job: all of its state, and who looks after which part. */

/* The job is one struct that belongs to the loop's thread.  Each turn of the
 * loop (loop.h) ends in job_turn, which brings everything on as far as it
 * goes:
 *
 *   endpoint.c   connections that were lost are made again
 *   plan.c       what to do next: reads ledger, extents, limits
 *   request.c    one thing that is being done: read, write, zero, move
 *   flush.c      flushes the target; then clears bits, releases, punches
 *   policy.c     what an error leads to
 *   report.c     progress and result
 *   control.c    commands and signals
 *
 * The states, and all ways from one to another, are in jobstate.h.
 *
 * A job that is to fail or was cancelled first lets what is in flight end, and
 * keeps what a last flush can keep; but not for longer than END_SECONDS.
 */

#ifndef NBDFLEECE_JOB_H
#define NBDFLEECE_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "bucket.h"
#include "compare.h"
#include "digests.h"
#include "extents.h"
#include "jobstate.h"
#include "ledger.h"
#include "loop.h"
#include "mapfile.h"
#include "message.h"
#include "options.h"
#include "pool.h"
#include "range.h"
#include "source.h"
#include "target.h"
#include "window.h"

enum side { SIDE_SOURCE, SIDE_TARGET };

/* One end's connection.
 *
 *   UP ──lost──▶ DOWN ──its time has come──▶ CONNECTING ──▶ UP or DOWN
 */
struct endpoint {
  enum { END_UP, END_DOWN, END_CONNECTING } state;
  double lost_at;               /* when it went DOWN from UP */
  double next_try;
  double delay;                 /* seconds to the try after that */
};

/* Bytes, as in the progress document. */
struct job_stats {
  uint64_t done, read, written, zero, skipped, offloaded, recopied, lost;
};

enum request_state {
  REQUEST_IDLE, REQUEST_READING, REQUEST_WRITING, REQUEST_ZEROING,
  REQUEST_MOVING,
};

/* One run of clusters on its way, and its buffer. */
struct request {
  struct job *job;
  enum request_state state;
  uint64_t first, end;          /* clusters */
  uint64_t offset, count;       /* the same in bytes */
  char *buf;                    /* job->buf_size bytes; NULL until needed */
  bool windowed;                /* counted in job->under_way */
  unsigned pending;             /* I/O under way */
  unsigned generation;          /* job's, when writing began */
  struct manifest_extent digest;
  int error;                    /* the first, of the I/O of this state */
  struct request *next;         /* free list */
};

struct flusher {
  enum { FLUSH_IDLE, FLUSH_TARGET, FLUSH_RELEASE } state;
  unsigned generation;          /* job's, when the flush began */
  struct range_list releasing;  /* clusters, delivered */
  double last;                  /* when the last one began */
};

struct job {
  /* Set once. */
  const struct options *opt;
  struct loop *loop;
  struct pool *pool;
  struct source *source;
  struct target *target;
  struct mapfile *map;          /* or NULL */
  bool goes_on;                 /* an earlier run had reached its target */
  uint64_t buf_size;            /* bytes; a multiple of the cluster size */
  /* Called when the target has been let go of, before the job is COMPLETED, or
   * INCOMPLETE if clusters were lost.  Returns 0, or -1 with why: then it has
   * failed.  Or NULL. */
  int (*complete) (struct job *job, bool lost, struct message *why);
  void *opaque;
  struct comparison *comparison; /* the job compares; else NULL */
  const struct manifest *expected; /* with what; NULL: with the target */
  struct digests *digests;      /* of what is delivered; NULL: not wanted */

  struct ledger ledger;
  enum job_state state;
  enum job_state verdict;       /* FAILED or CANCELLED: the job is to end so;
                                 * else CREATED */
  bool pause_first;             /* was asked for before it ran */
  bool finishing;               /* target->ops->finish was called */
  bool abandoned;               /* ended with I/O still under way */
  double end_by;                /* with a verdict: not later than this */
  struct message error;         /* why FAILED or STOPPED, or what was ignored
                                 * or is tried again; "" if nothing */

  /* endpoint.c */
  struct endpoint ends[2];      /* by enum side */
  unsigned generation;          /* of the target's connection */

  /* plan.c */
  struct extent_list extents;
  bool asking;                  /* extents were asked for */
  bool skip_holes;              /* they are not in the top layer */
  uint64_t pressed_cursor;      /* scratch first: where to look on */
  double pressed_again;         /* and not before this time */
  enum offload offload;         /* what to try; OFFLOAD_NONE in the end */
  struct bucket bucket;
  /* Clusters that are TAKEN and wait: to be read one by one; to be read
   * without extents and without offload; to be WANTED again at later_at. */
  struct range_list single, plain, later;
  double later_at, later_delay;

  /* request.c */
  struct request *requests, *unused;
  unsigned nr_requests, in_flight;
  struct window window;
  uint64_t under_way;           /* bytes of the requests that have data in
                                 * their buffers, or will */

  struct flusher flush;
  struct range_list lost;       /* clusters */

  struct job_stats stats;
  struct reporter *reporter;
  double started;               /* for the average rate */
  double now;                   /* of this turn, seconds, monotonic */
  double wake_at;               /* when the next turn is needed at last */
  ev_timer wake;
};

/* job.c: sets up a job whose source and target are connected and whose ledger
 * is open; the members of the first group and ledger are set.  0, or -1 and
 * errno. */
extern int job_init (struct job *job);
extern void job_free (struct job *job);

/* Runs it to its end. */
extern void job_run (struct job *job);

/* Orders.  Those that do not fit the state do nothing. */
extern void job_pause (struct job *job);
extern void job_resume (struct job *job);
extern void job_cancel (struct job *job);
extern void job_set_speed (struct job *job, uint64_t rate);

/* Ends the job as failed. */
extern void job_fail (struct job *job, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* The only one that changes job->state; says so if verbose. */
extern void job_set_state (struct job *job, enum job_state state);

/* Makes sure of a turn in so many seconds. */
extern void job_wake_in (struct job *job, double seconds);

extern double monotonic_now (void);

/* Says something on stderr if verbose. */
extern void job_log (const struct job *job, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* plan.c */
enum step_kind {
  STEP_NONE,                    /* nothing is WANTED */
  STEP_WAIT,                    /* for extents, or for a time */
  STEP_DATA, STEP_ZERO, STEP_MOVE,
  STEP_SKIP,                    /* zero, and the target is so already */
  STEP_LOST,
};
struct step {
  enum step_kind kind;
  uint64_t first, end;          /* clusters; TAKEN now, unless NONE or WAIT */
};
extern struct step plan_next (struct job *job);
extern bool plan_empty (struct job *job); /* nothing is or will be WANTED */
extern bool plan_pressed (const struct job *job); /* scratch above watermark */

/* request.c: the job has an unused request. */
extern void request_start (struct job *job, const struct step *step);
extern int requests_init (struct job *job);
extern void requests_free (struct job *job);

/* flush.c: begins what is due.  all: whatever has been drained.  If memory
 * runs out the job fails. */
extern void flush_turn (struct job *job, bool all);
extern void flush_drained (struct job *job, uint64_t first, uint64_t end);

/* The same for what is zero there, or need not be there. */
extern void flush_skipped (struct job *job, uint64_t first, uint64_t end);

/* With --release, at the start: releases what is not in the copy bitmap (any
 * more).  0, or -1 and errno ENOMEM. */
extern int flush_release_rest (struct job *job);

/* policy.c: an error of I/O on clusters that are TAKEN. */
extern void policy_source_error (struct job *job, uint64_t first,
                                 uint64_t end, int err);
extern void policy_target_error (struct job *job, uint64_t first,
                                 uint64_t end, int err);
/* An error with no cluster of its own; what says what failed. */
extern void policy_error (struct job *job, enum side side, int err,
                          const char *what);
extern void policy_lost (struct job *job, uint64_t first, uint64_t end);
extern void policy_turn (struct job *job);

/* endpoint.c */
extern void endpoint_lost (struct job *job, enum side side);
extern void endpoint_turn (struct job *job);
extern bool endpoints_up (const struct job *job);
/* Tries again at once, and from now on for as long as --retry says. */
extern void endpoint_resume (struct job *job);

#endif /* NBDFLEECE_JOB_H */
