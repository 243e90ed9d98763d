/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Bitmaps against a naive model: one byte per bit, one bit at a time. */

#include <config.h>

#include "bitmap.h"
#include "testing.h"

enum { BITS_MAX = 400, ROUNDS = 2000, STEPS = 60 };

struct pair {
  uint64_t nr_bits;
  bm_word *bm;                  /* exactly as large as it must be, so that */
  uint8_t model[BITS_MAX];      /* a step past it is seen by a sanitizer */
};

static uint64_t
model_set (struct pair *p, uint64_t first, uint64_t end, uint8_t to)
{
  uint64_t i, changed = 0;

  for (i = first; i < end; i++) {
    changed += p->model[i] != to;
    p->model[i] = to;
  }
  return changed;
}

static uint64_t
model_next (const struct pair *p, uint64_t first, uint64_t end, uint8_t what)
{
  while (first < end && p->model[first] != what)
    first++;
  return first < end ? first : end;
}

static uint64_t
model_count (const struct pair *p, uint64_t first, uint64_t end)
{
  uint64_t count = 0;

  while (first < end)
    count += p->model[first++];
  return count;
}

/* Every bit, and that nothing is set past the last. */
static void
compare (const struct pair *p)
{
  uint64_t i, words = bm_bytes (p->nr_bits) / 8;

  for (i = 0; i < p->nr_bits; i++)
    CHECK (bm_test (p->bm, i) == p->model[i]);
  if (p->nr_bits % 64)
    CHECK (atomic_load (&p->bm[words - 1]) >> (p->nr_bits % 64) == 0);
}

static void
step (struct rng *r, struct pair *p)
{
  /* Edges of words are where such code goes wrong: be there often. */
  uint64_t first = rng_below (r, 3) ? rng_below (r, p->nr_bits + 1)
    : rng_below (r, p->nr_bits / 64 + 1) * 64;
  uint64_t end = first + rng_below (r, p->nr_bits - first + 1);

  switch (rng_below (r, 3)) {
  case 0:
    CHECK (bm_set_range (p->bm, first, end) == model_set (p, first, end, 1));
    break;
  case 1:
    CHECK (bm_clear_range (p->bm, first, end) == model_set (p, first, end, 0));
    break;
  }
  CHECK (bm_next_set (p->bm, first, end) == model_next (p, first, end, 1));
  CHECK (bm_next_clear (p->bm, first, end) == model_next (p, first, end, 0));
  CHECK (bm_count (p->bm, first, end) == model_count (p, first, end));
  CHECK (bm_all_set (p->bm, first, end)
         == (model_count (p, first, end) == end - first));
}

static void
new_pair (struct rng *r, struct pair *p, uint64_t nr_bits)
{
  uint64_t w, i, words = bm_bytes (nr_bits) / 8;

  p->nr_bits = nr_bits;
  p->bm = malloc (words * 8);
  CHECK (p->bm != NULL);
  memset (p->model, 0, sizeof p->model);
  for (w = 0; w < words; w++)
    atomic_init (&p->bm[w], 0);
  for (i = rng_below (r, 20); i > 0; i--)
    step (r, p);
}

static void
test_random (struct rng *r)
{
  struct pair a, b;
  uint64_t nr_bits = 1 + rng_below (r, BITS_MAX - 1);
  int i;

  new_pair (r, &a, nr_bits);
  new_pair (r, &b, nr_bits);
  for (i = 0; i < STEPS; i++)
    step (r, &a);
  compare (&a);
  bm_or (a.bm, b.bm, nr_bits);
  for (i = 0; (uint64_t) i < nr_bits; i++)
    a.model[i] |= b.model[i];
  compare (&a);
  compare (&b);
  free (a.bm);
  free (b.bm);
}

static void
test_sizes (void)
{
  CHECK (bm_bytes (0) == 0);
  CHECK (bm_bytes (1) == 8 && bm_bytes (64) == 8 && bm_bytes (65) == 16);
  CHECK (bm_bytes (UINT64_MAX) == UINT64_C (0x2000000000000000));
  CHECK (bm_mask (0, 0, 64) == UINT64_MAX);
  CHECK (bm_mask (0, 63, 64) == UINT64_C (1) << 63);
  CHECK (bm_mask (1, 0, 65) == 1 && bm_mask (1, 64, 128) == UINT64_MAX);
}

int
main (void)
{
  struct rng r = rng_start ();
  int i;

  test_sizes ();
  for (i = 0; i < ROUNDS; i++)
    test_random (&r);
  return EXIT_SUCCESS;
}
