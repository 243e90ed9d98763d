/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Durable tracking: the activity log (filter/activity.c), steps A1-A3, C1-C5,
 * and D0-D2 of a checkpoint that begins. */

/* One region with one cluster, the checkpoint 0 from before, checkpoint 1 that
 * begins, two guest requests, a cleaner.  As in clean.pml every page has a
 * content in memory and one on disk, the kernel writes any page at any time or
 * never, and the host crashes between any two steps.  A header is one sector.
 * The live disk is one of these pages: what the guest wrote and a backup has
 * read may be gone after the crash, which is a change, too.
 *
 * With KILL there is one request, and the filter's process may be killed
 * anywhere, before the host is; what is started then is start ().  With FIRST there is no checkpoint 0, and
 * nothing is logged before the flip.  With TWICE there is one request, and the
 * host crashes a second time, or the process is killed, in the recovery from
 * the first crash.
 *
 * Shown:
 *   - a checkpoint that is believed after a crash has the bit of whatever
 *     differs from its instant;
 *   - checkpoint 0 is always believed, and 1 once the filter has said that it
 *     exists: that is what the log is for;
 *   - nobody waits for ever.
 *
 * verify
 * verify FIRST
 * verify KILL
 * verify KILL FIRST
 * verify TWICE
 * catch BREAK_LOG_NOT_SYNCED
 * catch BREAK_WRITE_BEFORE_LOG
 * catch BREAK_PENDING_IS_ACTIVE
 * catch BREAK_NO_CLEANING
 * catch BREAK_NO_GRACE
 * catch BREAK_LIVE_NOT_FLUSHED
 * catch BREAK_BITMAPS_NOT_FLUSHED
 * catch BREAK_NEW_BITMAP_FORGOTTEN
 * catch BREAK_CLEAR_BEFORE_FLUSH
 * catch BREAK_F3_IN_FLIP
 * catch BREAK_NOT_BOUND_IN_FLIP
 * catch FIRST BREAK_BOUND_BEFORE_FLUSH
 * catch KILL BREAK_LOG_BELIEVED_AT_START
 * catch KILL BREAK_OLDER_FROZEN_FIRST
 * catch TWICE BREAK_CLAIM_BEFORE_REPLAY
 * catch TWICE BREAK_LOG_EMPTIED_BEFORE_SYNC
 */

#define LIVE 0                  /* the cluster: a number for each content */
#define LOG 1                   /* the region's bit */
#define DIRTY0 2
#define DIRTY1 3
#define HEAD0 4
#define HEAD1 5
#define PAGES 6

/* A header: state, and whether it is bound to the log; the boot id counts only
 * in the recovery. */
#define PREPARED 0
#define PREPARED_BOUND 1
#define ACTIVE 2
#define ACTIVE_BOUND 3
#define FROZEN_BOUND 4
#define FROZEN_CLEAN 5
#define NONE 6
#define ACTIVE_CLAIMED 7        /* ACTIVE_BOUND, with the boot id of the host
                                 * that recovered it */

#define is_active(h) (h == ACTIVE || h == ACTIVE_BOUND)

byte mem[PAGES], disk[PAGES];

/* The process's memory. */
mtype = { CLEAN, PENDING, REGION_ACTIVE, CLEANING };
mtype region = CLEAN;
byte tracked = 1;               /* files that a cleaner flushes, a mask */
byte retired;                   /* of those, the ones to settle */
byte current;                   /* bitmap in use, 2: none */
bool closed, serving = true;
bit inside[2];
byte generation;

/* Ghosts. */
byte content[2];                /* at the instants */
byte versions;
bool replied, crashed;

inline sync (page) { disk[page] = mem[page] }

/* A2, A3: under the lock of the log but for the flush. */
inline activate ()
{
  do
  :: atomic { region == REGION_ACTIVE -> break }
#ifdef BREAK_PENDING_IS_ACTIVE
  :: atomic { region == PENDING -> break }
#endif
  :: atomic { region == CLEANING -> region = REGION_ACTIVE; break }
  :: atomic { region == CLEAN -> region = PENDING; mem[LOG] = 1 };
#ifndef BREAK_LOG_NOT_SYNCED
     sync (LOG);
#endif
     region = REGION_ACTIVE;
     break
  od
}

inline write_live ()
{
  atomic { versions++; mem[LIVE] = versions }
}

proctype guest (byte me)
{
  byte gen, tr;

again:
  gen = generation;
  {
    atomic { serving && !closed -> inside[me] = 1 };
    tr = current;
    if
    :: tr < 2 ->
       mem[DIRTY0 + tr] = 1;    /* T1 */
#ifdef BREAK_WRITE_BEFORE_LOG
       write_live ();
#endif
       activate ()
    :: else
    fi;
#ifndef BREAK_WRITE_BEFORE_LOG
    write_live ();              /* W4 */
#endif
    inside[me] = 0
  } unless {
    crashed || generation != gen;
    if
    :: crashed
    :: else -> goto again
    fi
  }
}

