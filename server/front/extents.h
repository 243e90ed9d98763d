/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Runs of one status, straight from bitmaps. */

#ifndef NBDFLEECE_EXTENTS_H
#define NBDFLEECE_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tracking.h"

/* [start of the run, end) has the flags of one metadata context; bytes. */
struct extent {
  uint64_t end;
  uint32_t flags;
};

/* Clusters that one answer may have to look at, over all bitmaps it unites:
 * 128 MiB of bitmap, some 10 ms.  A longer answer ends there. */
#define EXTENTS_SCAN_MAX (UINT64_C (1) << 30)

/* Bytes from offset on that an answer from nr bitmaps of this cluster size
 * may cover. */
extern uint64_t extents_scan_limit (unsigned cluster_bits, unsigned nr);

/* Where the next run of set bits of one bitmap is; bytes. */
struct dirty_run {
  uint64_t first, end;
};

/* Walks the union of the first nr bitmaps of t, which may have different
 * cluster sizes, from offset on.  runs has room for nr. */
struct dirty_walk {
  const struct tracking *t;
  unsigned nr;
  uint64_t end;                 /* look no further */
  struct dirty_run *runs;
};

extern void dirty_start (struct dirty_walk *w, const struct tracking *t,
                         unsigned nr, struct dirty_run *runs,
                         uint64_t offset, uint64_t end);

/* The longest run of one status from offset on, flags NBD_STATE_DIRTY or 0.
 * offset < w->end, and not before the end of the last run. */
extern struct extent dirty_next (struct dirty_walk *w, uint64_t offset);

/* The same for qemu:allocation-depth of a snapshot: 1 what is in its scratch,
 * 2 what is (or nobody has) behind that. */
extern struct extent depth_next (const struct bmfile *map, uint64_t offset,
                                 uint64_t end);

#endif /* NBDFLEECE_EXTENTS_H */
