/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the source has where, in whole clusters. */

#ifndef NBDFLEECE_EXTENTS_H
#define NBDFLEECE_EXTENTS_H

#include <stdint.h>
#include <stddef.h>

#include "reader.h"

struct extent_run {
  uint64_t end;                 /* cluster; the run before it ends where this
                                 * one begins */
  enum reader_extent type;
};

/* The runs of clusters [first, end).  Built from extents in bytes, in order:
 * a cluster that has parts of several types is LOST or FORBIDDEN if a part
 * is, else DATA, and HOLE only if all of it is. */
struct extent_list {
  uint64_t disk_size;           /* set by the owner, once */
  unsigned cluster_bits;
  uint64_t first, end;          /* clusters */
  uint64_t raw_end;             /* bytes: where the next extent begins */
  enum reader_extent part;      /* type so far of the cluster raw_end is in */
  struct extent_run *runs;
  size_t nr, allocated;
};

/* Empties the list: it begins at cluster first now. */
extern void extents_start (struct extent_list *l, uint64_t first);

/* Adds the extent of count bytes at raw_end; past the end of the disk it is
 * cut.  Returns 0, or -1 and errno ENOMEM. */
extern int extents_add (struct extent_list *l, uint64_t count,
                        enum reader_extent type);

/* The type at a cluster in [l->first, l->end), and where that ends. */
extern enum reader_extent extents_find (const struct extent_list *l,
                                        uint64_t cluster, uint64_t *end);

extern void extents_free (struct extent_list *l);

#endif /* NBDFLEECE_EXTENTS_H */
