/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* In-flight ranges: who is copying which clusters of one snapshot. */

#ifndef NBDFLEECE_INFLIGHT_H
#define NBDFLEECE_INFLIGHT_H

#include <pthread.h>
#include <stdint.h>

/* A range [first, end) that its owner holds; lives on the owner's stack. */
struct inflight_range {
  uint64_t first, end;
  struct inflight_range *next, **link;
};

/* Overlapping owners wait for each other, disjoint ones do not: the mutex is
 * held only to look at the list and change it, never across I/O.  An owner
 * holds one range at a time and waits for nothing but the live disk and the
 * local scratch, so nobody waits in a circle. */
struct inflight {
  pthread_mutex_t lock;
  pthread_cond_t dropped;
  /* Under lock. */
  struct inflight_range *held;  /* as long as there are copying requests */
  unsigned waiters;
};

extern int inflight_init (struct inflight *in);
extern void inflight_destroy (struct inflight *in);

/* Takes [first, end), waiting until no range that overlaps it is held. */
extern void inflight_take (struct inflight *in, struct inflight_range *range,
                           uint64_t first, uint64_t end);
extern void inflight_drop (struct inflight *in, struct inflight_range *range);

#endif /* NBDFLEECE_INFLIGHT_H */
