/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copy-before-write against a reader that takes no lock: W1-W4, R1-R3, E1, E2,
 * with scratch errors and the filter killed anywhere. */

/* Two guest requests of any overlap, one reader of both clusters, the end of
 * the snapshot, one kill -9 of the filter's process.  A killed filter forgets
 * its in-flight ranges, and nothing else: the map, the scratch and the disk
 * stay as they are between any two steps.  The guest then sends its request
 * again.
 *
 * Shown:
 *   - what a reader returns is the old content: never new data, and never a
 *     hole of the scratch for a cluster that is not in it;
 *   - one cluster is copied once (but for what a kill undid);
 *   - nobody writes to a scratch cluster that is marked;
 *   - nobody waits for ever.
 *
 * With KILL there is one request, without the end, to keep it small.
 *
 * verify
 * verify KILL
 * catch BREAK_W4_BEFORE_W3
 * catch BREAK_W3_BEFORE_W2
 * catch BREAK_R3_BEFORE_R2
 * catch BREAK_NO_R3
 * catch BREAK_NO_RANGE_LOCK
 * catch BREAK_NO_RECHECK
 * catch BREAK_COPIED_ON_ERROR
 * catch BREAK_LOST_NOT_SET
 * catch BREAK_ENDED_TOO_EARLY
 * catch BREAK_E2_BEFORE_E1
 * catch KILL BREAK_W3_BEFORE_W2
 */

#define NS 1
#define NC 2
#include "map.pml"

bool ended;                     /* the file's state is ENDED */
bool in_set = true;             /* writers copy for it */
byte held;                      /* in-flight ranges: mask of clusters */
byte generation;                /* of the filter's process */
byte copies[NC];                /* ghost: W2s since the last kill */

/* The clusters of a request, in order. */
#define EACH(mask)                                                      \
  c = 0;                                                                \
  do                                                                    \
  :: c == NC -> break                                                   \
  :: c < NC && !((mask) & (1 << c)) -> c++                              \
  :: else ->
#define NEXT c++ od; c = 0

/* Puts the old content of cluster c away.  Zeroes need no space. */
inline copy_cluster (c)
{
  buf = live[c];
  copies[c]++;
  assert (copies[c] == 1);
  if
  :: buf == ZERO                /* a hole already */
  :: else ->
     assert (!copied[c] && !lost[c]);
     scratch[c] = PART;
     if
     :: scratch[c] = buf
     :: failed = failed | (1 << c) /* no space, an error, a time-out */
     fi
  fi;
  buf = 0
}

inline mark_cluster (c)
{
  if
  :: failed & (1 << c) ->
#ifdef BREAK_COPIED_ON_ERROR
     copied[c] = 1
#elif defined BREAK_LOST_NOT_SET
     skip
#else
     lost[c] = 1
#endif
  :: else -> copied[c] = 1
  fi
}

inline write_live (c)
{
  live[c] = NEW
}

inline find_live (c)
{
  load_state (0, c, st);
  need = (st == LIVE -> need | (1 << c) : need);
  st = 0
}

proctype writer ()
{
  byte gen, range, need, failed, buf, st, c;

  if                            /* the clusters it will change */
  :: range = 1
  :: range = 2
  :: range = BOTH
  fi;
again:
  atomic { gen = generation; need = 0; failed = 0; buf = 0; st = 0; c = 0 }
  {
    if
    :: in_set -> goto fast
    :: else -> goto W4s
    fi;
fast:                           /* map_next_live without a lock */
    EACH (range) find_live (c); NEXT;
    if
    :: need == 0 -> goto W4s
    :: else
    fi;
#ifndef BREAK_NO_RANGE_LOCK
    atomic { (held & range) == 0 -> held = held | range }
#endif
#ifndef BREAK_NO_RECHECK
    need = 0;
    EACH (range) W1: find_live (c); NEXT;
#endif
#ifdef BREAK_W3_BEFORE_W2
    EACH (need) mark_cluster (c); NEXT;
#endif
    EACH (need) W2: copy_cluster (c); NEXT;
#ifdef BREAK_W4_BEFORE_W3
    EACH (range) write_live (c); NEXT;
#endif
#ifndef BREAK_W3_BEFORE_W2
    EACH (need) W3: mark_cluster (c); NEXT;
#endif
#ifndef BREAK_NO_RANGE_LOCK
    atomic { held = held & ~range }
#endif
W4s:
    EACH (range) W4: write_live (c); NEXT
  }
#ifdef KILL
  unless { generation != gen -> goto again }
#endif
}

proctype reader ()
{
  byte need = BOTH, err, rc, rn, ri, st, st2, val[NC];

#ifdef BREAK_ENDED_TOO_EARLY
  bool gone = ended;
#endif
  walk (0);
#ifndef BREAK_ENDED_TOO_EARLY
  bool gone = ended;            /* settle () */
#endif
  if
  :: gone || err != LIVE
  :: else -> assert (val[0] == old[0] && val[1] == old[1])
  fi
}

proctype ender ()
{
#ifdef BREAK_E2_BEFORE_E1
  in_set = false;
  ended = true
#else
E1: ended = true;
E2: in_set = false
#endif
}

#ifdef KILL
proctype killer ()
{
  atomic { generation++; held = 0; copies[0] = 0; copies[1] = 0 }
}
#endif

init
{
  atomic {
    if :: old[0] = ZERO :: old[0] = OLD fi;
    old[1] = OLD;
    live[0] = old[0];
    live[1] = old[1];
    run writer ();
    run reader ();
#ifdef KILL
    run killer ()
#else
    run writer ();
    run ender ()
#endif
  }
}
