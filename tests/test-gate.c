/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The filter's gate and in-flight ranges under many threads. */

#include <config.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "gate.h"
#include "inflight.h"
#include "testing.h"

#define WRITERS 12
#define ROUNDS 3000
#define CLUSTERS 64

/* What the gate protects: an object that a grace period frees, and a number
 * that only a flip may change. */
struct object { _Atomic bool freed; };

static struct gate gate;
static struct inflight inflight;
static _Atomic (struct object *) current;
static uint64_t flips;          /* plain: the gate is its lock */
static _Atomic unsigned owners[CLUSTERS];
static _Atomic bool stop;
static struct object objects[ROUNDS + 1];

static void *
writer (void *opaque)
{
  struct rng rng = { (uintptr_t) opaque };

  while (!atomic_load (&stop)) {
    struct gate_ticket t = gate_enter (&gate);
    struct object *o = atomic_load (&current);
    uint64_t before = flips, a, c;
    struct inflight_range range;
    unsigned i;

    CHECK (!atomic_load (&o->freed));
    a = rng_below (&rng, CLUSTERS);
    c = a + 1 + rng_below (&rng, CLUSTERS - a < 4 ? CLUSTERS - a : 4);
    inflight_take (&inflight, &range, a, c);
    for (i = a; i < c; i++)
      CHECK (atomic_fetch_add (&owners[i], 1) == 0);
    if (rng_below (&rng, 50) == 0)
      usleep (100);
    for (i = a; i < c; i++)
      CHECK (atomic_fetch_sub (&owners[i], 1) == 1);
    inflight_drop (&inflight, &range);
    CHECK (!atomic_load (&o->freed));
    CHECK (flips == before);
    gate_leave (&gate, t);
  }
  return NULL;
}

static void
flip (void *opaque)
{
  (void) opaque;
  flips++;
}

int
main (void)
{
  struct rng rng = rng_start ();
  pthread_t threads[WRITERS];
  struct gate_ticket t;
  uint64_t i, flipped = 0;

  CHECK (gate_init (&gate) == 0 && inflight_init (&inflight) == 0);
  atomic_store (&current, &objects[0]);
  for (i = 0; i < WRITERS; i++)
    CHECK (pthread_create (&threads[i], NULL, writer,
                           (void *) (uintptr_t) rng_next (&rng)) == 0);
  for (i = 1; i <= ROUNDS; i++) {
    struct object *old = atomic_exchange (&current, &objects[i]);

    /* Nobody is kept out by this, and nobody inside has the old one after. */
    CHECK (gate_synchronize (&gate, 60000) == 0);
    atomic_store (&old->freed, true);
    if (i % 3 == 0) {
      CHECK (gate_close (&gate, 60000) == 0);
      CHECK (gate_close (&gate, 60000) == -1 && errno == EBUSY);
      CHECK (gate_flip (&gate, flip, NULL) == 0);
      CHECK (gate_open (&gate, NULL, NULL) == 0);
      flipped++;
    }
    else if (i % 50 == 1 && gate_close (&gate, 1) == 0) {
      /* It opens by itself: by the held writers' own doing. */
      while (gate_expire (&gate) != -1)
        usleep (200);
      CHECK (gate_flip (&gate, flip, NULL) == -1 && errno == ESTALE);
      CHECK (gate_open (&gate, NULL, NULL) == -1 && errno == ESTALE);
    }
  }
  atomic_store (&stop, true);
  for (i = 0; i < WRITERS; i++)
    pthread_join (threads[i], NULL);
  CHECK (flips == flipped);

  /* Somebody inside who does not leave: both waits end at their time. */
  t = gate_enter (&gate);
  CHECK (gate_close (&gate, 20) == -1 && errno == ETIMEDOUT);
  CHECK (gate_synchronize (&gate, 20) == -1 && errno == ETIMEDOUT);
  gate_leave (&gate, t);
  CHECK (gate_close (&gate, 1000) == 0);
  CHECK (gate_open (&gate, NULL, NULL) == 0);
  inflight_destroy (&inflight);
  gate_destroy (&gate);
  return 0;
}
