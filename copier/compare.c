/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What differs: counting. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "range.h"
#include "scratch.h"

/* Marks clusters as different; those that were not yet are counted.  False if
 * all of them were. */
static bool
mark (struct comparison *c, uint64_t offset, uint64_t end, uint64_t first_byte)
{
  uint64_t size = UINT64_C (1) << c->cluster_bits;
  uint64_t n = bm_set_range (c->bits, offset >> c->cluster_bits,
                             (end + size - 1) >> c->cluster_bits);

  if (!c->differs || first_byte < c->first)
    c->first = first_byte;
  c->differs = true;
  c->clusters += n;
  return n > 0;
}

static int
need_bits (struct comparison *c)
{
  uint64_t nr = (c->disk_size >> c->cluster_bits) + 1;

  if (!c->bits)
    c->bits = calloc (1, bm_bytes (nr));
  return c->bits ? 0 : -1;
}

/* One cluster. */
static int
look_closely (struct comparison *c, const char *expected, const char *has,
              uint64_t offset, uint64_t count)
{
  uint64_t i, first = count, n = 0;

  for (i = 0; i < count; i++)
    if (has[i] != (expected ? expected[i] : 0)) {
      if (n == 0)
        first = i;
      n++;
    }
  if (need_bits (c) == -1)
    return -1;
  if (mark (c, offset, offset + count, offset + first))
    c->bytes += n;
  return 0;
}

int
comparison_look (struct comparison *c, const char *expected, const char *has,
                 uint64_t offset, uint64_t count)
{
  const uint64_t size = UINT64_C (1) << c->cluster_bits;
  struct range_iter it = { .pos = offset, .end = offset + count,
                           .align = size, .max = size };
  struct range_piece p;

  if (expected ? memcmp (expected, has, count) == 0 : is_zero (has, count))
    return 0;
  while (range_next (&it, &p)) {
    const char *a = expected ? expected + (p.first - offset) : NULL;
    const char *b = has + (p.first - offset);
    uint64_t n = p.end - p.first;

    if ((a ? memcmp (a, b, n) != 0 : !is_zero (b, n))
        && look_closely (c, a, b, p.first, n) == -1)
      return -1;
  }
  return 0;
}

int
comparison_differs (struct comparison *c, uint64_t offset, uint64_t count)
{
  if (need_bits (c) == -1)
    return -1;
  if (mark (c, offset, offset + count, offset))
    c->bytes += count;
  return 0;
}

void
comparison_free (struct comparison *c)
{
  free (c->bits);
  c->bits = NULL;
}
