/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Worker threads for what blocks: local files, directories, children. */

#ifndef NBDFLEECE_POOL_H
#define NBDFLEECE_POOL_H

#include "loop.h"

struct pool;

/* Starts nr threads that serve the loop l.  NULL and errno on error. */
extern struct pool *pool_new (struct loop *l, unsigned nr);

/* Has a thread call io->run (io), then completes io in the loop: with 0, or
 * with errno if it returned -1.  In the order they came, as threads are
 * free. */
extern void pool_submit (struct pool *p, struct io *io);

/* Waits for the threads to finish what they are doing, and ends them.  What
 * they have not begun is dropped.  Harmless on NULL. */
extern void pool_free (struct pool *p);

#endif /* NBDFLEECE_POOL_H */
