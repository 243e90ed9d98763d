/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Atomic bitmaps in memory that several processes share. */

/* A bitmap is an array of 64-bit words in host order, mapped from a file
 * (see bmfile.h) or from the heap.  Any thread of any process may read any
 * word at any time; nobody locks.
 *
 * Bits only ever rise while a bitmap is in use (see map.h for the one order
 * in which they may), so a reader that sees a bit set may rely on all that
 * the setter did before it: bm_set_range is a release, bm_test and the scans
 * are acquires.  Where the *absence* of a bit is relied on, as in the reader
 * and in the writer's check, a full fence stands in the caller, next to the
 * comment that names its partner.
 *
 * Ranges are [first, end) in bits.  Callers keep end within the bitmap; words
 * past the last bit of a bitmap do not exist and bits past it are zero.
 */

#ifndef NBDFLEECE_BITMAP_H
#define NBDFLEECE_BITMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic uint64_t bm_word;

/* Bytes of a bitmap of nr_bits bits, a whole number of words. */
static inline uint64_t
bm_bytes (uint64_t nr_bits)
{
  return (nr_bits / 64 + (nr_bits % 64 != 0)) * 8;
}

/* The bits of word number w that lie in [first, end). */
static inline uint64_t
bm_mask (uint64_t w, uint64_t first, uint64_t end)
{
  uint64_t mask = UINT64_MAX;

  if (first > w * 64)
    mask &= UINT64_MAX << (first & 63);
  if (end < (w + 1) * 64)
    mask &= UINT64_MAX >> (64 - (end & 63));
  return mask;
}

/* Model: cow W5; release L1. */
static inline bool
bm_test (const bm_word *bm, uint64_t bit)
{
  return atomic_load_explicit (&bm[bit / 64], memory_order_acquire)
    >> (bit & 63) & 1;
}

/* Set or clear [first, end).  Returns how many bits changed. */
extern uint64_t bm_set_range (bm_word *bm, uint64_t first, uint64_t end);
extern uint64_t bm_clear_range (bm_word *bm, uint64_t first, uint64_t end);

/* True if every bit of [first, end) is set. */
extern bool bm_all_set (const bm_word *bm, uint64_t first, uint64_t end);

/* The first bit at or after first that is set (or clear); end if none is. */
extern uint64_t bm_next_set (const bm_word *bm, uint64_t first, uint64_t end);
extern uint64_t bm_next_clear (const bm_word *bm, uint64_t first, uint64_t end);

/* How many bits of [first, end) are set. */
extern uint64_t bm_count (const bm_word *bm, uint64_t first, uint64_t end);

/* to |= from, over nr_bits bits.  Atomic word by word, not as a whole. */
extern void bm_or (bm_word *to, const bm_word *from, uint64_t nr_bits);

#endif /* NBDFLEECE_BITMAP_H */
