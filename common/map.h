/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The map: what became of each cluster of one snapshot. */

/* A cluster of a snapshot is in one of four states, made of three bits.
 *
 *            copy-before-write             nobody needs it
 *   LIVE ─────────────────────▶ COPIED ─────────────────────▶ RELEASED
 *    │ │                           not reversible                ▲
 *    │ └─────────────────────────────────────────────────────────┘
 *    └────────▶ LOST       the old content could not be kept
 *
 *   LIVE      no bit      the live disk still has the old content
 *   COPIED    copied      the scratch has it (a hole there means zeroes)
 *   LOST      lost        nobody has it
 *   RELEASED  released    (with any other bit) nobody may ask for it
 *
 * Bits only rise, so a state is left once and never entered again; that is
 * what lets readers go without a lock.  The rules, with the names under which
 * the code and the model (docs/architecture, tests/model) refer to them:
 *
 *   W1  the filter, holding the in-flight range lock of the cluster, sees no
 *       bit set in it
 *   W2  it puts the old content into the scratch (or knows it to be zeroes)
 *   W3  it sets copied; if W2 failed, it sets lost instead
 *   W4  only then the guest's write is issued to the live disk
 *   R1  a reader loads the state
 *   R2  it reads the live disk or the scratch, as the state says
 *   R3  it loads the state again: unchanged means what R2 read is the old
 *       content.  LIVE that has become COPIED is read again from the scratch.
 *   L1  who releases a cluster first makes sure that it is not needed,
 *   L2  then sets released,
 *   L3  and only then punches it out of the scratch.
 *   E1  to end a snapshot, the filter sets the state of the file to ENDED,
 *   E2  and only then stops copying for it.
 *
 *   W5  the filter, having copied, looks for released once more and punches
 *       what it has just written, if it came too late
 *
 * W3 before W4 against R2 before R3 is message passing, with the disk as the
 * message: if R2 saw any byte of W4, then R3 sees W3.  Each side has a fence
 * between its two steps; a writer that only finds the bit set has it, too.
 * L2/L3 and E1/E2 are guarded by R3 alike.  W3/W5 against L2/L3 is the Dekker
 * pattern: at least one of the two punches.
 */

#ifndef NBDFLEECE_MAP_H
#define NBDFLEECE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "bmfile.h"

enum map_bitmap { MAP_COPIED_BITS = 0, MAP_RELEASED_BITS, MAP_LOST_BITS };

enum map_state { MAP_LIVE = 0, MAP_COPIED, MAP_RELEASED, MAP_LOST };

/* A run of clusters in one state. */
struct map_run {
  uint64_t first, end;          /* clusters, [first, end) */
  enum map_state state;
};

/* The state of the clusters from first on, and how far it holds (at most to
 * end).  first < end <= nr_clusters.  Acquire; the reader's fences are its
 * own. */
extern struct map_run map_next_run (const struct bmfile *map,
                                    uint64_t first, uint64_t end);

/* The first LIVE cluster in [first, end), else end.  This is the writer's
 * fast path: one pass of three loads a word. */
extern uint64_t map_next_live (const struct bmfile *map,
                               uint64_t first, uint64_t end);

/* True while the snapshot exists.  Sequentially consistent. */
extern bool map_is_active (const struct bmfile *map);

/* Clusters that [offset, offset + count) touches, cut at the end of the
 * disk; an empty range if it lies past the end or count is 0. */
struct cluster_range { uint64_t first, end; };
extern struct cluster_range map_clusters (const struct bmfile *map,
                                          uint64_t offset, uint64_t count);

/* Byte offset of a cluster, and bytes of the run [first, end): the last
 * cluster of the disk may be short. */
extern uint64_t map_offset (const struct bmfile *map, uint64_t cluster);
extern uint64_t map_length (const struct bmfile *map,
                            uint64_t first, uint64_t end);

/* L2: releases [first, end), of a map opened for writing; the caller has done
 * L1 and punches (L3) only after map_settle_release has returned 0 that was
 * called for all that he has released. */
extern void map_release (const struct bmfile *map, uint64_t first,
                         uint64_t end);

/* If the snapshot is to outlast a crash of the host, or has been or is being
 * closed cleanly, the bits are flushed: else the crash could forget them and
 * remember the punch, and a map that is believed would show zeroes.  Returns 0,
 * or -1 and errno. */
extern int map_settle_release (const struct bmfile *map);

/* True if the snapshot is to outlast a crash of the host, or was; then L1 has
 * to, too, before L2, and E1 before E2. */
extern bool map_is_durable (const struct bmfile *map);

/* Takes bytes that were punched out of the scratch off scratch_bytes, never
 * below zero: a file system may free more than was written. */
extern void map_scratch_freed (const struct bmfile *map, uint64_t bytes);

#endif /* NBDFLEECE_MAP_H */
