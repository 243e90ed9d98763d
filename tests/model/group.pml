/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One instant for two exports, each with an nbdkit of its own, by a daemon
 * that may be killed anywhere (server/snapshot_create.c). */

/* A program writes 1 to the first disk, then 1 to the second, then 2 to the
 * first and so on, each when the one before has been answered.  The daemon
 * freezes both and begins both; with KILL it is killed at some step, and
 * another one starts and clears up; with CLOCK gates may open by themselves.
 *
 * Shown:
 *   - a group that is reported shows one cut of what the program wrote;
 *   - there is a snapshot of both or of none, but for the time that a record
 *     on disk says that the group is not whole;
 *   - a begin that was under way when the daemon died does not come true
 *     after its files were found to be left over;
 *   - no gate stays closed, and the program comes to its end.
 *
 * verify
 * verify CLOCK
 * verify KILL
 * catch BREAK_ONE_BY_ONE
 * catch CLOCK BREAK_BEGIN_WITHOUT_FROZEN
 * catch KILL BREAK_NO_RECORD
 * catch KILL BREAK_RECORD_AFTER_BEGIN
 * catch KILL BREAK_RECORD_GONE_EARLY
 * catch KILL BREAK_NO_FORBIDDING
 * catch KILL BREAK_HANG_UP_KEEPS_GATE
 */

#define N 2                     /* exports */
#define WRITES 2

mtype = { FREEZE, BEGIN, END };

/* States of a map. */
#define NO_FILE 0
#define PREPARED 1
#define ACTIVE 2
#define ENDED 3

/* The disks and the files. */
byte disk[N], map[N], snapshot[N];
bool record;                    /* STATE/begin-UUID */

/* The gates. */
bool closed[N], expired[N];
byte inside[N], holder[N];      /* holder: of which daemon, 0: nobody */

/* Connections: requests and answers carry the daemon's number. */
chan request[N] = [2] of { mtype, byte };
chan answer[N] = [3] of { bool, byte };
bool hung_up[3];                /* connections of daemons 1 and 2 */
bool killed;

bool reported;                  /* ghost: somebody was told that it exists */

proctype program ()
{
  byte n, e;

  n = 1;
  do
  :: n > WRITES -> break
  :: else ->
     e = 0;
     do
     :: e == N -> break
     :: else ->
        atomic { !closed[e] -> inside[e]++ };
        disk[e] = n;
        inside[e]--;
        e++
     od;
     n++
  od
}

/* The control thread of an export's filter. */
proctype filter (byte e)
{
  byte d;
  bool ok;

end:
  do
  :: request[e] ? FREEZE, d ->
     atomic { closed[e] = true; expired[e] = false; holder[e] = d };
     inside[e] == 0 || expired[e];
     atomic {
       answer[e] ! !expired[e], d;
       holder[e] = (expired[e] -> 0 : d)
     };
     d = 0
  :: request[e] ? BEGIN, d ->
#ifdef BREAK_BEGIN_WITHOUT_FROZEN
     if
     :: holder[e] != d || expired[e] ->
        atomic { closed[e] = true; expired[e] = false; holder[e] = d };
        inside[e] == 0
     :: else
     fi;
#endif
     ok = holder[e] == d;
#ifndef BREAK_NO_FORBIDDING
     ok = ok && !hung_up[d];       
#endif
     atomic {                   /* the flip: its first step is an exchange */
       ok = ok && closed[e] && !expired[e];
#ifndef BREAK_NO_FORBIDDING
       ok = ok && map[e] == PREPARED;
#endif
       map[e] = (ok -> ACTIVE : map[e]);
       snapshot[e] = disk[e]
     };
     atomic {
       closed[e] = false;
       holder[e] = 0;
       answer[e] ! ok, d;
       d = 0;
       ok = false
     }
  :: request[e] ? END, d ->
     map[e] = ENDED;
     atomic { answer[e] ! true, d; d = 0 }
#ifndef BREAK_HANG_UP_KEEPS_GATE
  :: atomic {
       holder[e] != 0 && hung_up[holder[e]] ->
       closed[e] = false;
       holder[e] = 0
     }
#endif
  od
}

#ifdef CLOCK
proctype clock (byte e)
{
end:
  atomic { closed[e] -> closed[e] = false; expired[e] = true }
}
#endif

/* Answers to a daemon that is dead are thrown away. */
inline await (e, me)
{
  do
  :: answer[e] ? ok, from ->
     if
     :: from == me -> break
     :: else
     fi
  od;
  from = 0
}

/* The exchange PREPARED to ENDED. */
inline forbid (e)
{
#ifndef BREAK_NO_FORBIDDING
  atomic { map[e] = (map[e] == PREPARED -> ENDED : map[e]) }
#else
  skip
#endif
}

inline end_one (e, me)
{
  request[e] ! END, me;
  await (e, me)
}

proctype daemon ()
{
  bool ok, good = true;
  byte from;

  {
    map[0] = PREPARED;
    map[1] = PREPARED;
#if !defined BREAK_NO_RECORD && !defined BREAK_RECORD_AFTER_BEGIN
    record = true;
#endif
    request[0] ! FREEZE, 1;
#ifdef BREAK_ONE_BY_ONE
    await (0, 1);
    good = ok;
    request[0] ! BEGIN, 1;
    await (0, 1);
    good = good && ok;
    request[1] ! FREEZE, 1;
    await (1, 1);
    good = good && ok;
    request[1] ! BEGIN, 1;
    await (1, 1);
    good = good && ok;
#else
    request[1] ! FREEZE, 1;
    await (0, 1);
    good = ok;
    await (1, 1);
    good = good && ok;
#ifdef BREAK_BEGIN_WITHOUT_FROZEN
    good = true;
#endif
    if
    :: good ->
       request[0] ! BEGIN, 1;
#ifdef BREAK_RECORD_AFTER_BEGIN
       record = true;
#endif
       request[1] ! BEGIN, 1;
       await (0, 1);
       good = ok;
#ifdef BREAK_RECORD_GONE_EARLY
       record = false;
#endif
       await (1, 1);
       good = good && ok
    :: else
    fi;
#endif
    if
    :: good ->
       record = false;
       reported = true
    :: else ->
       hung_up[1] = true;
       forbid (0);
       forbid (1);
       if :: map[0] == ACTIVE -> end_one (0, 2) :: else fi;
       if :: map[1] == ACTIVE -> end_one (1, 2) :: else fi;
       record = false
    fi
  }
#ifdef KILL
  unless { killed }
#endif
}

#ifdef KILL
/* Kills the daemon, and is the next. */
proctype next_daemon ()
{
  bool ok;
  byte from;

end:
  atomic { !reported -> hung_up[1] = true; killed = true };
  forbid (0);
  forbid (1);
  if
  :: record ->
     if :: map[0] == ACTIVE -> end_one (0, 2) :: else fi;
     if :: map[1] == ACTIVE -> end_one (1, 2) :: else fi;
     record = false
  :: else
  fi
}
#endif

init
{
  atomic {
    run filter (0);
    run filter (1);
    run program ();
    run daemon ();
#ifdef CLOCK
    run clock (0);
    run clock (1);
#endif
#ifdef KILL
    run next_daemon ()
#endif
  }
  /* All is quiet. */
  timeout;
  assert (!record && !closed[0] && !closed[1]);
  assert ((map[0] == ACTIVE) == (map[1] == ACTIVE));
  assert (!reported || map[0] == ACTIVE);
  assert (map[0] != ACTIVE
          || (snapshot[1] <= snapshot[0] && snapshot[0] <= snapshot[1] + 1))
}
