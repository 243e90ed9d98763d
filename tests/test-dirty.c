/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Adding up tracking bitmaps of different cluster sizes, byte by byte. */

#include <config.h>

#include <stdbool.h>
#include <unistd.h>

#include "dirty.h"
#include "testing.h"

#define DISK_MAX (3 << 20)

static char path[256];

/* A bitmap of random runs; marks what they stand for. */
static void
make (struct rng *rng, uint64_t disk_size, unsigned cluster_bits,
      struct bmfile *bf, bool *dirty)
{
  struct bmfile_params p = {
    .kind = BMFILE_DIRTY, .disk_size = disk_size,
    .cluster_size = UINT64_C (1) << cluster_bits,
    .export_name = "vda", .name = "c",
  };
  uint64_t runs = rng_below (rng, 6), i, a, b;

  CHECK (bmfile_create (path, &p, bf) == 0);
  CHECK (unlink (path) == 0);
  for (; runs > 0; runs--) {
    a = rng_below (rng, bf->nr_clusters);
    b = a + 1 + rng_below (rng, bf->nr_clusters - a);
    if (rng_below (rng, 2))
      b = a + 1;
    bm_set_range (bf->bits[0], a, b);
    for (i = a << cluster_bits; i < b << cluster_bits && i < disk_size; i++)
      dirty[i] = true;
  }
}

static void
check_one (struct rng *rng)
{
  static bool dirty[DISK_MAX];
  uint64_t disk_size = 1 + rng_below (rng, DISK_MAX - 1);
  unsigned to_bits = 12 + rng_below (rng, 10), n;
  uint64_t nr = (disk_size + (UINT64_C (1) << to_bits) - 1) >> to_bits;
  bm_word *to = calloc (1, bm_bytes (nr));
  uint64_t c, i, bytes = 0;
  struct bmfile bf;

  CHECK (to);
  memset (dirty, 0, sizeof dirty);
  for (n = rng_below (rng, 4); n > 0; n--) {
    make (rng, disk_size, 12 + rng_below (rng, 10), &bf, dirty);
    dirty_add (to, to_bits, &bf);
    bmfile_close (&bf);
  }
  for (c = 0; c < nr; c++) {
    uint64_t end = (c + 1) << to_bits;
    bool want = false;

    if (end > disk_size)
      end = disk_size;
    for (i = c << to_bits; i < end; i++)
      want |= dirty[i];
    CHECK (bm_test (to, c) == want);
    if (want)
      bytes += end - (c << to_bits);
  }
  if (nr % 64)
    CHECK ((to[nr / 64] & (UINT64_MAX << (nr % 64))) == 0);
  CHECK (dirty_bytes (to, to_bits, disk_size) == bytes);
  free (to);
}

int
main (void)
{
  struct rng rng = rng_start ();
  const char *dir = getenv ("TMPDIR");
  int i;

  snprintf (path, sizeof path, "%s/nbdfleece-dirty.%d", dir ? dir : "/tmp",
            (int) getpid ());
  for (i = 0; i < 60; i++)
    check_one (&rng);
  return 0;
}