inline settle (n)
{
  sync (DIRTY0 + n);
  sync (HEAD0 + n);
  if
  :: retired & (1 << n) ->
     mem[HEAD0 + n] = FROZEN_CLEAN;
     sync (HEAD0 + n);
     atomic { tracked = tracked & ~(1 << n); retired = retired & ~(1 << n) }
  :: else
  fi
}

proctype cleaner ()
{
  byte gen, files;

again:
  gen = generation;
  {
    serving;
#ifdef BREAK_NEW_BITMAP_FORGOTTEN
    files = tracked;
#endif
end:
#ifdef BREAK_NO_CLEANING
    region == REGION_ACTIVE;
#else
    atomic { region == REGION_ACTIVE -> region = CLEANING };  /* C1 */
#endif
#ifndef BREAK_NO_GRACE
    /* C2: who was inside has left; who came later may be waited for, too. */
    !inside[0];
    !inside[1];
#endif
#ifdef BREAK_CLEAR_BEFORE_FLUSH
    atomic { region == CLEANING -> region = CLEAN; mem[LOG] = 0 };
#endif
#ifndef BREAK_LIVE_NOT_FLUSHED
    sync (LIVE);                /* C3 */
#endif
#ifndef BREAK_BITMAPS_NOT_FLUSHED
#ifndef BREAK_NEW_BITMAP_FORGOTTEN
    files = tracked;
#endif
    if                          /* C4 */
    :: files & 2 -> sync (DIRTY1); sync (HEAD1)
    :: else
    fi;
    if
    :: files & 1 -> settle (0)
    :: else
    fi;
#endif
#ifdef BREAK_NO_CLEANING
    atomic { region = CLEAN; mem[LOG] = 0 }
#else
    atomic {                    /* C5 */
      if
      :: region == CLEANING -> region = CLEAN; mem[LOG] = 0
      :: else
      fi
    }
#endif
  } unless {
    crashed || generation != gen;
    if
    :: crashed
    :: else -> goto again
    fi
  }
}

/* D0: the file is on disk before the filter gets it (common/bmfile.c). */
proctype beginner ()
{
  byte gen = generation;

  {
#if !defined FIRST && !defined BREAK_NOT_BOUND_IN_FLIP || defined BREAK_BOUND_BEFORE_FLUSH
    mem[HEAD1] = PREPARED_BOUND;
#endif
    tracked = tracked | 2;
    closed = true;
    !inside[0] && !inside[1];
    content[1] = mem[LIVE];
    mem[HEAD1] = mem[HEAD1] + 2;  /* F2 */
#ifdef BREAK_F3_IN_FLIP
    mem[HEAD0] = FROZEN_BOUND;
#endif
    current = 1;                /* F4 */
    closed = false;
#ifdef FIRST
#ifndef BREAK_BOUND_BEFORE_FLUSH
    sync (LIVE);                /* D1 */
#endif
#endif
    mem[HEAD1] = ACTIVE_BOUND;
    sync (DIRTY1);              /* D2 */
    sync (HEAD1);
#ifndef FIRST
    mem[HEAD0] = FROZEN_BOUND;  /* F3 */
    retired = retired | 1;
#endif
    replied = true
  } unless { crashed || generation != gen }
}

#ifdef KILL
/* The next process: takes up the files, flushes what is not bound. */
inline start ()
{
  atomic {
    generation++;
    serving = false;
    closed = false;
    inside[0] = 0;
    inside[1] = 0;
    region = CLEAN;
    tracked = 0;
    retired = 0
  };
#ifndef BREAK_LOG_BELIEVED_AT_START
  sync (LOG);
#endif
  region = (mem[LOG] -> REGION_ACTIVE : CLEAN);
  if
  :: is_active (mem[HEAD1]) && mem[HEAD0] == ACTIVE_BOUND ->
#ifndef BREAK_OLDER_FROZEN_FIRST
     sync (DIRTY1);
     sync (HEAD1);
#endif
     mem[HEAD0] = FROZEN_BOUND;
     tracked = 3;
     retired = 1;
     current = 1
  :: is_active (mem[HEAD1]) && mem[HEAD0] != ACTIVE_BOUND ->
#ifdef FIRST
     sync (LIVE);
     mem[HEAD1] = ACTIVE_BOUND;
     sync (DIRTY1);
     sync (HEAD1);
#endif
     tracked = (mem[HEAD0] == FROZEN_BOUND -> 3 : 2);
     retired = (mem[HEAD0] == FROZEN_BOUND -> 1 : 0);
     current = 1
  :: else ->
#ifdef FIRST
     current = 2
#else
     tracked = 1;
     current = 0
#endif
  fi;
  serving = true
}

proctype killer ()
{
  { start () } unless { crashed }
}
#endif

