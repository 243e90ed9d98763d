/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Makes copy bitmaps for tests of the copier, and shows them. */

/*   play-copy-bitmap new FILE SIZE CLUSTER-SIZE [OFFSET LENGTH]...
 *       all set, or the clusters of the ranges
 *   play-copy-bitmap show FILE
 *       prints the bytes that are still to be copied, then their ranges,
 *       OFFSET LENGTH a line
 */

#include <config.h>

#include "map.h"
#include "testing.h"

static uint64_t
number (const char *s)
{
  char *end;
  uint64_t n = strtoull (s, &end, 0);

  CHECK (*s && !*end);
  return n;
}

static void
make (int argc, char *argv[])
{
  struct bmfile_params p = {
    .kind = BMFILE_COPY, .disk_size = number (argv[1]),
    .cluster_size = number (argv[2]), .export_name = "vda", .name = "job-1",
  };
  struct bmfile bf;
  struct cluster_range c;

  CHECK (bmfile_create (argv[0], &p, &bf) == 0);
  if (argc == 3)
    bm_set_range (bf.bits[0], 0, bf.nr_clusters);
  for (argc -= 3, argv += 3; argc >= 2; argc -= 2, argv += 2) {
    c = map_clusters (&bf, number (argv[0]), number (argv[1]));
    bm_set_range (bf.bits[0], c.first, c.end);
  }
  bmfile_close (&bf);
}

static void
show (const char *path)
{
  struct bmfile bf;
  const char *why;
  uint64_t a, b, bytes = 0;
  int pass;

  CHECK (bmfile_open (path, false, BMFILE_COPY, &bf, &why) == 0);
  for (pass = 0; pass < 2; pass++) {
    for (a = bm_next_set (bf.bits[0], 0, bf.nr_clusters); a < bf.nr_clusters;
         a = bm_next_set (bf.bits[0], b, bf.nr_clusters)) {
      b = bm_next_clear (bf.bits[0], a, bf.nr_clusters);
      bytes += map_length (&bf, a, b);
      if (pass == 1)
        printf ("%llu %llu\n", (unsigned long long) map_offset (&bf, a),
                (unsigned long long) map_length (&bf, a, b));
    }
    if (pass == 0)
      printf ("%llu\n", (unsigned long long) bytes);
  }
  bmfile_close (&bf);
}

int
main (int argc, char *argv[])
{
  if (argc >= 5 && strcmp (argv[1], "new") == 0)
    make (argc - 2, argv + 2);
  else if (argc == 3 && strcmp (argv[1], "show") == 0)
    show (argv[2]);
  else {
    fprintf (stderr, "usage: play-copy-bitmap new|show ...\n");
    return 2;
  }
  return 0;
}
