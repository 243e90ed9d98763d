/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A list of held ranges. */

#include <config.h>

#include <errno.h>
#include <stdbool.h>

#include "broken.h"
#include "inflight.h"

int
inflight_init (struct inflight *in)
{
  int err;

  in->held = NULL;
  in->waiters = 0;
  if ((err = pthread_mutex_init (&in->lock, NULL)) == 0)
    err = pthread_cond_init (&in->dropped, NULL);
  if (err == 0)
    return 0;
  errno = err;
  return -1;
}

void
inflight_destroy (struct inflight *in)
{
  pthread_cond_destroy (&in->dropped);
  pthread_mutex_destroy (&in->lock);
}

static bool
overlaps (const struct inflight *in, uint64_t first, uint64_t end)
{
  const struct inflight_range *r;

  if (BROKEN (NO_INFLIGHT))
    return false;
  for (r = in->held; r; r = r->next)
    if (r->first < end && first < r->end)
      return true;
  return false;
}

void
inflight_take (struct inflight *in, struct inflight_range *range,
               uint64_t first, uint64_t end)
{
  range->first = first;
  range->end = end;
  pthread_mutex_lock (&in->lock);
  while (overlaps (in, first, end)) {
    in->waiters++;
    pthread_cond_wait (&in->dropped, &in->lock);
    in->waiters--;
  }
  range->next = in->held;
  range->link = &in->held;
  if (range->next)
    range->next->link = &range->next;
  in->held = range;
  pthread_mutex_unlock (&in->lock);
}

void
inflight_drop (struct inflight *in, struct inflight_range *range)
{
  pthread_mutex_lock (&in->lock);
  *range->link = range->next;
  if (range->next)
    range->next->link = range->link;
  if (in->waiters > 0)
    pthread_cond_broadcast (&in->dropped);
  pthread_mutex_unlock (&in->lock);
}
