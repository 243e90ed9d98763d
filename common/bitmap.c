/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Word-at-a-time scans and updates of shared bitmaps. */

#include <config.h>

#include "bitmap.h"

/* Model: cow W1 R1 R3. */
static uint64_t
load (const bm_word *bm, uint64_t w)
{
  return atomic_load_explicit (&bm[w], memory_order_acquire);
}

/* Model: cow W3, release L2, begin T1, activity A2. */
uint64_t
bm_set_range (bm_word *bm, uint64_t first, uint64_t end)
{
  uint64_t w, changed = 0;

  if (first >= end)
    return 0;
  for (w = first / 64; w <= (end - 1) / 64; w++) {
    uint64_t mask = bm_mask (w, first, end);

    /* Do not take the cache line from its readers to change nothing. */
    if ((load (bm, w) & mask) == mask)
      continue;
    changed += __builtin_popcountll
      (mask & ~atomic_fetch_or_explicit (&bm[w], mask, memory_order_seq_cst));
  }
  return changed;
}

/* Model: release L1, activity C5. */
uint64_t
bm_clear_range (bm_word *bm, uint64_t first, uint64_t end)
{
  uint64_t w, changed = 0;

  if (first >= end)
    return 0;
  for (w = first / 64; w <= (end - 1) / 64; w++) {
    uint64_t mask = bm_mask (w, first, end);

    if ((load (bm, w) & mask) == 0)
      continue;
    changed += __builtin_popcountll
      (mask & atomic_fetch_and_explicit (&bm[w], ~mask, memory_order_seq_cst));
  }
  return changed;
}

bool
bm_all_set (const bm_word *bm, uint64_t first, uint64_t end)
{
  return bm_next_clear (bm, first, end) == end;
}

/* flip is 0 to look for set bits, all ones to look for clear ones. */
static uint64_t
next (const bm_word *bm, uint64_t first, uint64_t end, uint64_t flip)
{
  uint64_t w;

  if (first >= end)
    return end;
  for (w = first / 64; w <= (end - 1) / 64; w++) {
    uint64_t bits = (load (bm, w) ^ flip) & bm_mask (w, first, end);

    if (bits)
      return w * 64 + __builtin_ctzll (bits);
  }
  return end;
}

uint64_t
bm_next_set (const bm_word *bm, uint64_t first, uint64_t end)
{
  return next (bm, first, end, 0);
}

uint64_t
bm_next_clear (const bm_word *bm, uint64_t first, uint64_t end)
{
  return next (bm, first, end, UINT64_MAX);
}

uint64_t
bm_count (const bm_word *bm, uint64_t first, uint64_t end)
{
  uint64_t w, count = 0;

  if (first >= end)
    return 0;
  for (w = first / 64; w <= (end - 1) / 64; w++)
    count += __builtin_popcountll (load (bm, w) & bm_mask (w, first, end));
  return count;
}

/* Model: none; `from' is frozen, or may be missed. */
void
bm_or (bm_word *to, const bm_word *from, uint64_t nr_bits)
{
  uint64_t w;

  for (w = 0; w < bm_bytes (nr_bits) / 8; w++) {
    uint64_t bits = load (from, w);

    if (bits)
      atomic_fetch_or_explicit (&to[w], bits, memory_order_seq_cst);
  }
}
