/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What has changed since a checkpoint: its file and all that follow. */

#ifndef NBDFLEECE_CHAIN_H
#define NBDFLEECE_CHAIN_H

#include "checkpoint.h"

/* True, with a reason for people, if it is not known for sure what has changed
 * between the checkpoint and `until', a later one; or now, if that is NULL.
 * disk_size: what the disk has to have had all the time; 0: any. */
extern bool chain_doubt (const struct checkpoint *since,
                         const struct checkpoint *until, uint64_t disk_size,
                         char *why, size_t size);

/* The same, asked for a request: *failure says what to do instead. */
extern int chain_check (const struct checkpoint *since,
                        const struct checkpoint *until, uint64_t disk_size,
                        struct failure *failure);

/* The files from one checkpoint to another, open; for a thread of its own.
 * Oldest first. */
struct chain {
  struct bmfile *files;
  size_t nr;
};

/* Opens them, without `until' itself.  0, or -1 with *failure. */
extern int chain_open (const struct checkpoint *since,
                       const struct checkpoint *until, struct chain *chain,
                       struct failure *failure);
extern void chain_close (struct chain *chain);

/* Sets in bits, by clusters of 1 << cluster_bits bytes, what any of them has.
 * 0; or -1 and errno (EIO) if one of them was made shorter meanwhile. */
extern int chain_add_to (const struct chain *chain, bm_word *bits,
                         unsigned cluster_bits);

/* Merges and removes what was deleted, as far as that can be done now, and
 * goes on in the background (merge.c). */
extern void chain_tidy (struct export *ex);

#endif /* NBDFLEECE_CHAIN_H */
