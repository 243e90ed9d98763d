/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A job that drains, flushes and releases clusters (L1-L3) while the guest
 * writes to them and another client reads them. */

/* The job is the copier's: read through the reader, write to the target,
 * flush the target, then cluster by cluster clear the bit of the copy bitmap,
 * set released, punch.  The target may lose what was not flushed, the copier
 * may be killed between any two steps and goes on from the copy bitmap.
 *
 * Shown:
 *   - when the job completes, the target has the old content of every cluster
 *     on its disk, whatever was lost and killed on the way;
 *   - the other client gets old content or is refused, never what a punch
 *     left;
 *   - a job that goes on never needs a cluster that it has released;
 *   - when all is quiet no released cluster occupies scratch, also not one
 *     that the filter copied while it was being released.
 *
 * verify CLIENT
 * verify KILL
 * never-reached err = st          (that a job never needs what it released)
 * catch CLIENT BREAK_NO_R3
 * catch CLIENT BREAK_L3_BEFORE_L2
 * catch BREAK_RELEASE_BEFORE_FLUSH
 * catch BREAK_NO_W5
 * catch KILL BREAK_L2_BEFORE_CLEAR
 * catch KILL BREAK_RESUME_NO_PUNCH
 */

#define NS 1
#define NC 2
#include "map.pml"

#define NOTHING 4               /* what a fresh target holds */

byte copybits = BOTH;           /* the copy bitmap */
byte cache[NC], disk[NC];       /* of the target */
byte generation;                /* of the copier's process */

inline punch (c)
{
  scratch[AT (0, c)] = ZERO
}

/* L3: what is not copied (yet) is not there to be punched. */
inline punch_copied (c)
{
  if
  :: copied[AT (0, c)] -> punch (c)
  :: else
  fi
}

proctype writer (byte c)
{
  byte st, buf;

W1:
  load_state (0, c, st);
  if
  :: st != LIVE
  :: else ->
W2:  buf = live[c];
     if
     :: buf == ZERO
     :: else -> scratch[c] = PART; scratch[c] = buf
     fi;
W3:  copied[c] = 1;
#ifndef BREAK_NO_W5
W5:  if                         /* released meanwhile: L3 was too soon */
     :: released[c] -> punch (c)
     :: else
     fi
#endif
  fi;
W4:
  live[c] = NEW
}

#ifdef CLIENT
proctype client ()
{
  byte need = BOTH, err, rc, rn, ri, st, st2, val[NC];

  walk (0);
  if
  :: err != LIVE
  :: else -> assert (val[0] == old[0] && val[1] == old[1])
  fi
}
#endif

/* One cluster that the target has flushed. */
inline drained (c)
{
#ifdef BREAK_L2_BEFORE_CLEAR
  released[c] = 1;
  copybits = copybits & ~(1 << c);
  punch_copied (c)
#elif defined BREAK_L3_BEFORE_L2
  copybits = copybits & ~(1 << c);
  punch_copied (c);
  released[c] = 1
#else
  copybits = copybits & ~(1 << c);
  released[c] = 1;
  punch_copied (c)
#endif
}

proctype copier ()
{
  byte gen, need, got, err, rc, rn, ri, st, st2, val[NC];

again:
  atomic {
    gen = generation;
    err = 0; rc = 0; rn = 0; ri = 0; st = 0; st2 = 0
  }
  {
    do                          /* what the one before us may have left */
    :: ri < NC ->
       if
       :: copybits & (1 << ri)
       :: else ->
          released[ri] = 1;
#ifndef BREAK_RESUME_NO_PUNCH
          punch_copied (ri)
#endif
       fi;
       ri++
    :: else -> break
    od;
    do
    :: copybits == 0 -> break
    :: else ->
       need = copybits;
       got = need;
       walk (0);
       assert (err == LIVE);
       ri = 0;
       do
       :: ri < NC ->
          if
          :: got & (1 << ri) -> cache[ri] = val[ri]
          :: else
          fi;
          ri++
       :: else -> break
       od;
#ifndef BREAK_RELEASE_BEFORE_FLUSH
L1:    if
       :: atomic { disk[0] = cache[0]; disk[1] = cache[1] }
       :: atomic { cache[0] = disk[0]; cache[1] = disk[1]; got = 0 }
       fi;
#endif
L2:    ri = 0;
       do
       :: ri < NC ->
          if
          :: got & (1 << ri) -> drained (ri)
          :: else
          fi;
          ri++
       :: else -> break
       od;
#ifdef BREAK_RELEASE_BEFORE_FLUSH
       if
       :: atomic { disk[0] = cache[0]; disk[1] = cache[1] }
       :: atomic { cache[0] = disk[0]; cache[1] = disk[1]; got = 0 }
       fi;
#endif
       got = 0; ri = 0
    od;
    assert (disk[0] == old[0] && disk[1] == old[1])
  } unless { generation != gen -> goto again }
}

#ifdef KILL
proctype killer ()
{
  generation++
}
#endif

init
{
  atomic {
    if :: old[0] = ZERO :: old[0] = OLD fi;
    old[1] = OLD;
    live[0] = old[0];
    live[1] = old[1];
    cache[0] = NOTHING;
    cache[1] = NOTHING;
    disk[0] = NOTHING;
    disk[1] = NOTHING;
    run writer (0);
    run writer (1);
    run copier ();
#ifdef CLIENT
    run client ();
#endif
#ifdef KILL
    run killer ()
#endif
  }
  (_nr_pr == 1);
  assert (released[0] && released[1]);
  assert (scratch[0] == ZERO && scratch[1] == ZERO)
}
