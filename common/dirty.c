/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Tracking bitmaps of several cluster sizes as one. */

#include <config.h>

#include "dirty.h"

static uint64_t
clusters (uint64_t bytes, unsigned cluster_bits)
{
  return (bytes >> cluster_bits)
    + ((bytes & ((UINT64_C (1) << cluster_bits) - 1)) != 0);
}

void
dirty_add (bm_word *to, unsigned cluster_bits, const struct bmfile *from)
{
  const bm_word *bits = from->bits[0];
  const uint64_t nr = from->nr_clusters;
  uint64_t first, end, stop;

  if (cluster_bits == from->cluster_bits) {
    bm_or (to, bits, nr);
    return;
  }
  for (first = bm_next_set (bits, 0, nr); first < nr;
       first = bm_next_set (bits, end, nr)) {
    end = bm_next_clear (bits, first, nr);
    stop = end << from->cluster_bits;
    if (stop > from->disk_size)
      stop = from->disk_size;
    bm_set_range (to, first << from->cluster_bits >> cluster_bits,
                  clusters (stop, cluster_bits));
  }
}

uint64_t
dirty_bytes (const bm_word *bits, unsigned cluster_bits, uint64_t disk_size)
{
  uint64_t nr = clusters (disk_size, cluster_bits);
  uint64_t bytes = bm_count (bits, 0, nr) << cluster_bits;

  if (bm_test (bits, nr - 1))
    bytes -= (nr << cluster_bits) - disk_size;
  return bytes;
}
