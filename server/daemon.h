/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The daemon as a whole: what all parts of it share. */

#ifndef NBDFLEECE_DAEMON_H
#define NBDFLEECE_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <ev.h>

#include "conf.h"
#include "log.h"
#include "setup.h"
#include "user.h"
#include "util.h"

struct backup;
struct control;
struct create;
struct export;
struct hooks;
struct jobs;
struct work;

enum daemon_phase {
  DAEMON_STARTING,              /* until all that is configured runs */
  DAEMON_RUNNING,
  DAEMON_STOPPING,
};

struct daemon {
  /* Set once. */
  struct ev_loop *loop;
  struct log log;
  int verbose;                  /* number of -v */
  const char *config_path;
  struct programs programs;
  struct user user;             /* its name is NULL if there is none */
  struct run_lock lock;
  int64_t started_ns;

  enum daemon_phase phase;
  int status;                   /* what the process will end with */
  struct config *config;        /* replaced as a whole by a reload */
  TAILQ_HEAD (export_list, export) exports; /* order of the configuration,
                                 * then those that are being removed */
  TAILQ_HEAD (create_list, create) creates; /* snapshots being begun */
  TAILQ_HEAD (hooks_list, hooks) hooks; /* of these, and of a daemon before */
  TAILQ_HEAD (work_list, work) works; /* on other threads */
  struct backup *backup;
  struct jobs *jobs;
  struct control *control;
  int caller;                   /* pipe to the process that waits for us to
                                 * be up, or -1 */
  ev_signal term, interrupt, hangup;
  ev_timer start_limit;
};

/* Makes the lists empty.  daemon_run does; this is for who plays it. */
extern void daemon_init (struct daemon *d);

/* Starts everything and runs until it is told to end.  Returns the exit
 * status.  d has config, log, programs and lock. */
extern int daemon_run (struct daemon *d);

/* One of the parts reports: it is up, it could not be started (the first
 * time), it has stopped. */
extern void daemon_part_changed (struct daemon *d);
extern void daemon_part_failed (struct daemon *d, const char *part,
                                const char *reason);

/* Tells everything to end in order.  Returns at once. */
extern void daemon_stop (struct daemon *d);

/* Names of exports that a reload added, removed or changed. */
struct reload {
  struct strings added, removed, changed;
};

/* Reads the configuration again and begins to apply it, or changes nothing.
 * 0, or -1 with *failure.  The caller frees the lists. */
extern int daemon_reload (struct daemon *d, struct reload *result,
                          struct failure *failure);
extern void reload_free (struct reload *result);

#endif /* NBDFLEECE_DAEMON_H */