proctype kernel ()
{
end:
  do
  :: atomic { !crashed && disk[LIVE] != mem[LIVE] -> sync (LIVE) }
  :: atomic { !crashed && disk[LOG] != mem[LOG] -> sync (LOG) }
  :: atomic { !crashed && disk[DIRTY0] != mem[DIRTY0] -> sync (DIRTY0) }
  :: atomic { !crashed && disk[DIRTY1] != mem[DIRTY1] -> sync (DIRTY1) }
  :: atomic { !crashed && disk[HEAD0] != mem[HEAD0] -> sync (HEAD0) }
  :: atomic { !crashed && disk[HEAD1] != mem[HEAD1] -> sync (HEAD1) }
  :: crashed -> break
  od
}

inline forget_memory ()
{
  mem[LIVE] = disk[LIVE];
  mem[LOG] = disk[LOG];
  mem[DIRTY0] = disk[DIRTY0];
  mem[DIRTY1] = disk[DIRTY1];
  mem[HEAD0] = disk[HEAD0];
  mem[HEAD1] = disk[HEAD1]
}

/* take_up.c: a file that is neither clean nor of this boot is believed if it
 * is bound, with the bits of all regions in the log. */
inline replay (n)
{
  if
  :: mem[HEAD0 + n] == ACTIVE_BOUND || mem[HEAD0 + n] == FROZEN_BOUND ->
     if
     :: mem[LOG] -> mem[DIRTY0 + n] = 1
     :: else
     fi
  :: else
  fi
}

inline look ()
{
  bool is_1 = (mem[HEAD1] == ACTIVE_BOUND || mem[HEAD1] == ACTIVE_CLAIMED);

  /* That 0 would be given up: a later link is missing or in doubt. */
  assert (mem[HEAD0] == NONE || mem[HEAD1] != ACTIVE);
  assert (mem[HEAD0] == NONE || is_1 || mem[HEAD0] == ACTIVE_BOUND
          || mem[HEAD0] == ACTIVE_CLAIMED);
  assert (!replied || is_1);
  assert (mem[HEAD0] == NONE || content[0] == mem[LIVE] || mem[DIRTY0]
          || (is_1 && mem[DIRTY1]));
  assert (!is_1 || content[1] == mem[LIVE] || mem[DIRTY1])
}

#ifdef TWICE
/* One file is enough here: 0, found ACTIVE.  Any page may be written by the
 * kernel just before the second crash. */
inline any_pages ()
{
  if :: sync (LOG) :: skip fi;
  if :: sync (DIRTY0) :: skip fi;
  if :: sync (HEAD0) :: skip fi
}

inline recover ()
{
#ifdef BREAK_CLAIM_BEFORE_REPLAY
  mem[HEAD0] = ACTIVE_CLAIMED;
  if :: goto interrupted :: skip fi;
  if
  :: mem[LOG] -> mem[DIRTY0] = 1
  :: else
  fi;
#else
  replay (0);
  if :: goto interrupted :: skip fi;
  mem[HEAD0] = ACTIVE_CLAIMED;
#endif
  if :: goto interrupted :: skip fi;
#ifndef BREAK_LOG_EMPTIED_BEFORE_SYNC
  sync (DIRTY0);
  sync (HEAD0);
#endif
  if :: goto interrupted :: skip fi;
  mem[LOG] = 0;
  goto recovered;
interrupted:
  if
  :: true ->                    /* kill -9: the same boot id is no crash */
     if
     :: mem[HEAD0] == ACTIVE_CLAIMED
     :: else -> replay (0)
     fi
  :: true ->
     any_pages ();
     forget_memory ();          /* again a boot id of before */
     if
     :: mem[HEAD0] == ACTIVE_CLAIMED -> mem[HEAD0] = ACTIVE_BOUND
     :: else
     fi;
     replay (0)
  fi;
recovered:
#ifdef BREAK_LOG_EMPTIED_BEFORE_SYNC
  any_pages ();
  forget_memory ();
  if
  :: mem[HEAD0] == ACTIVE_CLAIMED -> mem[HEAD0] = ACTIVE_BOUND
  :: else
  fi;
  replay (0)
#endif
  skip
}
#endif

proctype host ()
{
  atomic {
    crashed = true;
    forget_memory ();
#ifdef TWICE
    if
    :: mem[HEAD0] == ACTIVE_BOUND && mem[HEAD1] < ACTIVE -> recover ()
    :: else -> replay (0); replay (1)
    fi;
#else
    replay (0);
    replay (1);
#endif
    look ()
  }
}

init
{
  atomic {
#ifdef FIRST
    mem[HEAD0] = NONE;
    tracked = 0;
    current = 2;
#else
    mem[HEAD0] = ACTIVE_BOUND;
#endif
    disk[HEAD0] = mem[HEAD0];
    run guest (0);
#if !defined KILL && !defined TWICE
    run guest (1);
#endif
    run cleaner ();
    run beginner ();
    run kernel ();
    run host ();
#ifdef KILL
    run killer ()
#endif
  }
}
