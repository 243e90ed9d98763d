/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Durable scratches (filter/durable.c), steps K1 to K7: what a crash of the host
 * leaves of a snapshot, and of a job that copies it. */

/* One cluster, two guest requests, a snapshot that begins, is
 * copied and released, and ends.  As in activity.pml every page has a content
 * in memory and one on disk, the kernel writes any page at any time or never, and
 * the host crashes between any two steps.  A flush makes sure of what was in
 * memory when it began, not of what came while it was under way; requests share
 * the flushes of the map.
 *
 * Both change the cluster; with COPY, one of them another on the same page of
 * the map.  With KILL there is one request, and the filter's process may be killed
 * anywhere, before the host is; what is started then is start ().  With END the
 * snapshot ends, with COPY it is copied; both at once have too many states.
 *
 * Shown:
 *   - a snapshot that is believed after a crash has its content, wherever the
 *     map says that it is;
 *   - it is believed from when the filter has said that it exists until somebody
 *     asks for its end;
 *   - what a job still wants can be read, and what it does not want any more is
 *     in the target;
 *   - nobody waits for ever.
 *
 * never-reached crashed|| (as a kill comes in)
 * verify
 * verify COPY
 * verify END
 * verify KILL
 * verify KILL COPY
 * verify KILL END
 * catch BREAK_SCRATCH_NOT_FLUSHED
 * catch BREAK_MAP_NOT_FLUSHED
 * catch BREAK_SET_IS_SETTLED
 * catch BREAK_FLUSH_UNDER_WAY
 * catch BREAK_LIVE_NOT_FLUSHED
 * catch BREAK_SAID_BEFORE_FLUSH
 * catch COPY BREAK_SEEN_AFTER_FLUSH
 * catch COPY BREAK_RELEASED_IS_SETTLED
 * catch COPY BREAK_DELIVERED_NOT_FLUSHED
 * catch COPY BREAK_TARGET_NOT_FLUSHED
 * catch COPY BREAK_RELEASE_NOT_FLUSHED
 * catch COPY BREAK_W5_NOT_FLUSHED
 * catch END BREAK_END_NOT_FLUSHED
 * catch KILL BREAK_SETTLED_AT_START
 * catch KILL COPY BREAK_SEEN_AT_START_AFTER_FLUSH
 * catch KILL BREAK_NO_K4_AT_START
 * catch KILL END BREAK_ENDED_AT_START
 */

#define LIVE 0                  /* the cluster: a number for each content */
#define SCRATCH 1               /* likewise */
#define COPIED 2                /* the bits */
#define RELEASED 3
#define HEAD 4
#define WANTED 5                /* the bit in the job's copy bitmap */
#define TARGET 6
#define PAGES 7

#define HOLE 9                  /* content of a scratch that was punched */

#define PREPARED 0
#define ACTIVE 1
#define OUTLASTS 2              /* ACTIVE, and so it says */
#define ENDED 3

byte mem[PAGES], disk[PAGES];

#define marked() (mem[COPIED] || mem[RELEASED])

/* The process's memory. */
bool settled, in_set, held, serving = true;
byte asked, flushed;            /* of the map, in the order of asking */
bool busy;
byte inside;                    /* the gate */
byte generation;

/* Ghosts. */
byte content, versions;
bool replied, end_asked, crashed;

inline sync (page) { disk[page] = mem[page] }

/* The map, for all who have asked; what it was when the flush began.  Bits and
 * the state only rise, so what the kernel has written meanwhile is not taken back. */
inline flush_map ()
{
#ifdef BREAK_FLUSH_UNDER_WAY
  atomic {
    if
    :: busy -> mine = asked
    :: else -> asked++; mine = asked
    fi
  };
#else
  atomic { asked++; mine = asked };
#endif
  do
  :: atomic { flushed >= mine -> break }
  :: atomic {
       flushed < mine && !busy ->
       busy = true;
       upto = asked;
       was_copied = mem[COPIED];
       was_released = mem[RELEASED];
       was_head = mem[HEAD]
     };
     disk[COPIED] = disk[COPIED] | was_copied;
     disk[RELEASED] = disk[RELEASED] | was_released;
     disk[HEAD] = (disk[HEAD] < was_head -> was_head : disk[HEAD]);
     atomic { flushed = upto; busy = false }
  od
}

