/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What C tests share: a check that ends the test, and seeded randomness. */

#ifndef NBDFLEECE_TESTING_H
#define NBDFLEECE_TESTING_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Unlike assert, is there with NDEBUG too. */
#define CHECK(cond)                                                     \
  do {                                                                  \
    if (!(cond)) {                                                      \
      fprintf (stderr, "%s:%d: FAILED: %s (errno: %s)\n", __FILE__,     \
               __LINE__, #cond, strerror (errno));                      \
      exit (EXIT_FAILURE);                                              \
    }                                                                   \
  } while (0)

/* A small generator (splitmix64), the same everywhere for one seed. */
struct rng { uint64_t state; };

static inline uint64_t
rng_next (struct rng *r)
{
  uint64_t z = r->state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* 0 to n - 1. */
static inline uint64_t
rng_below (struct rng *r, uint64_t n)
{
  return rng_next (r) % n;
}

/* Seeds from $NBDFLEECE_SEED or afresh, and prints the seed, so that a run
 * that failed can be had again. */
static inline struct rng
rng_start (void)
{
  const char *s = getenv ("NBDFLEECE_SEED");
  struct rng r = { 0 };

  if (s && *s)
    r.state = strtoull (s, NULL, 0);
  else if (getrandom (&r.state, sizeof r.state, 0) != sizeof r.state)
    r.state = 1;
  fprintf (stderr, "NBDFLEECE_SEED=%llu\n", (unsigned long long) r.state);
  return r;
}

#endif /* NBDFLEECE_TESTING_H */
