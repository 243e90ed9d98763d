/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Cluster states, read a word at a time. */

#include <config.h>

#include "broken.h"
#include "map.h"

/* The three words that hold the states of 64 clusters. */
struct state_words {
  uint64_t copied, released, lost;
};

/* copied and lost exclude each other (the owner of the in-flight range sets
 * one of them); released may come on top of either and outranks both, so it
 * does not matter in which order the three are loaded.  Model: cow W1 R1 R3. */
static struct state_words
load_words (const struct bmfile *map, uint64_t w)
{
  return (struct state_words) {
    .copied = atomic_load_explicit (&map->bits[MAP_COPIED_BITS][w],
                                    memory_order_acquire),
    .released = atomic_load_explicit (&map->bits[MAP_RELEASED_BITS][w],
                                      memory_order_acquire),
    .lost = atomic_load_explicit (&map->bits[MAP_LOST_BITS][w],
                                  memory_order_acquire),
  };
}

/* One bit for each of the 64 clusters that is in the state. */
static uint64_t
in_state (struct state_words s, enum map_state state)
{
  switch (state) {
  case MAP_RELEASED: return s.released;
  case MAP_LOST: return s.lost & ~s.released;
  case MAP_COPIED: return s.copied & ~s.lost & ~s.released;
  case MAP_LIVE: return ~(s.copied | s.lost | s.released);
  }
  return 0;
}

static enum map_state
state_of (struct state_words s, unsigned bit)
{
  if (s.released >> bit & 1)
    return MAP_RELEASED;
  if (s.lost >> bit & 1)
    return MAP_LOST;
  return s.copied >> bit & 1 ? MAP_COPIED : MAP_LIVE;
}

struct map_run
map_next_run (const struct bmfile *map, uint64_t first, uint64_t end)
{
  uint64_t w = first / 64;
  struct state_words s = load_words (map, w);
  struct map_run run = { first, end, state_of (s, first & 63) };

  for (;;) {
    uint64_t others = ~in_state (s, run.state) & bm_mask (w, first, end);

    if (others) {
      run.end = w * 64 + __builtin_ctzll (others);
      return run;
    }
    if (++w > (end - 1) / 64)
      return run;
    s = load_words (map, w);
  }
}

uint64_t
map_next_live (const struct bmfile *map, uint64_t first, uint64_t end)
{
  uint64_t w;

  if (first >= end)
    return end;
  for (w = first / 64; w <= (end - 1) / 64; w++) {
    uint64_t live = in_state (load_words (map, w), MAP_LIVE)
      & bm_mask (w, first, end);

    if (live)
      return w * 64 + __builtin_ctzll (live);
  }
  return end;
}

/* Model: cow E1, and the reader's last look. */
bool
map_is_active (const struct bmfile *map)
{
  return atomic_load (&map->live->state) == BMFILE_ACTIVE;
}

struct cluster_range
map_clusters (const struct bmfile *map, uint64_t offset, uint64_t count)
{
  uint64_t last;

  if (count == 0 || offset >= map->disk_size)
    return (struct cluster_range) { 0, 0 };
  last = count > map->disk_size - offset ? map->disk_size - 1
    : offset + count - 1;
  return (struct cluster_range) { offset >> map->cluster_bits,
                                  (last >> map->cluster_bits) + 1 };
}

uint64_t
map_offset (const struct bmfile *map, uint64_t cluster)
{
  return cluster << map->cluster_bits;
}

uint64_t
map_length (const struct bmfile *map, uint64_t first, uint64_t end)
{
  uint64_t end_offset = map_offset (map, end);

  if (end_offset > map->disk_size)
    end_offset = map->disk_size;
  return end_offset - map_offset (map, first);
}

/* Model: none; a counter. */
void
map_scratch_freed (const struct bmfile *map, uint64_t bytes)
{
  _Atomic uint64_t *used = &map->live->scratch_bytes;
  uint64_t before = atomic_load (used);

  while (!atomic_compare_exchange_weak (used, &before,
                                        before > bytes ? before - bytes : 0))
    ;
}

void
map_release (const struct bmfile *map, uint64_t first, uint64_t end)
{
  bm_set_range (map->bits[MAP_RELEASED_BITS], first, end);
}

/* Model: none; set before the begin. */
bool
map_is_durable (const struct bmfile *map)
{
  return atomic_load (&map->live->flags) & BMFILE_DURABLE;
}

/* Partner: bmfile_release, which stores CLOSING before it flushes.  Either it
 * sees the bits and flushes them, or this sees CLOSING and does.  Model: clean,
 * copier; release L2; scratch K7. */
int
map_settle_release (const struct bmfile *map)
{
  atomic_thread_fence (memory_order_seq_cst);
  if (BROKEN (RELEASE_NOT_FLUSHED))
    return 0;
  return atomic_load (&map->live->clean) == BMFILE_IN_USE
    && !map_is_durable (map) ? 0 : bmfile_sync (map);
}
