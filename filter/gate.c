/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Holding the guest's writes for an instant, and waiting them out. */

/* Two things need to know that no changing request is under way: a snapshot
 * begins when none is (the gate is closed), and a snapshot's files go away
 * when all that may still use them have left (a grace period, gate open).
 * Both rest on counters of who is inside, one per slot, so that threads do
 * not fight over a cache line.  A request enters and leaves by one slot, so a
 * slot's count is exact.
 *
 *   G1  a request counts itself in          G3  close: closed = true
 *   G2  and looks whether it is closed      G4  and looks at the counters
 *
 * All four are sequentially consistent, so either the request sees the gate
 * closed, counts itself out again and waits, or the closer sees it inside and
 * waits.  The flip comes after G4 found zero, under the lock: it cannot meet a
 * request, and the gate cannot open meanwhile.
 *
 * Who waits for whom, and why it ends.  A held request waits for the gate to
 * open, at most until the deadline: whoever finds the deadline passed opens
 * it, be it the closer, the control thread or the held request itself.  The
 * closer waits for requests inside, that is for the live disk and the local
 * scratch, at most until the deadline.  Nobody inside waits for the gate.
 *
 * A grace period (gate_synchronize) is the two-flip scheme of sleepable RCU:
 * new requests count under the other parity, the old parity runs dry.  Once
 * is not enough: a request may have read the epoch long ago and count itself
 * in under a parity that is only now being waited for the next time.  What a
 * request may use it loads after it has counted itself in (G1), so one that
 * counts itself in too late to be waited for loads the new set.
 *
 * Two threads may wait at once, and flip for each other.  That costs them time
 * at worst: what each needs is to have seen either parity run dry.
 *
 * Lost wake-ups: who leaves counts down (seq_cst), then looks at `waiting';
 * who waits raises `waiting' (seq_cst), then looks at the counters, and does so
 * under the lock that the signal takes.
 */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "gate.h"

#define NS_PER_MS UINT64_C (1000000)

uint64_t
now_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * UINT64_C (1000000000) + t.tv_nsec;
}

static struct timespec
to_timespec (uint64_t t)
{
  return (struct timespec) { .tv_sec = t / 1000000000,
                             .tv_nsec = t % 1000000000 };
}

int
gate_init (struct gate *g)
{
  pthread_condattr_t attr;
  int err;

  if ((err = pthread_condattr_init (&attr)) != 0)
    goto failed;
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  if ((err = pthread_mutex_init (&g->lock, NULL)) == 0
      && (err = pthread_cond_init (&g->opened, &attr)) == 0)
    err = pthread_cond_init (&g->left, &attr);
  pthread_condattr_destroy (&attr);
  if (err == 0)
    return 0;
 failed:
  errno = err;
  return -1;
}

void
gate_destroy (struct gate *g)
{
  pthread_cond_destroy (&g->left);
  pthread_cond_destroy (&g->opened);
  pthread_mutex_destroy (&g->lock);
}

struct gate_slot *
gate_slot (struct gate *g)
{
  static _Atomic unsigned threads;
  /* 0: none yet.  Of the static block, though we are loaded late: no call to
   * find it, and nothing that the C library frees when a thread ends, behind
   * the back of ThreadSanitizer.  */
  static __thread unsigned mine __attribute__ ((tls_model ("initial-exec")));

  if (mine == 0)
    mine = 1 + atomic_fetch_add_explicit (&threads, 1, memory_order_relaxed);
  return &g->slots[mine & (GATE_SLOTS - 1)];
}

/* Under lock. */
static void
open_locked (struct gate *g)
{
  atomic_store (&g->closed, false);
  pthread_cond_broadcast (&g->opened);
}

/* Under lock. */
static bool
expire_locked (struct gate *g)
{
  if (!atomic_load (&g->closed) || now_ns () < g->deadline)
    return false;
  g->expired = true;
  open_locked (g);
  return true;
}

/* A request found the gate closed. */
static void
wait_until_open (struct gate *g)
{
  atomic_fetch_add_explicit (&g->held, 1, memory_order_relaxed);
  pthread_mutex_lock (&g->lock);
  while (atomic_load (&g->closed) && !expire_locked (g)) {
    struct timespec t = to_timespec (g->deadline);

    pthread_cond_timedwait (&g->opened, &g->lock, &t);
  }
  pthread_mutex_unlock (&g->lock);
}

