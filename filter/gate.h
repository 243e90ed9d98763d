/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The gate that every changing request of the guest passes. */

#ifndef NBDFLEECE_GATE_H
#define NBDFLEECE_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define GATE_SLOTS 64           /* power of two */

/* One cache line: threads that share a slot share the line, others do not. */
struct gate_slot {
  /* Requests that are inside, by parity of the epoch they came in under. */
  _Atomic uint64_t inside[2];
  /* Statistics, relaxed, here because the line is at hand anyway. */
  _Atomic uint64_t writes, written_bytes, zeroes, trims;
  char pad[16];
} __attribute__ ((aligned (64)));

_Static_assert (sizeof (struct gate_slot) == 64, "one cache line");

struct gate {
  struct gate_slot slots[GATE_SLOTS];

  /* Atomic.  closed: partner is slots[].inside (Dekker, steps G1/G2 against
   * G3/G4); waiting: the same pair for who leaves against who drains. */
  _Atomic unsigned epoch;
  _Atomic bool closed;
  _Atomic unsigned waiting;     /* how many wait for somebody to leave */
  _Atomic uint64_t held;        /* statistics: requests that had to wait */

  /* Under lock, which is held only for moments and never across I/O: the
   * last lock of every path. */
  pthread_mutex_t lock;
  pthread_cond_t opened;        /* closed became false */
  pthread_cond_t left;          /* somebody left while waiting was true */
  bool expired;                 /* it opened by itself */
  uint64_t closed_at, deadline; /* CLOCK_MONOTONIC, ns */
  uint64_t drained_at;
};

/* Where a request is inside: from gate_enter, for gate_leave. */
struct gate_ticket {
  struct gate_slot *slot;
  unsigned parity;
};

/* On a struct of zeroes.  0, or -1 and errno. */
extern int gate_init (struct gate *g);
extern void gate_destroy (struct gate *g);

/* The slot of the calling thread, for its statistics. */
extern struct gate_slot *gate_slot (struct gate *g);

/* A changing request comes and goes.  gate_enter waits while the gate is
 * closed, which its deadline bounds. */
extern struct gate_ticket gate_enter (struct gate *g);
extern void gate_leave (struct gate *g, struct gate_ticket ticket);

/* Closes the gate for at most deadline_ms from now and waits until nobody is
 * inside.  0; or -1 with the gate open and errno ETIMEDOUT, or EBUSY if it
 * was closed already. */
extern int gate_close (struct gate *g, uint32_t deadline_ms);

/* Calls flip while nobody is inside and nobody can come in.  0, or -1 with
 * errno ESTALE if the gate is not closed (any more). */
extern int gate_flip (struct gate *g, void (*flip) (void *), void *opaque);

/* Opens the gate.  0, or -1 with errno ESTALE if it had opened by itself, or
 * was not closed.  *closed_ns and *drain_ns, if not NULL, say how long it was
 * closed and how much of that it waited for those inside. */
extern int gate_open (struct gate *g, uint64_t *closed_ns, uint64_t *drain_ns);

/* Opens the gate if its deadline has passed.  Returns the milliseconds until
 * then, -1 if it is open. */
extern int gate_expire (struct gate *g);

/* Waits until everybody who was inside at the call has left, without keeping
 * anybody out; at most timeout_ms.  0, or -1 with errno ETIMEDOUT. */
extern int gate_synchronize (struct gate *g, uint32_t timeout_ms);

/* CLOCK_MONOTONIC in nanoseconds. */
extern uint64_t now_ns (void);

#endif /* NBDFLEECE_GATE_H */
