/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Digests of what a job delivers, for its manifest. */

/* They go the way of their clusters in the ledger (ledger.h): what is drained
 * is pending; a flush takes all of it along; when the target has flushed it, it
 * is for good; and what is lost is forgotten, and made anew when it is copied
 * again.
 *
 * A job with a copy bitmap may be gone on with by another process, so there is
 * a journal beside the manifest, FILE.part.  What has been flushed is appended
 * to it before the bits are cleared.  So an entry of the journal stands for
 * clusters that are delivered, whether their bits are clear or a kill came in
 * between; whoever goes on clears them.  And a bit that is clear has its entry:
 * a copy that finds otherwise cannot make the manifest, and says so.
 */

#ifndef NBDFLEECE_DIGESTS_H
#define NBDFLEECE_DIGESTS_H

#include "ledger.h"
#include "manifest.h"

struct digests {
  struct manifest_list pending, flushing, done;
  const char *path;             /* of the manifest; the caller's */
  int journal;                  /* descriptor, or -1: none is needed */
};

/* Begins, or goes on with what the journal has of the same copy bitmap; resumable
 * says that there has to be a journal.  It may find that more has been delivered
 * than the ledger knew.  0, or -1 with why. */
extern int digests_open (struct digests *d, const char *path, bool resumable,
                         const struct identity *id, struct ledger *l,
                         struct message *why);
extern void digests_close (struct digests *d);

/* 0, or -1 and errno. */
extern int digests_drained (struct digests *d,
                            const struct manifest_extent *e);
extern void digests_flush_begin (struct digests *d);
extern int digests_flushed (struct digests *d);
extern void digests_lost (struct digests *d);

/* Writes the manifest and removes the journal.  lost: clusters of the ledger
 * that could not be had.  0, or -1 with why. */
extern int digests_finish (struct digests *d, const struct identity *id,
                           const struct ledger *l,
                           const struct range_list *lost,
                           struct message *why);

#endif /* NBDFLEECE_DIGESTS_H */
