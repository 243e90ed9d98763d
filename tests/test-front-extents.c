/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Extents from bitmaps of any sizes against a model that goes byte by byte. */

#include <config.h>

#include <stdbool.h>
#include <unistd.h>

#include "extents.h"
#include "map.h"
#include "nbd.h"
#include "testing.h"

#define MAPS_MAX 6
#define UNIT 4096               /* bytes; every cluster is a multiple */

static char dir[] = "/tmp/nbdfleece-extents.XXXXXX";

static void
make (enum bmfile_kind kind, uint64_t size, uint64_t cluster_size,
      struct bmfile *bf)
{
  struct bmfile_params p = {
    .kind = kind, .disk_size = size, .cluster_size = cluster_size,
    .export_name = "x", .name = "y",
  };
  char path[64];

  snprintf (path, sizeof path, "%s/file", dir);
  CHECK (bmfile_create (path, &p, bf) == 0);
  CHECK (unlink (path) == 0);
}

/* Sets runs of bits, few or many, short or long. */
static void
scatter (struct rng *rng, bm_word *bits, uint64_t nr)
{
  unsigned runs = rng_below (rng, 4) == 0 ? 0 : rng_below (rng, 40);
  uint64_t first, length;

  while (runs-- > 0) {
    first = rng_below (rng, nr);
    length = 1 + rng_below (rng, rng_below (rng, 2) ? 3 : nr);
    bm_set_range (bits, first, first + length < nr ? first + length : nr);
  }
}

static bool
is_dirty (const struct tracking *t, unsigned nr, uint64_t offset)
{
  unsigned i;

  for (i = 0; i < nr; i++)
    if (bm_test (t->maps[i].bits[0], offset >> t->maps[i].cluster_bits))
      return true;
  return false;
}

static void
check_dirty (struct rng *rng, const struct tracking *t, uint64_t size)
{
  unsigned nr = 1 + rng_below (rng, t->nr);
  uint64_t at = rng_below (rng, size), start = at, o;
  uint64_t end = at + 1 + rng_below (rng, size - at);
  struct dirty_run runs[MAPS_MAX];
  struct dirty_walk w;
  struct extent e = { 0 };
  uint32_t before = 99;

  dirty_start (&w, t, nr, runs, at, end);
  for (; at < end; at = e.end) {
    e = dirty_next (&w, at);
    CHECK (e.end > at && e.end <= end);
    CHECK (e.flags == 0 || e.flags == NBD_STATE_DIRTY);
    CHECK (e.flags != before);
    before = e.flags;
    /* Its first and last byte, and one of each unit between. */
    for (o = at; o < e.end; o = (o / UNIT + 1) * UNIT)
      CHECK (is_dirty (t, nr, o) == (e.flags != 0));
    CHECK (is_dirty (t, nr, e.end - 1) == (e.flags != 0));
  }
  CHECK (at == end && start < end);
}

static void
test_dirty (struct rng *rng)
{
  struct bmfile maps[MAPS_MAX];
  struct tracking t = { .maps = maps, .nr = 1 + rng_below (rng, MAPS_MAX) };
  uint64_t size = 1 + rng_below (rng, 30000000);
  unsigned i;

  for (i = 0; i < t.nr; i++) {
    make (BMFILE_DIRTY, size, UINT64_C (4096) << rng_below (rng, 10),
          &maps[i]);
    scatter (rng, maps[i].bits[0], maps[i].nr_clusters);
  }
  for (i = 0; i < 20; i++)
    check_dirty (rng, &t, size);
  for (i = 0; i < t.nr; i++)
    bmfile_close (&maps[i]);
}

static void
test_depth (struct rng *rng)
{
  uint64_t size = 1 + rng_below (rng, 30000000), at, o;
  struct bmfile map;
  struct extent e = { 0 };
  uint32_t before = 99;
  unsigned i;

  make (BMFILE_MAP, size, UINT64_C (4096) << rng_below (rng, 4), &map);
  for (i = 0; i < 3; i++)
    scatter (rng, map.bits[i], map.nr_clusters);
  for (at = rng_below (rng, size); at < size; at = e.end) {
    e = depth_next (&map, at, size);
    CHECK (e.end > at && e.end <= size);
    CHECK ((e.flags == 1 || e.flags == 2) && e.flags != before);
    before = e.flags;
    for (o = at; o < e.end; o = (o / UNIT + 1) * UNIT) {
      uint64_t c = o >> map.cluster_bits;

      CHECK ((map_next_run (&map, c, c + 1).state == MAP_COPIED)
             == (e.flags == 1));
    }
  }
  bmfile_close (&map);
}

/* An extent is found by words: a disk of 16 TiB with hardly anything in it
 * takes no longer than that. */
static void
test_large (void)
{
  uint64_t size = UINT64_C (16) << 40, cs = bmfile_auto_cluster_size (size);
  struct bmfile maps[2];
  struct tracking t = { .maps = maps, .nr = 2 };
  struct dirty_run runs[2];
  struct dirty_walk w;
  struct extent e;
  unsigned n = 0;
  uint64_t at;

  make (BMFILE_DIRTY, size, cs, &maps[0]);
  make (BMFILE_DIRTY, size, cs, &maps[1]);
  bm_set_range (maps[0].bits[0], 7, 9);
  bm_set_range (maps[1].bits[0], maps[1].nr_clusters - 1,
                maps[1].nr_clusters);
  CHECK (extents_scan_limit (maps[0].cluster_bits, 2) >= size);
  dirty_start (&w, &t, 2, runs, 0, size);
  for (at = 0; at < size; at = e.end, n++)
    e = dirty_next (&w, at);
  CHECK (n == 4);
  bmfile_close (&maps[0]);
  bmfile_close (&maps[1]);
}

int
main (void)
{
  struct rng rng = rng_start ();
  unsigned i;

  CHECK (mkdtemp (dir) != NULL);
  for (i = 0; i < 300; i++) {
    test_dirty (&rng);
    test_depth (&rng);
  }
  test_large ();
  CHECK (rmdir (dir) == 0);
  return EXIT_SUCCESS;
}
