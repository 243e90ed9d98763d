/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A program that is run to its end, without ever waiting for it. */

#ifndef NBDFLEECE_PROGRAM_H
#define NBDFLEECE_PROGRAM_H

#include <stdint.h>

#include <ev.h>

#include "log.h"

struct program;

/* It has ended: why is NULL if with status 0; else it says in a few words
 * what is wrong, with the last line of its output.  Called once, never from
 * within program_start. */
typedef void (*program_ended) (void *opaque, const char *why);

struct program_params {
  char *const *argv;            /* argv[0] is a path */
  char *const *env;             /* all of its environment */
  const char *label;            /* in the log, before each line of output */
  uint64_t timeout_ms;          /* not 0 */
};

/* Starts it as the leader of a session and process group of its own, in `/',
 * with /dev/null for stdin, its output going to the log.  When the time is up
 * the group gets SIGTERM and soon SIGKILL; one that does not even end then is
 * reported all the same.  Nothing of params is needed after the call. */
extern struct program *program_start (struct ev_loop *loop,
                                      const struct log *log,
                                      const struct program_params *params,
                                      program_ended ended, void *opaque);

/* As if its time were up, but for this reason. */
extern void program_stop (struct program *p, const char *reason);

/* The daemon's environment without what is meant for the daemon alone, and
 * with n more variables, each "NAME=value", which replace those of the same
 * name.  Free it with environment_free. */
extern char **environment_with (const char *const *more, unsigned n);
extern void environment_free (char **env);

#endif /* NBDFLEECE_PROGRAM_H */