inline write_live ()
{
  atomic { versions++; mem[LIVE] = 2 + versions }
}

/* W1 to W5, the range being held. */
inline copy ()
{
  atomic { !held -> held = true };
  if
  :: !marked () ->              /* W1 */
     mem[SCRATCH] = mem[LIVE];  /* W2 */
#ifndef BREAK_SCRATCH_NOT_FLUSHED
     sync (SCRATCH);            /* K1 */
#endif
     mem[COPIED] = 1;           /* W3 */
     if
     :: mem[RELEASED] ->        /* W5 */
#ifndef BREAK_W5_NOT_FLUSHED
        flush_map ();           /* K7 */
#endif
        mem[SCRATCH] = HOLE
     :: else
     fi
  :: else
  fi;
  held = false
}

/* K2, for all clusters on the page of the map. */
inline settle_page ()
{
  seen = marked ();
#ifndef BREAK_MAP_NOT_FLUSHED
  flush_map ();
#endif
#ifdef BREAK_SEEN_AFTER_FLUSH
  seen = marked ();
#endif
  if
  :: seen -> settled = true
  :: else
  fi
}

inline look_after ()
{
  if
  :: in_set && !settled ->
#ifdef BREAK_SET_IS_SETTLED
     if
     :: mem[COPIED]
     :: else
#endif
#ifdef BREAK_RELEASED_IS_SETTLED
     if
     :: mem[RELEASED]
     :: else
#endif
     -> copy ();
     settle_page ()
#if defined BREAK_SET_IS_SETTLED || defined BREAK_RELEASED_IS_SETTLED
     fi
#endif
  :: else
  fi
}

proctype guest ()
{
  byte gen, mine, upto;
  bool seen, was_copied, was_released;
  byte was_head;

again:
  gen = generation;
  {
    atomic { serving -> inside++ };
    look_after ();
    write_live ();              /* W4 */
    inside--
  } unless {
    crashed || generation != gen;
    if
    :: crashed
    :: else -> goto again
    fi
  }
}

#if defined COPY && !defined KILL
/* A request that changes another cluster, on the same page of the map. */
proctype neighbour ()
{
  byte gen = generation, mine, upto, was_head;
  bool seen, was_copied, was_released;

  {
    atomic { serving && in_set -> inside++ };
    settle_page ();
    inside--
  } unless { crashed || generation != gen }
}
#endif

inline say_so ()
{
#ifdef BREAK_SAID_BEFORE_FLUSH
  atomic { if :: mem[HEAD] == ACTIVE -> mem[HEAD] = OUTLASTS :: else fi };
#endif
#ifndef BREAK_LIVE_NOT_FLUSHED
  sync (LIVE);                  /* K4 */
#endif
  atomic { if :: mem[HEAD] == ACTIVE -> mem[HEAD] = OUTLASTS :: else fi };
  flush_map ()                  /* K5 */
}

/* E1, K6, E2. */
inline end_it ()
{
  end_asked = true;
  mem[HEAD] = ENDED;            /* E1 */
#ifndef BREAK_END_NOT_FLUSHED
  sync (HEAD);                  /* K6 */
#endif
  in_set = false                /* E2 */
}

/* K3: the files are on disk.  The control thread begins, and then ends. */
proctype control ()
{
  byte gen = generation, mine, upto, was_head;
  bool was_copied, was_released;

  {
    atomic {
      inside == 0 ->
      content = mem[LIVE];
      mem[HEAD] = ACTIVE;       /* F1 */
      in_set = true             /* F4 */
    };
    say_so ();
    replied = true;
#ifdef END
    end_it ()
#endif
  } unless { crashed || generation != gen }
}

