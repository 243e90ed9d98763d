/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Contexts of our own into what is below the filter. */

#ifndef NBDFLEECE_NEXT_H
#define NBDFLEECE_NEXT_H

#include <stdbool.h>

#include <nbdkit-filter.h>

/* Asks next for its size and all that it can, once: nbdkit insists that this
 * comes before any request, and a client need not have asked.  Returns the
 * size in bytes, or -1 with the error logged. */
extern int64_t next_negotiate (nbdkit_next *next, bool readonly);

/* A context that no client's connection belongs to, ready for requests.  NULL
 * with the error logged. */
extern nbdkit_next *next_open (nbdkit_backend *backend, bool readonly);
extern void next_close (nbdkit_next *next);

#endif /* NBDFLEECE_NEXT_H */
