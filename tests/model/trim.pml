/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Deferred trims (filter/trim.c): advice that is taken later must not land on
 * what was written since, nor on a snapshot begun since. */

/* One cluster.  A guest trims it and, when that has been answered, writes it;
 * another request writes it at any time.  Snapshot 0 exists and is released or
 * ended at some time; snapshot 1 and checkpoint 1 begin at some time, and the
 * snapshot is released.  The trimmer comes at any time.  The gate is one step,
 * as in begin.pml.
 *
 * Shown:
 *   - no trim is issued after a write that began when the trim had been
 *     answered;
 *   - readers of both snapshots get the content of their instants;
 *   - a trim that is issued late is tracked like any change of that time;
 *   - nobody waits for ever.
 *
 * verify
 * catch BREAK_WRITE_FORGETS_NOTHING
 * catch BREAK_WRITE_NOT_BUSY
 * catch BREAK_NO_LOOK_WHEN_BUSY
 * catch BREAK_ONLY_SNAPSHOTS_OF_THEN
 * catch BREAK_LATE_TRIM_OUTSIDE_GATE
 * catch BREAK_LATE_TRIM_NOT_TRACKED
 */

#define NS 2
#define NC 1
#include "map.pml"

#define TRIMMED 4

bool closed;
byte inside;
byte set = 1;                   /* snapshots, a mask */
byte tracking;                  /* checkpoint whose bitmap is in use */
bit dirty[2];
byte held;                      /* in-flight ranges, a mask of snapshots */

bool deferred;                  /* the bit of the cluster */
byte count;                     /* bits set */
bool busy;                      /* the range of deferred trims */

bool begun, ended;              /* ghosts: snapshot 1 and snapshot 0 */
bool precious;                  /* ghost: a write that no trim may follow */

/* The loads are one step here; cow.pml and release.pml have them apart. */
#define STATE(s) (released[s] -> RELEASED : (copied[s] -> COPIED : LIVE))

#define ENTER atomic { !closed -> inside++ }
#define LEAVE inside--
#define TAKE_BUSY atomic { !busy -> busy = true }
#define DROP_BUSY busy = false

/* W1-W3 for a snapshot. */
inline copy (s)
{
  if
  :: STATE (s) == LIVE ->
     atomic { !(held & (1 << s)) -> held = held | (1 << s) };
     if
     :: STATE (s) == LIVE ->
        scratch[s] = PART;
        scratch[s] = live[0];
        copied[s] = 1
     :: else
     fi;
     held = held & ~(1 << s)
  :: else
  fi
}

/* Does a snapshot of the mask need what is there? */
inline look_needed (snapshots)
{
  needed = ((snapshots) & 1) && STATE (0) == LIVE;
  needed = needed || (((snapshots) & 2) && STATE (1) == LIVE)
}

inline issue_trim ()
{
  atomic {
    assert (!precious);
    assert (!begun || dirty[1]);
    live[0] = TRIMMED
  }
}

/* trim_enter and trim_leave without the range. */
inline forget ()
{
#ifndef BREAK_WRITE_FORGETS_NOTHING
  if
  :: count > 0 -> atomic { count = (deferred -> count - 1 : count);
                           deferred = false }
  :: else
  fi
#else
  skip
#endif
}

inline write (after_trim)
{
  ENTER;
  atomic { mine = set; bitmap = tracking };
  if
  :: mine == 0 && count == 0
  :: else ->
#ifndef BREAK_WRITE_NOT_BUSY
     TAKE_BUSY;
#endif
     looked = true;
     forget ()
  fi;
  if :: mine & 1 -> copy (0) :: else fi;
  if :: mine & 2 -> copy (1) :: else fi;
  dirty[bitmap] = 1;            /* T1 */
  atomic { live[0] = NEW; precious = precious || after_trim };
  if
  :: looked ->
     forget ();
#ifndef BREAK_WRITE_NOT_BUSY
     DROP_BUSY
#endif
  :: else
  fi;
  LEAVE
}

proctype guest ()
{
  byte mine, bitmap;
  bool needed, looked;

  ENTER;                        /* the trim */
  atomic { mine = set; bitmap = tracking };
  look_needed (mine);
  if
  :: needed ->
     deferred = true;
     count++
  :: else ->
     dirty[bitmap] = 1;         /* T1; there is nothing to copy */
     issue_trim ()
  fi;
  LEAVE;
  write (true)
}

proctype other ()
{
  byte mine, bitmap;
  bool looked;

  write (false)
}

proctype trimmer ()
{
  byte mine, bitmap;
  bool needed, seen;

  if
  :: true                       /* it may come too late */
  :: deferred ->
#ifndef BREAK_LATE_TRIM_OUTSIDE_GATE
     ENTER;
#endif
     atomic { mine = set; bitmap = tracking };
     seen = true;
     TAKE_BUSY;
#ifndef BREAK_NO_LOOK_WHEN_BUSY
     seen = deferred;
#endif
     if
     :: seen ->
#ifdef BREAK_ONLY_SNAPSHOTS_OF_THEN
        look_needed (mine & 1);
#else
        look_needed (mine);
#endif
        if
        :: needed
        :: else ->
#ifndef BREAK_LATE_TRIM_NOT_TRACKED
           dirty[bitmap] = 1;
#endif
           issue_trim ();
           atomic { count = (deferred -> count - 1 : count); deferred = false }
        fi
     :: else
     fi;
     DROP_BUSY;
#ifndef BREAK_LATE_TRIM_OUTSIDE_GATE
     LEAVE
#else
     skip
#endif
  fi
}

proctype finish ()
{
  if
  :: released[0] = 1
  :: ended = true; set = set & ~1
  fi;
  begun;
  released[1] = 1
}

proctype begin ()
{
  atomic { closed = true };
  inside == 0;
  atomic {
    old[1] = live[0];
    begun = true;
    set = set | 2;
    tracking = 1
  };
  closed = false
}

proctype reader (byte s)
{
  byte st, val;

  s == 0 || begun;
  do
  :: st = STATE (s);
     if
     :: st == RELEASED -> break
     :: else
     fi;
     val = (st == COPIED -> scratch[s] : live[0]);
     if
     :: st == STATE (s) ->
        if
        :: s == 0 && ended
        :: else -> assert (val == old[s])
        fi;
        break
     :: else
     fi
  od
}

init
{
  atomic {
    live[0] = OLD;
    old[0] = OLD;
    run guest ();
    run other ();
    run trimmer ();
    run finish ();
    run begin ();
    if :: run reader (0) :: run reader (1) fi
  }
}
