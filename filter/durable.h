/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Durable scratches: what a snapshot needs is on disk before it is changed. */

#ifndef NBDFLEECE_DURABLE_H
#define NBDFLEECE_DURABLE_H

#include "fleece.h"

struct durable;

/* For a map with BMFILE_DURABLE, before any request sees the snapshot.  map and
 * the descriptor of the scratch stay the caller's.  NULL and errno on error. */
extern struct durable *durable_new (struct fleece *f, const struct bmfile *map,
                                    int scratch);

/* No request uses it any more. */
extern void durable_free (struct durable *d);

/* K4, K5: from when this has returned, the snapshot outlasts a crash of the
 * host; or, on error, which is logged, it is one like any other. */
extern void durable_begin (struct durable *d);

/* Of a map that was taken up: flushes what the process before may have left in
 * memory.  0, or -1 and errno. */
extern int durable_resume (struct durable *d);

/* Says that the snapshot has not outlasted the host, if it cannot any more:
 * the log, and its header once more if that could not be flushed.  For the
 * control thread. */
extern void durable_report (struct durable *d);

/* False: nothing has to be waited for any more, it cannot be kept up. */
extern bool durable_holds (const struct durable *d);

/* True if all of [first, end) is settled: not LIVE, on disk.  One load for
 * 64 clusters. */
extern bool durable_is_settled (const struct durable *d, uint64_t first,
                                uint64_t end);

/* K1: makes sure of what has been written to the scratch since durable_mark was
 * called.  0; or -1 and errno, and then W2 has failed. */
extern unsigned durable_mark (struct durable *d);
extern int durable_flush_scratch (struct durable *d, unsigned mark);

/* K2: makes sure of what the map says of [first, end), none of it LIVE, and
 * settles it.  If that fails, it does not hold any more. */
extern void durable_settle (struct durable *d, uint64_t first, uint64_t end);

/* The same of all that the map says now, for who punches (K7).  0, or -1 and
 * errno. */
extern int durable_flush_map (struct durable *d);

/* K6: flushes the header.  0, or -1 and errno. */
extern int durable_flush_header (struct durable *d);

#endif /* NBDFLEECE_DURABLE_H */
