/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copier: the token bucket keeps to its rate over every second. */

#include <config.h>

#include "bucket.h"
#include "testing.h"

#define REQUESTS_MAX 100000

struct log {
  double at[REQUESTS_MAX];
  uint64_t bytes[REQUESTS_MAX];
  unsigned nr;
};

/* A greedy caller for some seconds of a clock of our own, who is late at times
 * as callers are. */
static void
run (struct rng *rng, uint64_t rate, double seconds, struct log *log)
{
  struct bucket b;
  double now = rng_below (rng, 1000), end = now + seconds, wait;
  uint64_t largest, n;

  bucket_set_rate (&b, rate, now);
  largest = bucket_largest (&b);
  CHECK (largest > 0 && largest <= rate);
  log->nr = 0;
  while (now < end && log->nr < REQUESTS_MAX) {
    wait = bucket_wait (&b, now);
    if (wait > 0) {
      CHECK (!bucket_take (&b, 1, now));
      now += wait + rng_below (rng, 100) / 1e5;
      CHECK (bucket_wait (&b, now) == 0);
      continue;
    }
    n = 1 + rng_below (rng, largest);
    CHECK (bucket_take (&b, n, now));
    log->at[log->nr] = now;
    log->bytes[log->nr++] = n;
    if (rng_below (rng, 50) == 0)
      now += rng_below (rng, 1000) / 1e3;
  }
}

/* The most that was taken within one second, and all of it. */
static void
measure (const struct log *log, uint64_t *most, uint64_t *all)
{
  unsigned i, j = 0;
  uint64_t sum = 0;

  *most = *all = 0;
  for (i = 0; i < log->nr; i++) {
    sum += log->bytes[i];
    *all += log->bytes[i];
    while (log->at[i] - log->at[j] > 1)
      sum -= log->bytes[j++];
    if (sum > *most)
      *most = sum;
  }
}

int
main (void)
{
  static struct log log;
  struct rng rng = rng_start ();
  struct bucket b;
  uint64_t rate, most, all;
  int i;

  for (i = 0; i < 30; i++) {
    rate = 10000 + rng_below (&rng, UINT64_C (1) << (10 + rng_below (&rng, 24)));
    run (&rng, rate, 20, &log);
    measure (&log, &most, &all);
    CHECK (most <= rate * 1.2 + 1);
    CHECK (all <= rate * 20 * 1.02);
    CHECK (all >= rate * 20 * 0.3);
  }

  /* No limit; a limit taken away; a debt that is forgotten. */
  bucket_set_rate (&b, 0, 5);
  CHECK (bucket_take (&b, UINT64_MAX / 2, 5) && bucket_wait (&b, 5) == 0);
  CHECK (bucket_largest (&b) == UINT64_MAX);
  bucket_set_rate (&b, 1000, 5);
  CHECK (bucket_take (&b, 1000000, 5) && bucket_wait (&b, 5) > 900);
  bucket_set_rate (&b, 2000, 5);
  CHECK (bucket_wait (&b, 5) == 0);
  /* What is returned may be taken again. */
  CHECK (bucket_take (&b, 500, 5) && bucket_wait (&b, 5) > 0);
  bucket_return (&b, 500);
  CHECK (bucket_wait (&b, 5) == 0);
  /* The smallest rate there is still moves. */
  bucket_set_rate (&b, 1, 5);
  CHECK (bucket_take (&b, 4096, 5));
  CHECK (bucket_wait (&b, 5) > 4000 && bucket_wait (&b, 5) < 4100);
  return 0;
}
