/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The pipe that a process has as its stderr: a named one, if it may outlive
 * the daemon. */

#ifndef NBDFLEECE_LOGPIPE_H
#define NBDFLEECE_LOGPIPE_H

#include <ev.h>

#include "log.h"

#define LOGPIPE_LINE 480

struct logpipe {
  struct ev_loop *loop;
  const struct log *log;
  const char *label;            /* the owner's: whose messages these are */
  ev_io io;
  int fd;                       /* -1: not open */
  char line[LOGPIPE_LINE];
  size_t length;
  char last[LOGPIPE_LINE];      /* the last line that looks like an error, or
                                 * else the last line; "" if none */
  int last_is_error;
  unsigned limit, lines;        /* most lines to log (0: all), lines so far */
};

/* Makes the pipe at path unless it is there, and repeats every line that
 * comes out of it in the daemon's log.  0, or -1 and errno. */
extern int logpipe_open (struct logpipe *lp, struct ev_loop *loop,
                         const struct log *log, const char *label,
                         const char *path);

/* The same with the reading end of a pipe, without blocking, which it owns from
 * now on; at most limit lines of all are repeated. */
extern void logpipe_attach (struct logpipe *lp, struct ev_loop *loop,
                            const struct log *log, const char *label, int fd,
                            unsigned limit);

/* Takes what is there of a line without an end for a line, and says how many
 * were not repeated. */
extern void logpipe_finish (struct logpipe *lp);

/* Reads what is there now, so that last is up to date. */
extern void logpipe_drain (struct logpipe *lp);

/* Forgets last. */
extern void logpipe_reset (struct logpipe *lp);

/* Harmless if it is not open (fd -1).  The file stays. */
extern void logpipe_close (struct logpipe *lp);

/* A descriptor for the other process: writing to it never blocks and never
 * fails for want of a reader.  -1 and errno. */
extern int logpipe_writer (const char *path);

#endif /* NBDFLEECE_LOGPIPE_H */