struct gate_ticket
gate_enter (struct gate *g)
{
  struct gate_ticket t = { .slot = gate_slot (g) };

  for (;;) {
    t.parity = atomic_load (&g->epoch) & 1;
    atomic_fetch_add (&t.slot->inside[t.parity], 1); /* G1 */
    if (__builtin_expect (!atomic_load (&g->closed), 1)) /* G2 */
      return t;
    gate_leave (g, t);
    wait_until_open (g);
  }
}

void
gate_leave (struct gate *g, struct gate_ticket t)
{
  atomic_fetch_sub (&t.slot->inside[t.parity], 1);
  if (__builtin_expect (atomic_load (&g->waiting), 0)) {
    pthread_mutex_lock (&g->lock);
    pthread_cond_broadcast (&g->left);
    pthread_mutex_unlock (&g->lock);
  }
}

/* True if nobody is inside under the parities of mask (1 and 2). */
static bool
empty (struct gate *g, unsigned mask)
{
  unsigned i, parity;

  for (parity = 0; parity < 2; parity++)
    for (i = 0; (mask >> parity & 1) && i < GATE_SLOTS; i++)
      if (atomic_load (&g->slots[i].inside[parity]) != 0) /* G4 */
        return false;
  return true;
}

/* Under lock: waits until empty or until the deadline.  */
static int
wait_until_empty (struct gate *g, unsigned mask, uint64_t deadline)
{
  struct timespec t = to_timespec (deadline);
  bool done;

  atomic_fetch_add (&g->waiting, 1);
  while (!(done = empty (g, mask)))
    if (pthread_cond_timedwait (&g->left, &g->lock, &t) == ETIMEDOUT) {
      done = empty (g, mask);
      break;
    }
  atomic_fetch_sub (&g->waiting, 1);
  if (!done)
    errno = ETIMEDOUT;
  return done ? 0 : -1;
}

int
gate_close (struct gate *g, uint32_t deadline_ms)
{
  int r = -1;

  pthread_mutex_lock (&g->lock);
  expire_locked (g);
  if (atomic_load (&g->closed)) {
    pthread_mutex_unlock (&g->lock);
    errno = EBUSY;
    return -1;
  }
  g->expired = false;
  g->closed_at = now_ns ();
  g->deadline = g->closed_at + deadline_ms * NS_PER_MS;
  atomic_store (&g->closed, true); /* G3 */
  r = wait_until_empty (g, 3, g->deadline);
  g->drained_at = now_ns ();
  /* A held request may have opened it in the same moment. */
  if (r == -1 || !atomic_load (&g->closed)) {
    g->expired = true;
    open_locked (g);
    errno = ETIMEDOUT;
    r = -1;
  }
  pthread_mutex_unlock (&g->lock);
  return r;
}

int
gate_flip (struct gate *g, void (*flip) (void *), void *opaque)
{
  int r = -1;

  pthread_mutex_lock (&g->lock);
  expire_locked (g);
  if (atomic_load (&g->closed)) {
    flip (opaque);
    r = 0;
  }
  pthread_mutex_unlock (&g->lock);
  if (r == -1)
    errno = ESTALE;
  return r;
}

int
gate_open (struct gate *g, uint64_t *closed_ns, uint64_t *drain_ns)
{
  int r = -1;

  pthread_mutex_lock (&g->lock);
  if (closed_ns)
    *closed_ns = now_ns () - g->closed_at;
  if (drain_ns)
    *drain_ns = g->drained_at - g->closed_at;
  if (atomic_load (&g->closed)) {
    open_locked (g);
    r = 0;
  }
  pthread_mutex_unlock (&g->lock);
  if (r == -1)
    errno = ESTALE;
  return r;
}

int
gate_expire (struct gate *g)
{
  int ms = -1;

  if (!atomic_load (&g->closed))
    return -1;
  pthread_mutex_lock (&g->lock);
  if (!expire_locked (g) && atomic_load (&g->closed))
    ms = (g->deadline - now_ns ()) / NS_PER_MS + 1;
  pthread_mutex_unlock (&g->lock);
  return ms;
}

int
gate_synchronize (struct gate *g, uint32_t timeout_ms)
{
  uint64_t deadline = now_ns () + timeout_ms * NS_PER_MS;
  unsigned old;
  int r;

  pthread_mutex_lock (&g->lock);
  old = atomic_fetch_add (&g->epoch, 1) & 1;
  r = wait_until_empty (g, 1 << old, deadline);
  if (r == 0) {
    atomic_fetch_add (&g->epoch, 1);
    r = wait_until_empty (g, 1 << !old, deadline);
  }
  pthread_mutex_unlock (&g->lock);
  return r;
}
