/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Adding up tracking bitmaps, whatever their cluster sizes. */

#ifndef NBDFLEECE_DIRTY_H
#define NBDFLEECE_DIRTY_H

#include "bmfile.h"

/* Sets in `to', a bitmap of the same disk by clusters of 1 << cluster_bits
 * bytes, every cluster that a dirty cluster of `from' touches.  Atomic word by
 * word, not as a whole: a bit that rises in `from' meanwhile may be missed. */
extern void dirty_add (bm_word *to, unsigned cluster_bits,
                       const struct bmfile *from);

/* Bytes that the set bits of a bitmap of the disk stand for. */
extern uint64_t dirty_bytes (const bm_word *bits, unsigned cluster_bits,
                             uint64_t disk_size);

#endif /* NBDFLEECE_DIRTY_H */
