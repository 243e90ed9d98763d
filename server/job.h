/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One job: for the files of the daemon that deal with jobs. */

#ifndef NBDFLEECE_JOB_H
#define NBDFLEECE_JOB_H

#include "jobs.h"
#include "jobstate.h"
#include "service.h"

struct request;

/* Bytes; what docs/control-protocol.md calls bytes-... */
struct job_counters {
  uint64_t read, written, zero, skipped, offloaded, recopied;
};

/* Somebody who waits for the end. */
struct waiter {
  TAILQ_ENTRY (waiter) entry;
  struct job *job;
  struct request *request;
  bool progress;                /* wants events, too; those that the client
                                 * is too slow for are dropped */
};

enum job_kind {
  JOB_BACKUP,                   /* an export's snapshot to a target */
  JOB_RESTORE,                  /* an image to an export or a target */
  JOB_VERIFY,                   /* is the snapshot what the target has? */
};

struct job {
  TAILQ_ENTRY (job) entry;
  struct jobs *jobs;

  /* Set once, by whoever asked for it. */
  char *id;
  enum job_kind kind;
  char *export_name;            /* NULL: it is about none.  Of a restore: what
                                 * is overwritten */
  char *source;                 /* of a restore: the image; else NULL */
  char *target;                 /* of a restore to an export: its name */
  char *sync;                   /* of a backup; else NULL */
  char *snapshot_name;          /* NULL: it is about none */
  bool allow_incomplete;        /* restore */
  char *backing, *compress;     /* of a backup to qcow2, or NULL */
  char *manifest;               /* to write, or to verify by; or NULL */
  char *since, *checkpoint;     /* names, or NULL */
  int64_t max_requests, connections; /* 0: the copier's choice */
  char *on_source_error, *on_target_error; /* words */
  int64_t retry_ms;             /* for reconnecting, to either end */
  int64_t created_ns;
  char *record_path, *bitmap_path, *result_path;
  char *progress_path, *control_path;

  uint64_t speed;               /* bytes per second; 0: no limit */
  enum job_state state;
  char error[512];              /* or "" */
  int64_t instant_ns;           /* 0: no snapshot yet */
  int64_t ended_ns;             /* 0: not ended */
  struct snapshot *snapshot;    /* NULL: none yet, or gone */
  char uuid[UUID_SIZE];         /* of it, or "" */
  /* Of checkpoints: the one that it starts from, the one that it makes; or
   * "". */
  char since_uuid[UUID_SIZE], checkpoint_uuid[UUID_SIZE];
  bool cleaned;                 /* ended, and nothing of it is left */

  /* The copier.  It has counters of its own run only; before is the sum of
   * the runs before. */
  struct service copier;
  bool copier_used;             /* copier was initialised */
  struct job_counters before, now;
  uint64_t total, done, lost, per_second; /* bytes; total 0: not known */
  int64_t eta;                  /* seconds, or -1 */
  char offload[24];             /* or "" */
  int64_t first_difference;     /* verify: byte, or -1 */
  uint64_t different, clusters_different; /* verify: bytes, clusters */
  unsigned restarts;            /* by earlier daemons */
  unsigned tries;               /* started without getting any further */
  uint64_t done_at_start;       /* of this try */
  bool cancelled;               /* was asked for */
  bool touched;                 /* a copier may have written more than it has
                                 * told */
  int progress_fd, control_fd;  /* named pipes, or -1 */
  ev_io progress;
  struct json_object *copies;   /* of job_copies.c, or NULL */
  char line[4096];              /* of progress, as far as it has come */
  size_t line_length;
  ev_timer limit;               /* for a cancelled copier to end */

  TAILQ_HEAD (, waiter) waiters;
};

TAILQ_HEAD (job_list, job);

struct jobs {
  struct daemon *daemon;
  char *dir;                    /* STATE/jobs */
  struct job_list list;         /* oldest first */
  uint64_t last_id;
  bool ending;                  /* the daemon ends */
};

