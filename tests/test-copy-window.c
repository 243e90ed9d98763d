/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copier: the window grows where that moves more, and only there. */

#include <config.h>

#include "window.h"
#include "testing.h"

#define FIRST (4 << 20)
#define MAX (64 << 20)

/* A pipe of so many bytes a second with a round trip of so many seconds, for a
 * minute, its rate off by up to 3 %; returns the size that the window had on
 * average in the second half. */
static double
run (struct rng *rng, double bandwidth, double trip, bool busy)
{
  struct window w;
  double now = 5, rate, sum = 0, moved = 0;
  unsigned n = 0;

  window_init (&w, FIRST, MAX, now);
  for (; now < 65; now += 0.05) {
    CHECK (w.size >= FIRST && w.size <= MAX);
    CHECK (window_open (&w, w.size - 1));
    if (busy)
      CHECK (!window_open (&w, w.size));
    rate = w.size / trip < bandwidth ? w.size / trip : bandwidth;
    moved += rate * 0.05 * (0.97 + rng_below (rng, 60) / 1000.);
    window_turn (&w, moved, now);
    if (now > 35) {
      sum += w.size;
      n++;
    }
  }
  return sum / n;
}

int
main (void)
{
  struct rng rng = rng_start ();
  struct window w;
  int i;

  for (i = 0; i < 100; i++) {
    /* Near: no more than a try now and then. */
    CHECK (run (&rng, 1e9, 1e-4, true) < FIRST * 1.2);
    /* Far: all it may have. */
    CHECK (run (&rng, 1e9, 0.5, true) > MAX * 0.95);
    /* In between: about what fills the pipe, 12.5 MB. */
    CHECK (run (&rng, 125e6, 0.1, true) > (12 << 20));
    CHECK (run (&rng, 125e6, 0.1, true) < (20 << 20));
    /* Something else holds it up. */
    CHECK (run (&rng, 1e9, 0.5, false) == FIRST);
  }
  window_init (&w, FIRST, 1 << 20, 0);
  CHECK (w.size == 1 << 20);
  return 0;
}
