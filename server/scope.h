/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Snapshots of what has changed since a checkpoint. */

#ifndef NBDFLEECE_SCOPE_H
#define NBDFLEECE_SCOPE_H

#include "checkpoint.h"
#include "snapshot.h"

/* Releases, of a snapshot that has just begun, all that has not changed since
 * the checkpoint `since'.  own: the checkpoint made at its instant, or NULL.
 * done is called once, never from within; with NULL, or why it did not work,
 * and then more or less of it is released.  The snapshot stays meanwhile. */
typedef void (*scope_limited) (void *opaque, const struct failure *failure);
extern void scope_limit (struct snapshot *s, const char *since,
                         const struct checkpoint *own, scope_limited done,
                         void *opaque);

#endif /* NBDFLEECE_SCOPE_H */
