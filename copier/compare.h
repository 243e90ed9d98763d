/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Comparing instead of copying: what differs. */

#ifndef NBDFLEECE_COMPARE_H
#define NBDFLEECE_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "bitmap.h"
#include "manifest.h"
#include "source.h"
#include "target.h"

struct comparison {
  /* Set once. */
  uint64_t disk_size;           /* bytes */
  unsigned cluster_bits;

  /* What has been found so far. */
  bool differs;
  uint64_t first;               /* byte; in a manifest, start of the extent */
  uint64_t bytes, clusters;     /* that differ; of a manifest, all of those in
                                 * the extents that do */
  bm_word *bits;                /* clusters that are counted already: one that
                                 * is compared again counts once.  NULL: none */
};

/* [offset, offset + count) of the disk, from a cluster's start on, has been
 * looked at: `has' against what is expected (NULL: zeroes).  0, or -1 and errno
 * ENOMEM. */
extern int comparison_look (struct comparison *c, const char *expected,
                            const char *has, uint64_t offset, uint64_t count);

/* The same, where only that all of it differs is known. */
extern int comparison_differs (struct comparison *c, uint64_t offset,
                               uint64_t count);

extern void comparison_free (struct comparison *c);

/* A target that nothing is written to: its write compares with what `other',
 * which becomes the target's, has there, or reports a difference.  NULL and
 * errno ENOMEM. */
extern struct target *target_compare_new (struct loop *l, struct source *other,
                                          const struct target_params *params,
                                          struct comparison *c);

/* A target whose write and zero compare with a manifest; name is for messages.
 * Each extent of data comes as one write.  NULL and errno ENOMEM. */
extern struct target *target_prove_new (struct pool *pool, const char *name,
                                        const struct manifest *m,
                                        struct comparison *c);

#endif /* NBDFLEECE_COMPARE_H */
