/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Computations that take too long for the loop. */

#ifndef NBDFLEECE_WORK_H
#define NBDFLEECE_WORK_H

#include "daemon.h"

/* Calls run on a thread of its own, and then done from the loop, never from
 * within this call.  run touches nothing that the loop's thread may touch
 * meanwhile.  The daemon does not end before done has been called. */
extern void work_start (struct daemon *d, void (*run) (void *opaque),
                        void (*done) (void *opaque), void *opaque);

#endif /* NBDFLEECE_WORK_H */
