/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The ledger: which clusters of the job are where on their way. */

/* Each cluster in the job's scope is in one of five states:
 *
 *             take              drained           flush_begin
 *   WANTED ─────────▶ TAKEN ─────────────▶ DRAINED ─────────▶ FLUSHING
 *     ▲                 │                     │                  │  │
 *     │    give_back    │        lost         │       lost       │  │ flushed
 *     └─────────────────┴─────────────────────┴──────────────────┘  ▼
 *                                                              DELIVERED
 *   TAKEN     a request has it
 *   DRAINED   the target has said that it is written
 *   FLUSHING  a flush that was begun after that is under way
 *   DELIVERED the target has flushed it: for good
 *
 * Only `flushed' touches what outlives the process: it clears the clusters'
 * bits in the copy bitmap, if the job has one.  (Releasing them in the map
 * comes after that, see flush.c.)  So whatever dies, a bit that is clear
 * stands for a cluster that the target has flushed, and a job that is started
 * again with the same bitmap does exactly the rest.
 *
 * What was DRAINED or FLUSHING when the connection to the target broke, or
 * when a flush failed, may be gone with the target's cache: `lost' makes it
 * WANTED again.
 *
 * The clusters of the ledger are those of the copy bitmap, or several of them
 * together (coarsen) if the target takes only larger pieces: one that has any
 * bit set is WANTED.
 *
 * In memory WANTED is told from the rest by one bit per cluster (taken), in a
 * bitmap that takes memory only where things are mixed (sparse.h), and DRAINED
 * and FLUSHING are lists of ranges, short since requests are long and flushes
 * come often.
 */

#ifndef NBDFLEECE_LEDGER_H
#define NBDFLEECE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "bmfile.h"
#include "message.h"
#include "range.h"
#include "sparse.h"

struct ledger {
  /* Set once. */
  uint64_t disk_size;           /* bytes */
  uint64_t nr_clusters;
  unsigned cluster_bits;
  uint64_t scope;               /* bytes, from the job's first start on */
  struct bmfile copy;           /* the copy bitmap, if there is one */
  int copy_fd;                  /* holds the lock on it; -1: there is none */

  unsigned copy_shift;          /* log2 of clusters of copy in one of ours */
  struct sparse coarse;         /* WANTED clusters; without chunks: those of
                                 * copy are ours */
  const bm_word *wanted;        /* in copy; NULL: every cluster */
  /* TAKEN or further; but with a copy bitmap not DELIVERED, which that
   * tells. */
  struct sparse taken;
  uint64_t cursor;              /* no cluster before it is WANTED */
  uint64_t delivered;           /* bytes, earlier runs included */
  struct range_list drained, flushing; /* clusters */
  size_t coalesce_at;           /* length of drained that is too long */
  uint64_t drained_bytes;
};

/* Opens the ledger of a disk of disk_size bytes.  With a copy bitmap its
 * clusters count; without (path NULL) everything is in scope, in clusters of
 * cluster_size.  Returns 0, or -1 and a message: among other causes if the
 * bitmap is of another disk, or if another copier works on it and does not end
 * within patience_ms (one that was killed may take a moment). */
extern int ledger_open (struct ledger *l, const char *path,
                        uint64_t disk_size, uint64_t cluster_size,
                        unsigned patience_ms, struct message *why);
/* Makes the copy bitmap of a copy of all of a disk, durably, unless there is
 * one.  0, or -1 and a message. */
extern int ledger_make (const char *path, uint64_t disk_size,
                        uint64_t cluster_size, struct message *why);

/* [first, end) has been delivered by an earlier run that could not say so. */
extern void ledger_deliver (struct ledger *l, uint64_t first, uint64_t end);

/* Only what is in the list of ranges, in clusters, is in scope; nothing is
 * TAKEN yet, and there is no copy bitmap.  0, or -1 and errno ENOMEM. */
extern int ledger_limit (struct ledger *l, const struct range_list *scope);

/* So many bytes, whose bits have been cleared just after ledger_open, need not
 * be delivered after all. */
extern void ledger_narrow (struct ledger *l, uint64_t bytes);

extern void ledger_close (struct ledger *l);

/* Makes the clusters at least cluster_size, a power of two, large; nothing is
 * TAKEN yet.  0, or -1 and errno ENOMEM. */
extern int ledger_coarsen (struct ledger *l, uint64_t cluster_size);

/* Bytes from the start of the disk to a cluster, and of [first, end). */
extern uint64_t ledger_offset (const struct ledger *l, uint64_t cluster);
extern uint64_t ledger_length (const struct ledger *l,
                               uint64_t first, uint64_t end);

/* The first WANTED cluster, or nr_clusters. */
extern uint64_t ledger_first (struct ledger *l);

/* The first WANTED cluster in [from, end) whose bit in filter is set too, or
 * end; and where the run that begins at such a one ends, at most end.  A
 * filter of NULL lets all pass. */
extern uint64_t ledger_find (const struct ledger *l, const bm_word *filter,
                             uint64_t from, uint64_t end);
extern uint64_t ledger_run_end (const struct ledger *l, const bm_word *filter,
                                uint64_t first, uint64_t end);

/* The transitions of the picture.  Those that return int return 0, or -1 and
 * errno ENOMEM. */
extern void ledger_take (struct ledger *l, uint64_t first, uint64_t end);
extern void ledger_give_back (struct ledger *l, uint64_t first, uint64_t end);
extern int ledger_drained (struct ledger *l, uint64_t first, uint64_t end);
extern void ledger_flush_begin (struct ledger *l); /* none is under way */
extern uint64_t ledger_lost (struct ledger *l); /* returns bytes */

/* FLUSHING becomes DELIVERED.  The ranges are moved to *delivered, which is
 * empty before. */
extern void ledger_flushed (struct ledger *l, struct range_list *delivered);

#endif /* NBDFLEECE_LEDGER_H */
