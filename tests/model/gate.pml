/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The gate that makes an instant, and the grace period that ends a snapshot:
 * G1-G4, E1, E2 (filter/gate.c, filter/snapshot.c). */

/* Two guest requests, and the control thread.  It closes the gate, begins
 * snapshot 1, ends snapshot 0, before or after that, and then snapshot 1.
 * With CLOCK the deadlines of the gate and of the grace period pass at some
 * time; without, they never do, so that no lost wake-up can hide behind a
 * time-out.  With STUCK the client that froze never says anything again.
 *
 * Shown:
 *   - at the flip no request is inside, and every request that comes after it
 *     copies for the new snapshot;
 *   - a request copies for every snapshot whose readers still trust it, from
 *     the flip to E1;
 *   - no request uses the files of a snapshot that have been let go;
 *   - a gate that has opened by itself flips nothing;
 *   - nobody waits for ever: no request at the gate, whatever its holder does,
 *     and no drain or grace period once the requests have left.
 *
 * verify
 * verify CLOCK
 * verify CLOCK STUCK
 * catch BREAK_CLOSED_BEFORE_COUNT
 * catch BREAK_SET_BEFORE_COUNT
 * catch BREAK_WAITING_AFTER_LOOK
 * catch BREAK_WAKE_WITHOUT_LOCK
 * catch BREAK_HELD_IS_COUNTED
 * catch BREAK_ONE_ROUND
 * catch BREAK_NO_GRACE
 * catch BREAK_E2_BEFORE_E1
 * catch BREAK_OPEN_BEFORE_FLIP
 * catch BREAK_OPEN_WAKES_NOBODY
 * catch CLOCK BREAK_FLIP_UNCHECKED
 * catch CLOCK STUCK BREAK_NO_EXPIRY
 */

#define NW 2                    /* guest requests, each with its own slot */

bool mutex;                     /* gate.lock */
bool closed, expired;
bool past;                      /* the gate's deadline has passed */
bool late;                      /* so has the grace period's */
byte count[NW * 2];             /* gate_slot.inside, by slot and parity */
bit epoch;
bool waiting;                   /* the control thread, for requests to leave */
bool asleep;                    /* in gate.left */
bool held[NW];                  /* in gate.opened */
byte set = 1;                   /* snapshots that requests copy for, a mask */

byte owed = 1;                  /* ghost: from the flip to E1, a mask */
byte freed;                     /* ghost: files let go, a mask */
byte inside;                    /* ghost: requests let in */

#define LOCK atomic { !mutex -> mutex = true }
#define UNLOCK mutex = false

inline leave (w, p)
{
  count[w * 2 + p]--;
  if
  :: waiting ->
#ifdef BREAK_WAKE_WITHOUT_LOCK
     asleep = false
#else
     LOCK;
     asleep = false;
     UNLOCK
#endif
  :: else
  fi
}

inline open_gate ()
{
  closed = false;
#ifndef BREAK_OPEN_WAKES_NOBODY
  atomic { held[0] = false; held[1] = false }
#endif
}

/* Under lock. */
inline wait_until_open (w)
{
  do
  :: !closed -> break
#ifndef BREAK_NO_EXPIRY
  :: closed && past ->
     expired = true;
     open_gate ();
     break
#endif
  :: closed && !past ->
     atomic { held[w] = true; mutex = false };
#ifdef BREAK_NO_EXPIRY
     !held[w];
#else
     !held[w] || past;
#endif
     held[w] = false;
     LOCK
  od
}

