/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The window: how much data to have under way at once. */

/* Little is best where everything is near: what was read is still in the
 * processor's cache when it is sent.  Much is needed where a round trip takes
 * long.  So a job begins with little and finds out: while the window is what
 * holds it up, it tries one of twice the size for a moment, keeps that if more
 * gets through, goes back if not, and tries again after a while. */

#ifndef NBDFLEECE_WINDOW_H
#define NBDFLEECE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct window {
  uint64_t size;                /* bytes that may be under way */
  uint64_t max;                 /* largest size */
  enum { WINDOW_MEASURE, WINDOW_TRY, WINDOW_HOLD } state;
  bool full;                    /* it held the job up in this interval */
  double since;                 /* when the interval began */
  uint64_t moved;               /* bytes, then */
  double rate;                  /* with the size before the one that is tried,
                                 * bytes per second */
  unsigned holds;               /* intervals still to hold */
};

/* first: the size to begin with, in bytes; max: the largest. */
extern void window_init (struct window *w, uint64_t first, uint64_t max,
                         double now);

/* Whether more may be started with under_way bytes under way. */
extern bool window_open (struct window *w, uint64_t under_way);

/* Now and then: moved is the bytes that have got through since the start.
 * Time is in seconds of a clock that does not go back. */
extern void window_turn (struct window *w, uint64_t moved, double now);

#endif /* NBDFLEECE_WINDOW_H */
