/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copy-before-write. */

#ifndef NBDFLEECE_COW_H
#define NBDFLEECE_COW_H

#include "fleece.h"

/* Makes sure that nothing of [offset, offset + count) that a snapshot of set
 * still needs is left on the live disk only (W1 to W3 of map.h, for each
 * snapshot), and marks the range dirty.  The caller is inside the gate and
 * issues the request afterwards.  next reads the live disk.  Returns 0; or -1
 * and *err if the request must fail, under break-guest-write. */
extern int cow_before_write (struct fleece *f, const struct snapset *set,
                             nbdkit_next *next, uint64_t offset,
                             uint64_t count, int *err);

/* In a test build with one of the switches that put it after the write. */
extern void cow_too_late (struct fleece *f, const struct snapset *set,
                          nbdkit_next *next, uint64_t offset, uint64_t count);

#endif /* NBDFLEECE_COW_H */
