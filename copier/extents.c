/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Extents in bytes made into runs of clusters. */

#include <config.h>

#include <stdlib.h>

#include "extents.h"
#include "range.h"

void
extents_start (struct extent_list *l, uint64_t first)
{
  l->first = l->end = first;
  l->raw_end = first << l->cluster_bits;
  l->nr = 0;
}

static int
push (struct extent_list *l, uint64_t end, enum reader_extent type)
{
  if (l->nr > 0 && l->runs[l->nr - 1].type == type)
    l->runs[l->nr - 1].end = end;
  else {
    if (l->nr == l->allocated) {
      size_t allocated = l->allocated ? l->allocated * 2 : 64;
      struct extent_run *p = realloc (l->runs, allocated * sizeof *p);

      if (!p)
        return -1;
      l->runs = p;
      l->allocated = allocated;
    }
    l->runs[l->nr++] = (struct extent_run) { end, type };
  }
  l->end = end;
  return 0;
}

/* What two parts of one cluster make of it. */
static enum reader_extent
combine (enum reader_extent a, enum reader_extent b)
{
  if (a == b)
    return a;
  if (a == READER_LOST || b == READER_LOST)
    return READER_LOST;
  if (a == READER_FORBIDDEN || b == READER_FORBIDDEN)
    return READER_FORBIDDEN;
  return READER_DATA;
}

int
extents_add (struct extent_list *l, uint64_t count, enum reader_extent type)
{
  const uint64_t size = UINT64_C (1) << l->cluster_bits;
  struct range_iter it = { .pos = l->raw_end, .align = size,
                           .max = UINT64_MAX & -size };
  struct range_piece p;

  if (count > l->disk_size - l->raw_end)
    count = l->disk_size - l->raw_end;
  it.end = l->raw_end + count;
  while (range_next (&it, &p)) {
    if (!p.whole) {
      bool fresh = p.first % size == 0;

      l->part = fresh ? type : combine (l->part, type);
      l->raw_end = p.end;
      if (p.end % size != 0 && p.end != l->disk_size)
        continue;               /* the cluster is not complete yet */
      if (push (l, (p.end + size - 1) >> l->cluster_bits, l->part) == -1)
        return -1;
    }
    else if (push (l, p.end >> l->cluster_bits, type) == -1)
      return -1;
    l->raw_end = p.end;
  }
  return 0;
}

enum reader_extent
extents_find (const struct extent_list *l, uint64_t cluster, uint64_t *end)
{
  size_t low = 0, high = l->nr - 1;

  while (low < high) {
    size_t mid = (low + high) / 2;

    if (l->runs[mid].end > cluster)
      high = mid;
    else
      low = mid + 1;
  }
  *end = l->runs[low].end;
  return l->runs[low].type;
}

void
extents_free (struct extent_list *l)
{
  free (l->runs);
  l->runs = NULL;
  l->nr = l->allocated = 0;
}
