/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copier: the bitmap in chunks against a plain one, and what it takes. */

#include <config.h>

#include <stdbool.h>

#include "sparse.h"
#include "testing.h"

#define BITS (5 * SPARSE_CHUNK_BITS + 777)

static bool model[BITS];

static void
check (const struct sparse *s)
{
  uint64_t i, n = 0;

  for (i = 0; i < BITS; i++) {
    CHECK ((sparse_word (s, i / 64) >> (i % 64) & 1) == model[i]);
    n += model[i];
  }
  CHECK (sparse_count (s) == n);
  CHECK (s->pages <= BITS / SPARSE_CHUNK_BITS + 1);
}

/* An end of a range: anywhere, or where things change. */
static uint64_t
somewhere (struct rng *rng)
{
  uint64_t n = rng_below (rng, BITS + 1);

  switch (rng_below (rng, 4)) {
  case 0: return n / SPARSE_CHUNK_BITS * SPARSE_CHUNK_BITS;
  case 1: return n / 64 * 64;
  case 2: return n > BITS / 2 ? BITS : 0;
  default: return n;
  }
}

int
main (void)
{
  struct rng rng = rng_start ();
  struct sparse s;
  int i;

  CHECK (sparse_init (&s, BITS) == 0);
  check (&s);
  for (i = 0; i < 2000; i++) {
    uint64_t a = somewhere (&rng), b = somewhere (&rng), t;
    bool set = rng_below (&rng, 2);

    if (a > b)
      t = a, a = b, b = t;
    if (set)
      sparse_set (&s, a, b);
    else
      sparse_clear (&s, a, b);
    for (t = a; t < b; t++)
      model[t] = set;
    if (i % 10 == 0)
      check (&s);
  }
  sparse_set (&s, 0, BITS);
  CHECK (s.pages == 0 && sparse_count (&s) == BITS);
  sparse_clear (&s, 1, BITS);
  CHECK (s.pages == 1 && sparse_count (&s) == 1);
  sparse_clear (&s, 0, 1);
  CHECK (s.pages == 0 && sparse_count (&s) == 0);
  sparse_free (&s);

  /* 16 TiB in clusters of 32 KiB: all of it on its way, then none. */
  CHECK (sparse_init (&s, UINT64_C (1) << 29) == 0);
  sparse_set (&s, 12345, s.nr_bits - 12345);
  CHECK (s.pages == 2);
  CHECK (sparse_count (&s) == s.nr_bits - 2 * 12345);
  for (i = 0; i < 1000; i++)
    sparse_clear (&s, i * SPARSE_CHUNK_BITS * UINT64_C (16), i
                  * SPARSE_CHUNK_BITS * UINT64_C (16) + 5);
  CHECK (s.pages <= 1002);
  sparse_free (&s);
  return 0;
}
