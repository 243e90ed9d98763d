/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A second snapshot and a checkpoint begin under writes, and the process may
 * be killed anywhere, also in the middle of the flip: T1 and the order of F1-F4
 * (filter/snapshot.c). */

/* One cluster, snapshot 0 and checkpoint 0 from before; snapshot 1 and
 * checkpoint 1 begin at one instant.  Two guest requests, a reader of either
 * snapshot.  The gate is one step here; gate.pml shows that it is as good as
 * that.  A kill forgets all but the files and the disk; the next process takes
 * up what is ACTIVE before it serves, and the guest sends again what was not
 * answered.
 *
 * Shown:
 *   - a reader of either snapshot gets the content of that one's instant;
 *   - tracking is a superset: when a write is issued, every checkpoint whose
 *     instant has passed finds its bit in its own bitmap or a later one's;
 *   - no kill leaves changes untracked or costs a checkpoint;
 *   - what a snapshot leaves out as unchanged since checkpoint 0 is unchanged.
 *
 * verify
 * verify KILL
 * catch BREAK_NO_DRAIN
 * catch BREAK_SET_BEFORE_GATE
 * catch BREAK_T1_AFTER_W4
 * catch BREAK_ONE_SNAPSHOT_ONLY
 * catch BREAK_SCOPE_BEFORE_FLIP
 * catch BREAK_F4_BEFORE_F1
 * catch KILL BREAK_F3_BEFORE_F2
 * catch KILL BREAK_SERVE_BEFORE_TAKE_UP
 * catch KILL BREAK_MAPS_NOT_TAKEN_UP
 * catch KILL BREAK_OLDER_BITMAP_GOES_ON
 */

#define NS 2
#define NC 1
#include "map.pml"

#define PREPARED 0
#define ACTIVE 1
#define FROZEN 2
#define INCONSISTENT 3

/* Files. */
byte map_state[NS], ck_state[2];
bit dirty[2];

/* The process's memory. */
bool serving = true, closed;
byte inside;                    /* requests inside the gate */
byte set = 1;                   /* snapshots, a mask */
byte tracking;                  /* checkpoint whose bitmap is in use */
byte held;                      /* in-flight ranges, a mask of snapshots */
byte generation;

/* Ghosts. */
byte passed = 1;                /* checkpoints whose instant has passed */
bool changed;                   /* the cluster, since checkpoint 0 */
bool changed_before;            /* the same, at the flip */

/* W1-W3 for snapshot s. */
inline copy (s)
{
  load_state (s, 0, st);
  if
  :: st == LIVE ->
     atomic { !(held & (1 << s)) -> held = held | (1 << s) };
     load_state (s, 0, st);
     if
     :: st == LIVE ->
        scratch[s] = PART;
        scratch[s] = live[0];
        copied[s] = 1
     :: else
     fi;
     held = held & ~(1 << s)
  :: else
  fi;
  st = 0
}

inline issue ()
{
  atomic {                      /* W4 */
    assert (!(passed & 1) || dirty[0] || dirty[1]);
    assert (!(passed & 2) || dirty[1]);
    live[0] = NEW;
    changed = true
  }
}

proctype request ()
{
  byte gen, mine, bitmap, st;

again:
  atomic { gen = generation; st = 0 }
  {
#ifdef BREAK_SET_BEFORE_GATE
    atomic { serving -> mine = set; bitmap = tracking };
#endif
    atomic { serving && !closed -> inside++ };
#ifndef BREAK_SET_BEFORE_GATE
    atomic { mine = set; bitmap = tracking };
#endif
    if
    :: mine & 1 -> copy (0)
    :: else
    fi;
#ifndef BREAK_ONE_SNAPSHOT_ONLY
    if
    :: mine & 2 -> copy (1)
    :: else
    fi;
#endif
#ifdef BREAK_T1_AFTER_W4
    issue ();
    dirty[bitmap] = 1;
#else
T1: dirty[bitmap] = 1;
    issue ();
#endif
    inside--
  } unless { generation != gen -> goto again }
}

/* The stores of the flip.  The instants are when they can first be seen. */
inline flip_tracking ()
{
  atomic { ck_state[1] = ACTIVE; passed = passed | 2 }
}

inline flip_map ()
{
  atomic { old[1] = live[0]; changed_before = changed; map_state[1] = ACTIVE }
}

proctype begin ()
{
  byte gen;
  bool unchanged;

  gen = generation;
  {
    serving;
#ifdef BREAK_SCOPE_BEFORE_FLIP
    unchanged = !dirty[0];
#endif
    closed = true;
#ifndef BREAK_NO_DRAIN
    inside == 0;
#endif
#ifdef BREAK_F3_BEFORE_F2
    flip_map ();
    ck_state[0] = FROZEN;
    flip_tracking ();
    atomic { set = set | 2; tracking = 1 };
#elif defined BREAK_F4_BEFORE_F1
    atomic { set = set | 2; tracking = 1; closed = false };
    flip_map ();
    flip_tracking ();
    ck_state[0] = FROZEN;
#else
    flip_map ();                /* F1 */
    flip_tracking ();           /* F2 */
    ck_state[0] = FROZEN;       /* F3 */
    atomic { set = set | 2; tracking = 1 }; /* F4: one pointer */
#endif
    closed = false;
#ifndef BREAK_SCOPE_BEFORE_FLIP
    unchanged = !dirty[0];
#endif
    if
    :: unchanged -> released[1] = 1; assert (!changed_before)
    :: else
    fi
  } unless { generation != gen }
}

proctype reader (byte s)
{
  byte st, st2, val;

end:                            /* a killed begin need not be done again */
  map_state[s] == ACTIVE;
  do
  :: load_state (s, 0, st);
     if
     :: st == RELEASED -> break
     :: else
     fi;
     val = (st == COPIED -> scratch[s] : live[0]);
     load_state (s, 0, st2);
     if
     :: st == st2 -> assert (val == old[s]); break
     :: else
     fi
  od
}

#ifdef KILL
inline take_up ()
{
#ifndef BREAK_MAPS_NOT_TAKEN_UP
  set = (map_state[0] == ACTIVE -> set | 1 : set);
  set = (map_state[1] == ACTIVE -> set | 2 : set);
#endif
  if
  :: ck_state[0] == ACTIVE && ck_state[1] == ACTIVE ->
#ifdef BREAK_OLDER_BITMAP_GOES_ON
     ck_state[1] = FROZEN;
     tracking = 0
#else
     ck_state[0] = FROZEN;
     tracking = 1
#endif
  :: ck_state[0] == ACTIVE && ck_state[1] != ACTIVE -> tracking = 0
  :: ck_state[0] != ACTIVE && ck_state[1] == ACTIVE -> tracking = 1
  :: ck_state[0] != ACTIVE && ck_state[1] != ACTIVE ->
     assert (false)             /* tracking was interrupted */
  fi
}

proctype killer ()
{
  atomic {
    generation++;
    serving = false;
    closed = false;
    inside = 0;
    set = 0;
    held = 0
  }
#ifdef BREAK_SERVE_BEFORE_TAKE_UP
  serving = true;
#endif
  take_up ();
  serving = true
}
#endif

init
{
  atomic {
    if :: live[0] = ZERO :: live[0] = OLD fi;
    old[0] = live[0];
    map_state[0] = ACTIVE;
    ck_state[0] = ACTIVE;
    run request ();
    run begin ();
    if :: run reader (0) :: run reader (1) fi;
#ifdef KILL
    run killer ()
#else
    run request ()
#endif
  }
}
