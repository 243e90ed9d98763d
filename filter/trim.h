/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Trims that wait until nobody needs the old content (trim: defer). */

#ifndef NBDFLEECE_TRIM_H
#define NBDFLEECE_TRIM_H

#include "fleece.h"

/* Starts the thread that issues them.  NULL, with the error logged. */
extern struct trim *trim_new (struct fleece *f);

/* Ends it; what is still deferred is forgotten: a trim is advice. */
extern void trim_free (struct trim *t);

/* Before a write or zero request, inside the gate: forgets the trims that the
 * request overwrites and keeps later ones away until trim_leave.  False if
 * there is nothing to look after, and then trim_leave must not be called. */
extern bool trim_enter (struct trim *t, const struct snapset *set,
                        struct inflight_range *range,
                        uint64_t offset, uint64_t count);
extern void trim_leave (struct trim *t, struct inflight_range *range);

/* The guest's trim, inside the gate: issues it where no snapshot of set needs
 * the content any more, remembers it for the whole clusters where one does,
 * and drops it on the rest.  Returns 0, or -1 and *err. */
extern int trim_request (struct trim *t, const struct snapset *set,
                         nbdkit_next *next, uint64_t offset, uint64_t count,
                         uint32_t flags, int *err);

#endif /* NBDFLEECE_TRIM_H */
