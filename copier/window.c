/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The window's size. */

#include <config.h>

#include "window.h"

#define INTERVAL 0.2            /* seconds */
#define HOLD 20                 /* intervals */
#define BETTER 1.15             /* times the rate before */

void
window_init (struct window *w, uint64_t first, uint64_t max, double now)
{
  *w = (struct window) {
    .size = first < max ? first : max, .max = max, .since = now,
  };
}

bool
window_open (struct window *w, uint64_t under_way)
{
  if (under_way < w->size)
    return true;
  w->full = true;
  return false;
}

static void
try_larger (struct window *w, double rate)
{
  w->rate = rate;
  if (w->size * 2 > w->max) {
    w->state = WINDOW_HOLD;
    w->holds = HOLD;
    return;
  }
  w->size *= 2;
  w->state = WINDOW_TRY;
}

static void
judge (struct window *w, double rate)
{
  switch (w->state) {
  case WINDOW_MEASURE:
    try_larger (w, rate);
    break;
  case WINDOW_TRY:
    if (rate >= w->rate * BETTER) {
      try_larger (w, rate);
      break;
    }
    w->size /= 2;
    w->state = WINDOW_HOLD;
    w->holds = HOLD;
    break;
  case WINDOW_HOLD:
    if (--w->holds == 0)
      w->state = WINDOW_MEASURE;
  }
}

void
window_turn (struct window *w, uint64_t moved, double now)
{
  double seconds = now - w->since;

  if (seconds < INTERVAL)
    return;
  /* An interval that something else held up says nothing, and neither does
   * one in which the job stood still. */
  if (w->full && seconds < 5 * INTERVAL)
    judge (w, (moved - w->moved) / seconds);
  w->full = false;
  w->since = now;
  w->moved = moved;
}
