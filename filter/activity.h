/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Durable tracking: the activity log, while the guest writes. */

#ifndef NBDFLEECE_ACTIVITY_H
#define NBDFLEECE_ACTIVITY_H

#include "fleece.h"

struct activity;

/* Starts logging.  *log is open and flushed, and the activity's from now on;
 * regions that are set in it are active.  NULL on error, logged, with *log
 * closed, or if the disk does not allow it. */
extern struct activity *activity_new (struct fleece *f, struct bmfile *log);

/* Ends the threads.  Tracking files that are not retired are the caller's
 * again. */
extern void activity_free (struct activity *a);

/* A1: before a request is issued, in the gate, after T1 and a full fence; may
 * wait for the log to be flushed.  One atomic load for each region that is
 * active already. */
extern void activity_enter (struct activity *a, uint64_t offset,
                            uint64_t count);

/* The calls below are the control thread's, or come before it runs.
 *
 * A tracking bitmap is tracked from before its first bit rises until it is
 * retired: then it does not change any more and is the activity's, to settle
 * and free.  One that was not begun is dropped: only freed.  activity_track:
 * 0, or -1 and errno. */
extern int activity_track (struct activity *a, struct bmfile *tracking);
extern void activity_retire (struct activity *a, struct bmfile *tracking);
extern void activity_drop (struct activity *a, struct bmfile *tracking);

/* True if the bitmap is bound to the log, and the log still works. */
extern bool activity_covers (struct activity *a, const struct bmfile *tracking);

/* Binds and flushes a bitmap that is tracked and, if it is not bound to the log
 * already, makes sure of what was written before.  On error, which is logged,
 * it is not bound: it does not outlast a crash of the host. */
extern void activity_bind (struct activity *a, struct bmfile *tracking);

#endif /* NBDFLEECE_ACTIVITY_H */
