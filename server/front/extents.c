/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Runs of one status, straight from bitmaps. */

/* The union of bitmaps is never built: that would be 64 MiB for a client that
 * asks about a large disk.  It is merged as one merges sorted lists.  For each
 * bitmap we hold its next run of set bits; where runs overlap or touch they
 * are one, the gap goes to the nearest first bit.  A bitmap is scanned once
 * for a whole answer, a word at a time.
 *
 * Bits of an ACTIVE bitmap rise meanwhile.  A run found before that is short
 * of them, as if the answer had been given a moment earlier: the clusters in
 * question are not among those that changed before the snapshot.
 */

#include <config.h>

#include "extents.h"
#include "map.h"
#include "nbd.h"

uint64_t
extents_scan_limit (unsigned cluster_bits, unsigned nr)
{
  return (EXTENTS_SCAN_MAX / (nr ? nr : 1)) << cluster_bits;
}

static uint64_t
least (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/* The next run of bitmap i at or after offset; [end, end) if there is none. */
static void
find_run (struct dirty_walk *w, unsigned i, uint64_t offset)
{
  const struct bmfile *bf = &w->t->maps[i];
  struct dirty_run *run = &w->runs[i];
  struct cluster_range r = { 0, 0 };
  uint64_t first, end;

  if (offset < w->end)
    r = map_clusters (bf, offset, w->end - offset);
  first = bm_next_set (bf->bits[0], r.first, r.end);
  end = bm_next_clear (bf->bits[0], first, r.end);
  if (first >= r.end) {
    run->first = run->end = w->end;
    return;
  }
  run->first = map_offset (bf, first);
  if (run->first < offset)
    run->first = offset;
  run->end = least (map_offset (bf, end), w->end);
}

void
dirty_start (struct dirty_walk *w, const struct tracking *t, unsigned nr,
             struct dirty_run *runs, uint64_t offset, uint64_t end)
{
  unsigned i;

  *w = (struct dirty_walk) { .t = t, .nr = nr, .end = end, .runs = runs };
  for (i = 0; i < nr; i++)
    find_run (w, i, offset);
}

/* Takes in what starts at or before *end.  True if that moved *end. */
static bool
extend (struct dirty_walk *w, uint64_t *end)
{
  bool moved = false;
  unsigned i;

  for (i = 0; i < w->nr && *end < w->end; i++) {
    while (w->runs[i].end <= *end && w->runs[i].first < w->end)
      find_run (w, i, w->runs[i].end);
    if (w->runs[i].first <= *end && w->runs[i].end > *end) {
      *end = w->runs[i].end;
      moved = true;
    }
  }
  return moved;
}

struct extent
dirty_next (struct dirty_walk *w, uint64_t offset)
{
  struct extent e = { .end = w->end };
  unsigned i;

  for (i = 0; i < w->nr; i++)
    e.end = least (e.end, w->runs[i].first);
  if (e.end > offset)
    return e;
  e.end = offset;
  e.flags = NBD_STATE_DIRTY;
  while (extend (w, &e.end))
    ;
  return e;
}

struct extent
depth_next (const struct bmfile *map, uint64_t offset, uint64_t end)
{
  struct cluster_range r = map_clusters (map, offset, end - offset);
  struct map_run run = map_next_run (map, r.first, r.end);
  struct extent e = { .flags = run.state == MAP_COPIED ? 1 : 2 };

  /* All that is not copied is one to whoever reads. */
  while (e.flags == 2 && run.end < r.end) {
    struct map_run next = map_next_run (map, run.end, r.end);

    if (next.state == MAP_COPIED)
      break;
    run.end = next.end;
  }
  e.end = least (map_offset (map, run.end), end);
  return e;
}
