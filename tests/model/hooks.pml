/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A guest that hooks freeze and thaw, for a daemon that may be killed anywhere
 * (server/hooks.c, server/hooks_record.c). */

/* One request has before-freeze and after-thaw run.  Programs are processes of
 * their own: between fork and exec they have the daemon's lock and cannot be
 * told from it; from then on they can be found and killed, until they have
 * ended.  With KILL the daemon is killed at some step; another one starts when
 * the lock is free, and clears up; meanwhile a second request may come.
 *
 * Shown:
 *   - when all is over the guest is not frozen;
 *   - the guest is frozen at the instant of the second request, whose
 *     before-freeze has succeeded.
 *
 * verify
 * verify KILL
 * catch BREAK_NO_KILL_AT_LIMIT
 * catch KILL BREAK_RECORD_LATE
 * catch KILL BREAK_RECORD_GONE_EARLY
 * catch KILL BREAK_NO_KILL_AT_START
 * catch KILL BREAK_KILL_LATE
 * catch KILL BREAK_NO_LOCK
 * catch KILL BREAK_NO_WAIT
 */

/* States of a program. */
#define NONE 0
#define FORKED 1
#define RUNNING 2
#define ENDED 3

/* By who started it: the first daemon, the second for the first, the second
 * for its own request. */
#define FIRST 0
#define AGAIN 1
#define SECOND 2

byte before[3], after[3];
bool frozen;                    /* the guest */
bool record;                    /* STATE/hooks-UUID */
bool killed;                    /* the first daemon */
bool recovered, over, second_over;

inline kill_program(p)
{
  if
  :: p == RUNNING || p == FORKED -> p = ENDED
  :: else
  fi
}

proctype freeze_program (byte i)
{
  if
  :: atomic { before[i] == FORKED -> before[i] = RUNNING }
  :: before[i] == ENDED -> goto end
  fi;
  if
  :: atomic { before[i] == RUNNING -> frozen = true }
  :: before[i] == ENDED -> goto end
  fi;
  atomic { kill_program (before[i]) }
end:
}

proctype thaw_program (byte i)
{
  if
  :: atomic { after[i] == FORKED -> after[i] = RUNNING }
  fi;
  if
  :: atomic { after[i] == RUNNING -> frozen = false }
  :: after[i] == ENDED -> goto end
  fi;
  atomic { kill_program (after[i]) }
end:
}

inline start_freeze(i)
{
  atomic { before[i] = FORKED; run freeze_program (i) }
}

inline start_thaw(i)
{
  atomic { after[i] = FORKED; run thaw_program (i) }
}

proctype first_daemon ()
{
  {
#ifndef BREAK_RECORD_LATE
    record = true;
#endif
    start_freeze (FIRST);
#ifdef BREAK_RECORD_LATE
    record = true;
#endif
    if
    :: before[FIRST] == ENDED
    :: true ->                  /* its time is up */
#ifndef BREAK_NO_KILL_AT_LIMIT
       atomic { kill_program (before[FIRST]) }
#else
       skip
#endif
    fi;
#ifdef BREAK_RECORD_GONE_EARLY
    record = false;
#endif
    start_thaw (FIRST);
    after[FIRST] == ENDED;
    record = false;
    atomic { !killed -> over = true }
  } unless { killed }
}

/* Of those that have come to their exec, which is how they are known. */
inline kill_remainder()
{
  atomic {
    if
    :: before[FIRST] == RUNNING -> before[FIRST] = ENDED
    :: else
    fi;
    if
    :: after[FIRST] == RUNNING -> after[FIRST] = ENDED
    :: else
    fi
  }
}

proctype second_request ()
{
#ifndef BREAK_NO_WAIT
  recovered;
#endif
  start_freeze (SECOND);
  before[SECOND] == ENDED;
  assert (frozen);              /* the instant */
  start_thaw (SECOND);
  after[SECOND] == ENDED;
  second_over = true
}

proctype second_daemon ()
{
end_alive:
  killed;
#ifndef BREAK_NO_LOCK
  atomic { before[FIRST] != FORKED && after[FIRST] != FORKED };
#endif
  if
  :: run second_request ()
  :: second_over = true         /* none comes */
  fi;
  if
  :: record ->
#if !defined (BREAK_NO_KILL_AT_START) && !defined (BREAK_KILL_LATE)
     kill_remainder ();
#endif
     start_thaw (AGAIN);
     after[AGAIN] == ENDED;
#ifdef BREAK_KILL_LATE
     kill_remainder ();
#endif
     record = false
  :: else
  fi;
  recovered = true;
  second_over;
  over = true
}

#define GONE(p) (p == NONE || p == ENDED)

proctype judge ()
{
  over;
  GONE (before[FIRST]) && GONE (after[FIRST]);
  assert (!frozen)
}

init
{
  atomic {
    run first_daemon ();
    run judge ();
#ifdef KILL
    run second_daemon ()
#endif
  };
#ifdef KILL
end_late:
  atomic { !over -> killed = true }
#endif
}
