/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The snapshots and the tracking bitmap of the export. */

/* All calls are the control thread's, or come before it runs or after it has
 * ended. */

#ifndef NBDFLEECE_SNAPSHOT_H
#define NBDFLEECE_SNAPSHOT_H

#include "fleece.h"

/* Takes up all maps and tracking bitmaps of options.state that are ACTIVE and
 * can be trusted; says of those that cannot why, in the log and in the file.
 * Returns 0, or -1 with the error logged. */
extern int snapshots_load (struct fleece *f);

/* options.snapshot: makes and begins it, unless it has been taken up. */
extern int snapshots_begin_by_hand (struct fleece *f);

/* Carries out WIRE_BEGIN for the connection `client'.  fds are map, scratch
 * and tracking bitmap as req->flags say; they stay the caller's.  With
 * WIRE_BEGIN_FROZEN the caller has made sure that the client froze.  Returns 0 and *begun; or -1 and errno, with nothing changed but that a gate
 * that was held is open. */
extern int snapshots_begin (struct fleece *f, const struct wire_request *req,
                            const int *fds, unsigned nr_fds, int client,
                            struct wire_begun *begun);

/* Ends a snapshot (E1, E2).  0, or -1 and errno ENOENT. */
extern int snapshots_end (struct fleece *f, const uint8_t uuid[16]);

/* Adds the counters of a snapshot to *st. */
extern void snapshot_count (const struct snapshot *s, struct wire_stats *st);

/* Lets go of the tracking bitmap if it is that one, or any if uuid is 0.  0,
 * or -1 and errno ENOENT or ESTALE. */
extern int snapshots_untrack (struct fleece *f, const uint8_t uuid[16]);

/* Flushes the bitmap that a begin or untrack has frozen, when whoever asked
 * has been answered: it may take a while. */
extern void snapshots_settle (struct fleece *f);

/* The snapshot, or NULL. */
extern struct snapshot *snapshots_find (const struct fleece *f,
                                        const uint8_t uuid[16]);

/* The disk has another size than before: what is tracked is in doubt. */
extern void snapshots_resized (struct fleece *f, uint64_t before,
                               uint64_t now);

/* A clean stop: flushes everything and marks it clean. */
extern void snapshots_unload (struct fleece *f);

/* For the files that share this header, snapshot.c, snapshot_files.c and
 * take_up.c: */

extern struct snapset *snapset_current (const struct fleece *f);

/* A new one without files, or NULL; and the end of one, with its files. */
extern struct snapshot *snapshot_new (void);
extern void snapshot_free (struct snapshot *s);
extern void tracking_free (struct bmfile *tracking);

/* The files that the daemon has passed, which stay its own.  0, or -1 and
 * errno; a bitmap, or NULL and errno. */
extern int snapshot_open (struct fleece *f, int map_fd, int scratch_fd,
                          struct snapshot *s);
extern struct bmfile *tracking_open (const struct fleece *f, int fd);

/* What a map with BMFILE_DURABLE needs besides.  0, or -1 and errno. */
extern int snapshot_make_durable (struct fleece *f, struct snapshot *s);

/* ACTIVE becomes FROZEN; INCONSISTENT stays what it is. */
extern void tracking_freeze (struct bmfile *tracking);

/* Flushes a frozen bitmap, which does not change any more, so that a crash of
 * the host cannot hurt it; and frees it.  If that fails it is not marked, and
 * doubted then.  NULL is harmless. */
extern void tracking_settle (struct bmfile *tracking);

#endif /* NBDFLEECE_SNAPSHOT_H */