extern bool job_has_ended (const struct job *job);

/* Changes the state if that is legal (jobstate.h), says so in the log, writes
 * the record and tells who waits. */
extern void job_set_state (struct job *job, enum job_state state);

/* The job ends so, for this reason ("" if none): deletes its snapshot and
 * files, then tells who waits.  Its copier does not run any more. */
extern void job_end (struct job *job, enum job_state state,
                     const char *error);

/* Something that people are shown has changed. */
extern void job_changed (struct job *job);

/* A job without anything but its names, in the list; and its opposite. */
extern struct job *job_new (struct jobs *jobs, const char *id);
extern void job_free (struct job *job);

/* job_start.c: makes the snapshots of jobs for different exports, all at one
 * instant, and starts the copiers.  done is called once, never from within,
 * with the jobs; or with a failure, when they are gone.  groups: that were
 * named; report: as in struct created, the caller's. */
typedef void (*jobs_started) (void *opaque, const struct failure *failure,
                              struct job **jobs, size_t nr,
                              struct json_object *report);
extern void jobs_start (struct daemon *d, struct job **jobs, size_t nr,
                        const struct config_group *const *groups,
                        size_t nr_groups, jobs_started done, void *opaque);

/* job_record.c: the job object of the control protocol; the record of it on
 * disk; and a job from such a record, in the list, or NULL with *why. */
extern struct json_object *job_json (const struct job *job);
extern int job_write_record (const struct job *job);
extern struct job *job_read_record (struct jobs *jobs, const char *id,
                                    const char **why);

/* job_copier.c */
extern void job_copier_init (struct job *job);
/* Starts it, or takes over one that runs already. */
extern void job_copier_start (struct job *job);
/* Passes an order on.  0, or -1 and errno. */
extern int job_order (struct job *job, const char *command);
extern int job_order_speed (struct job *job, uint64_t speed);
extern void job_cancel (struct job *job);
/* Kills it, if it runs. */
extern void job_copier_free (struct job *job);
/* The daemon ends: the same, but the job has not ended, and it may take a
 * moment: daemon_part_changed is called. */
extern void job_copier_suspend (struct job *job);

/* job_copies.c: what the guest's writes have cost so far, into job->copies, if
 * there is a snapshot. */
extern void job_count_copies (struct job *job);

/* job_checkpoint.c: ties the checkpoint that it makes to the job, so that
 * nobody builds on it, or lets it go. */
extern void job_tie_checkpoint (struct job *job, bool tie);
/* That checkpoint shall not exist: its changes count for the one before. */
extern void job_drop_checkpoint (struct job *job);
/* What the job has not delivered counts as changed since that checkpoint. */
extern void job_keep_undelivered (struct job *job);

/* job_argv.c: the command line of its copier. */
extern void job_argv (const struct job *job, struct strings *argv);

/* job_restore.c: nobody else gets the export of a restore from now on; and the
 * end of that, unless the disk may be half restored, which the job's error is
 * then to say. */
extern int job_keep_out (const struct job *job, struct failure *failure);
extern void job_let_in (struct job *job, enum job_state state);
/* The id of the job whose restore keeps clients out of the export, ended or
 * not, or NULL.  The caller frees it. */
extern char *job_that_keeps_out (const struct export *ex);
/* An export that lets the copier not in: says why in the job's error. */
extern void job_explain (struct job *job);
/* A restore of the export that has not ended, or NULL. */
extern const struct job *jobs_find_restore (const struct jobs *jobs,
                                            const struct export *ex);

/* target.c: can it be copied there, or read from there?  0, or -1 with
 * *failure. */
extern int target_check (const struct jobs *jobs, const char *target,
                         struct failure *failure);
extern int target_check_readable (const char *target,
                                  struct failure *failure);

extern struct job *job_find (const struct jobs *jobs, const char *id);

/* Forgets the oldest of the jobs that have ended, if there are many. */
extern void jobs_prune (struct jobs *jobs);

#endif /* NBDFLEECE_JOB_H */
