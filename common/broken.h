/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Mechanisms that a test build can switch off, and places where it can be
 * killed, to see a test fail and what is left. */

/* A test build is compiled with -DFLEECE_TEST_BUILD; in it the environment
 * variable NBDFLEECE_BROKEN names one of these.  Everywhere else BROKEN () is
 * the constant false and nothing of it is in the object code.
 *
 * $NBDFLEECE_FAILPOINT names a place between two steps, as NAME or NAME:N: the
 * process is killed the first, or the Nth, time that it comes there.  NAME is
 * that of a step (docs/architecture), before it, or with a + after it.  If
 * $NBDFLEECE_FAILPOINT_ONCE names a file, only the process is killed that can
 * remove it: those that are started again inherit the variables. */

#ifndef NBDFLEECE_BROKEN_H
#define NBDFLEECE_BROKEN_H

#include <stdbool.h>

enum broken {
  NOT_BROKEN = 0,
  NO_INFLIGHT,                  /* ranges exclude nobody */
  MARK_BEFORE_COPY,             /* W3 before W2 */
  MARK_AFTER_WRITE,             /* W4 before W3 */
  NO_GATE,                      /* begin without draining */
  NO_LOST,                      /* a failed copy marks nothing */
  NO_DIRTY,                     /* tracking sees nothing */
  DIRTY_AFTER_WRITE,            /* T1 after W4 */
  NO_TAKE_UP,                   /* maps are forgotten at start */
  END_LATE,                     /* E2 before E1 */
  TRIM_AFTER_WRITE,             /* a write leaves deferred trims standing */
  NO_RECHECK,                   /* readers: no R3 */
  NO_LOG,                       /* no A1 */
  LOG_NOT_FLUSHED,              /* A3 waits for nothing */
  LIVE_NOT_FLUSHED,             /* no C3 */
  BITMAPS_NOT_FLUSHED,          /* no C4 */
  NO_GUARD,                     /* a map made shorter ends who looks at it */
  NO_DROP,                      /* processes keep the daemon's rights */
  NO_MERGE,                     /* no M2 */
  SCRATCH_NOT_FLUSHED,          /* no K1 */
  MAP_NOT_FLUSHED,              /* K2 waits for nothing */
  END_NOT_FLUSHED,              /* no K6 */
  RELEASE_NOT_FLUSHED,          /* no K7 */
  DELIVERED_NOT_FLUSHED,        /* L2 does not wait for L1 */
  RELEASE_EARLY,                /* L2 and L3 before L1 */
  FLUSH_TRIED_AGAIN,            /* a failed C4 is nothing to remember */
  KEEP_ENDED,                   /* what has ended stays open */
  FILES_LEFT,                   /* no N3 */
  NAMES_NOT_FLUSHED,            /* nobody waits for a directory */
};

#ifdef FLEECE_TEST_BUILD
extern enum broken broken_mechanism (void);
#define BROKEN(what) (broken_mechanism () == (what))
extern void failpoint (const char *name);
#define FAILPOINT(name) failpoint (name)
#else
#define FAILPOINT(name) ((void) 0)
#define BROKEN(what) ((void) (what), false)
#endif

#endif /* NBDFLEECE_BROKEN_H */
