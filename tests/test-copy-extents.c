/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copier: extents in bytes make the right runs of clusters. */

#include <config.h>

#include "extents.h"
#include "testing.h"

#define DISK 1000
#define BITS 4                  /* clusters of 16 bytes */
#define CLUSTERS ((DISK + 15) / 16)

static enum reader_extent
expect (const enum reader_extent *bytes, uint64_t cluster)
{
  uint64_t i, end = (cluster + 1) * 16 < DISK ? (cluster + 1) * 16 : DISK;
  unsigned n[4] = { 0 };

  for (i = cluster * 16; i < end; i++)
    n[bytes[i]]++;
  if (n[READER_LOST])
    return READER_LOST;
  if (n[READER_FORBIDDEN])
    return READER_FORBIDDEN;
  return n[READER_DATA] ? READER_DATA : READER_HOLE;
}

static void
round_of (struct rng *rng)
{
  enum reader_extent bytes[DISK], type;
  struct extent_list l = { .disk_size = DISK, .cluster_bits = BITS };
  uint64_t pos, n, c, end, first = rng_below (rng, CLUSTERS);
  uint64_t longest = 1 + rng_below (rng, 100);
  unsigned kinds = 2 + rng_below (rng, 3);

  extents_start (&l, first);
  CHECK (l.raw_end == first * 16 && l.end == first);
  while ((pos = l.raw_end) < DISK) {
    n = 1 + rng_below (rng, longest);
    type = rng_below (rng, kinds);
    CHECK (extents_add (&l, n, type) == 0);
    end = pos + n < DISK ? pos + n : DISK;
    CHECK (l.raw_end == end);
    for (; pos < end; pos++)
      bytes[pos] = type;
    /* Only whole clusters, and all of them. */
    CHECK (l.end == (end == DISK ? CLUSTERS : end / 16));
  }
  for (c = first; c < CLUSTERS; c = end) {
    type = extents_find (&l, c, &end);
    CHECK (end > c && end <= CLUSTERS);
    for (n = c; n < end; n++)
      CHECK (expect (bytes, n) == type);
    if (end < CLUSTERS)         /* as long as it can be */
      CHECK (expect (bytes, end) != type);
  }
  extents_free (&l);
}

int
main (void)
{
  struct rng rng = rng_start ();
  int i;

  for (i = 0; i < 20000; i++)
    round_of (&rng);
  return 0;
}