proctype request (byte w)
{
  bit p;
  byte mine;

again:
#ifdef BREAK_CLOSED_BEFORE_COUNT
  if
  :: closed -> goto wait
  :: else
  fi;
#endif
#ifdef BREAK_SET_BEFORE_COUNT
  mine = set;
#endif
  p = epoch;
G1:
  count[w * 2 + p]++;           /* partners: G3, and the grace period's look */
#ifndef BREAK_CLOSED_BEFORE_COUNT
G2:
  if
  :: closed ->
#ifndef BREAK_HELD_IS_COUNTED
     leave (w, p);
#endif
     goto wait
  :: else
  fi;
#endif
#ifndef BREAK_SET_BEFORE_COUNT
  mine = set;                   /* partner: E2 */
#endif
  inside++;
  assert ((mine & freed) == 0); /* W1-W3 */
W4:
  assert ((mine & freed) == 0 && (owed & ~mine) == 0);
  inside--;
  leave (w, p);
  goto done;
wait:
  LOCK;
  wait_until_open (w);
  UNLOCK;
#ifdef BREAK_HELD_IS_COUNTED
  leave (w, p);
#endif
  goto again;
done:
  skip
}

/* One look at the counters of the parities in mask. */
inline look (mask)
{
  none = true;
  i = 0;
  do
  :: i < NW * 2 ->
     if
     :: (mask & (1 << (i & 1))) && count[i] > 0 -> none = false; break
     :: else -> i++
     fi
  :: else -> break
  od;
  i = 0
}

/* Under lock, until `over'. */
inline wait_until_empty (mask, over)
{
#ifndef BREAK_WAITING_AFTER_LOOK
  waiting = true;
#endif
  do
  :: look (mask);               /* G4 */
     if
     :: none -> break
     :: else -> skip
     fi;
#ifdef BREAK_WAITING_AFTER_LOOK
     waiting = true;
#endif
     atomic { asleep = true; mutex = false };
     !asleep || (over);
     asleep = false;
     LOCK;
     if
     :: over -> look (mask); break
     :: else
     fi
  od;
  waiting = false
}

inline round ()
{
  e = epoch;
  epoch = 1 - e;
  wait_until_empty (1 << e, late);
  e = 0
}

inline end_snapshot (s)
{
#ifdef BREAK_E2_BEFORE_E1
  set = set & ~s;
  owed = owed & ~s;
#else
  owed = owed & ~s;             /* E1 */
  set = set & ~s;               /* E2 */
#endif
#ifndef BREAK_NO_GRACE
  LOCK;
  round ();
#ifndef BREAK_ONE_ROUND
  if
  :: none -> round ()
  :: else
  fi;
#endif
  UNLOCK;
#else
  none = true;
#endif
  if
  :: none -> freed = freed | s
  :: else                       /* leaked */
  fi
}

inline close_gate ()
{
  LOCK;
  closed = true;                /* G3 */
  wait_until_empty (3, past);
  if
  :: !none || !closed -> expired = true; open_gate ()
  :: else
  fi;
  UNLOCK
}

inline begin ()
{
  LOCK;
  if
#ifdef BREAK_FLIP_UNCHECKED
  :: true ->
#else
  :: closed && !expired ->
#endif
#ifdef BREAK_OPEN_BEFORE_FLIP
     open_gate ();
#endif
     assert (inside == 0);
     owed = owed | 2;
     set = set | 2;
#ifndef BREAK_OPEN_BEFORE_FLIP
     open_gate ();
#endif
     begun = true
#ifndef BREAK_FLIP_UNCHECKED
  :: else                       /* ESTALE */
#endif
  fi;
  UNLOCK
}

proctype control ()
{
  byte i;
  bit e;
  bool none, begun;

  close_gate ();
  if
  :: true -> end_snapshot (1)
  :: true -> skip
  fi;
#ifndef STUCK
  begin ();
#endif
  if
  :: owed & 1 -> end_snapshot (1)
  :: else
  fi;
  if
  :: begun -> end_snapshot (2)
  :: else
  fi
}

#ifdef CLOCK
proctype clock ()
{
  if
  :: past = true; late = true
  :: late = true; past = true
  fi
}
#endif

init
{
  atomic {
    run request (0);
    run request (1);
    run control ();
#ifdef CLOCK
    run clock ()
#endif
  }
}
