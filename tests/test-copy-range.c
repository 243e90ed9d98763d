/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copier: the range iterator and range lists, against a model of bytes. */

#include <config.h>

#include <stdbool.h>

#include "range.h"
#include "testing.h"

static void
check_pieces (uint64_t first, uint64_t end, uint64_t align, uint64_t max)
{
  struct range_iter it = { first, end, align, max };
  struct range_piece p;
  uint64_t pos = first;
  unsigned heads = 0, tails = 0;

  while (range_next (&it, &p)) {
    CHECK (p.first == pos && p.end > p.first && p.end <= end);
    CHECK (p.end - p.first <= max);
    if (p.whole)
      CHECK (p.first % align == 0 && p.end % align == 0);
    else {
      /* Less than a block, and within one. */
      CHECK (p.end - p.first < align);
      CHECK (p.first / align == (p.end - 1) / align);
      if (p.first % align != 0) {
        CHECK (p.first == first && heads++ == 0);
        CHECK (p.end % align == 0 || p.end == end);
      }
      else
        CHECK (p.end == end && tails++ == 0);
    }
    /* A body piece is as long as it may be. */
    if (p.whole && p.end - p.first < max)
      CHECK (end - p.end < align);
    pos = p.end;
  }
  CHECK (pos == end);
  CHECK (!range_next (&it, &p));
}

static void
check_small (void)
{
  uint64_t first, end, align, blocks;

  for (align = 1; align <= 5; align++)
    for (blocks = 1; blocks <= 3; blocks++)
      for (first = 0; first <= 20; first++)
        for (end = first; end <= 20; end++)
          check_pieces (first, end, align, blocks * align);
}

#define BYTES 200

static void
check_lists (struct rng *rng)
{
  bool model[BYTES] = { false }, seen[BYTES] = { false };
  struct range_list l = { 0 }, other = { 0 };
  uint64_t first, end, n;
  unsigned i, rounds = rng_below (rng, 20);

  for (i = 0; i < rounds; i++) {
    first = rng_below (rng, BYTES);
    end = first + 1 + rng_below (rng, BYTES - first);
    CHECK (range_list_add (rng_below (rng, 2) ? &l : &other, first, end) == 0);
    for (n = first; n < end; n++)
      model[n] = true;
  }
  CHECK (range_list_move (&l, &other) == 0 && other.nr == 0);
  range_list_coalesce (&l);
  for (i = 0; i < l.nr; i++) {
    CHECK (l.list[i].first < l.list[i].end);
    if (i > 0)
      CHECK (l.list[i - 1].end < l.list[i].first);
  }
  for (n = 0, i = 0; i < BYTES; i++)
    n += model[i];
  CHECK (range_list_total (&l) == n);
  while (range_list_take (&l, 7, &first, &end)) {
    CHECK (end > first && end - first <= 7);
    for (n = first; n < end; n++) {
      CHECK (!seen[n]);
      seen[n] = true;
    }
  }
  CHECK (memcmp (seen, model, sizeof seen) == 0);
  range_list_free (&l);
  range_list_free (&other);
}

int
main (void)
{
  struct rng rng = rng_start ();
  uint64_t first, align;
  int i;

  check_small ();
  for (i = 0; i < 20000; i++) {
    align = UINT64_C (1) << rng_below (&rng, 20);
    first = rng_next (&rng) >> (4 + rng_below (&rng, 40));
    check_pieces (first, first + rng_below (&rng, align * 50), align,
                  align * (1 + rng_below (&rng, 9)));
    check_lists (&rng);
  }
  return 0;
}
