/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Moving a snapshot to a new instant. */

#ifndef NBDFLEECE_REARM_H
#define NBDFLEECE_REARM_H

#include "snapshot.h"

/* A new snapshot of the same export and name, in files beside those of the old
 * one; in the list, CREATING. */
extern struct snapshot *rearm_new (const struct snapshot *old);

/* The one that waits to take the place of that name, or NULL. */
extern struct snapshot *rearm_find (const struct export *ex, const char *name);

/* It exists: ends the old one, and gives the new one its place; then calls
 * done, never from within. */
extern void rearm_take_place (struct snapshot *new, snapshot_gone done,
                              void *opaque);

/* At start: does that for those that an earlier daemon has left beside. */
extern void rearms_finish (struct daemon *d);

#endif /* NBDFLEECE_REARM_H */