#ifdef COPY
/* What it reads is the content: cow.pml is about that. */
proctype copier ()
{
  {
    replied;
    if
    :: marked () -> mem[TARGET] = mem[SCRATCH]
    :: else -> mem[TARGET] = content
    fi;
#ifndef BREAK_TARGET_NOT_FLUSHED
    sync (TARGET);              /* L0 */
#endif
    mem[WANTED] = 0;            /* L1 */
#ifndef BREAK_DELIVERED_NOT_FLUSHED
    sync (WANTED);
#endif
    mem[RELEASED] = 1;          /* L2 */
#ifndef BREAK_RELEASE_NOT_FLUSHED
    sync (RELEASED);            /* K7 */
#endif
    if
    :: mem[COPIED] -> mem[SCRATCH] = HOLE /* L3 */
    :: else
    fi
  } unless { crashed }
}
#endif

#ifdef KILL
/* The next process.  The daemon asks it for the end that was asked for, and finds
 * a snapshot that it has not been told of. */
inline start ()
{
  atomic {
    generation++;
    serving = false;
    settled = false;
    in_set = false;
    held = false;
    busy = false;
    inside = 0;
    flushed = asked
  };
  if
  :: mem[HEAD] == ACTIVE || mem[HEAD] == OUTLASTS ->
     seen = marked ();
#ifndef BREAK_SETTLED_AT_START
     sync (SCRATCH);
     sync (COPIED);
     sync (RELEASED);
     sync (HEAD);
#endif
#ifdef BREAK_SEEN_AT_START_AFTER_FLUSH
     seen = marked ();
#endif
     atomic { settled = seen; in_set = true };
#ifdef BREAK_NO_K4_AT_START
     atomic { if :: mem[HEAD] == ACTIVE -> mem[HEAD] = OUTLASTS :: else fi };
     sync (HEAD);
#else
     if
     :: mem[HEAD] == ACTIVE -> say_so ()
     :: else
     fi;
#endif
     replied = true
  :: else ->
#ifndef BREAK_ENDED_AT_START
     sync (HEAD);               /* whoever ended it may not have come to K6 */
#endif
     skip
  fi;
  serving = true;
#ifdef END
  if
  :: in_set -> end_it ()
  :: else
  fi
#endif
}

proctype killer ()
{
  byte mine, upto, was_head;
  bool seen, was_copied, was_released;

  { start () } unless { crashed }
}
#endif

proctype kernel ()
{
end:
  do
  :: atomic { !crashed && disk[LIVE] != mem[LIVE] -> sync (LIVE) }
  :: atomic { !crashed && disk[SCRATCH] != mem[SCRATCH] -> sync (SCRATCH) }
  :: atomic { !crashed && disk[COPIED] != mem[COPIED] -> sync (COPIED) }
  :: atomic { !crashed && disk[RELEASED] != mem[RELEASED] -> sync (RELEASED) }
  :: atomic { !crashed && disk[HEAD] != mem[HEAD] -> sync (HEAD) }
  :: atomic { !crashed && disk[WANTED] != mem[WANTED] -> sync (WANTED) }
  :: atomic { !crashed && disk[TARGET] != mem[TARGET] -> sync (TARGET) }
  :: crashed -> break
  od
}

/* take_up.c, and what a reader and a copier would then find. */
inline look ()
{
  assert (!replied || end_asked || disk[HEAD] == OUTLASTS);
  if
  :: disk[HEAD] == OUTLASTS ->
     assert (disk[RELEASED] || disk[COPIED] || disk[LIVE] == content);
     assert (disk[RELEASED] || !disk[COPIED] || disk[SCRATCH] == content);
     assert (!disk[WANTED] || !disk[RELEASED]);
     assert (disk[WANTED] || disk[TARGET] == content)
  :: else
  fi
}

proctype host ()
{
  atomic {
    crashed = true;
    look ()
  }
}

init
{
  atomic {
    mem[LIVE] = 1;              /* written before, in memory only */
    mem[WANTED] = 1;
    disk[WANTED] = 1;
    run guest ();
#if !defined KILL && !defined COPY
    run guest ();
#endif
    run control ();
#if defined COPY && !defined KILL
    run neighbour ();
#endif
#ifdef COPY
    run copier ();
#endif
#ifdef KILL
    run killer ();
#endif
    run kernel ();
    run host ()
  }
}
