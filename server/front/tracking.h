/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* From which checkpoints a snapshot has a consistent incremental. */

#ifndef NBDFLEECE_TRACKING_H
#define NBDFLEECE_TRACKING_H

#include "bmfile.h"

/* Checkpoints on the way back from a snapshot; older ones are not offered. */
#define TRACKING_MAX 256

/* Tracking bitmaps, newest first; each one's parent is the next.  What
 * changed between checkpoint maps[i] and the snapshot is the union of maps[0]
 * to maps[i].  Some may be of checkpoints that are deleted: they are links
 * like the others, and not offered. */
struct tracking {
  struct bmfile *maps;
  uint64_t deleted[TRACKING_MAX / 64]; /* a bit each */
  unsigned nr;
};

/* Opens the bitmaps in the directory of an export that lead up to a snapshot
 * of it.  None is no error: nr is 0.  Returns 0, or -1 and errno; then nothing
 * is open. */
extern int tracking_open (int export_dir, const struct bmfile *map,
                          struct tracking *t);

/* Harmless on a zeroed struct. */
extern void tracking_close (struct tracking *t);

/* True if nobody may be told of maps[i]. */
extern bool tracking_is_deleted (const struct tracking *t, unsigned i);

/* True if maps[0] to maps[i] can still be relied on. */
extern bool tracking_ok (const struct tracking *t, unsigned i);

#endif /* NBDFLEECE_TRACKING_H */
