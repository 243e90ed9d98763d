/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What may be trusted after the host has crashed: the clean mark of a map or
 * tracking bitmap (common/bmfile.c, map_release in common/map.c). */

/* Every page has a content in memory and one on disk; the kernel writes any
 * page at any time, in any order, or never.  One process after the other
 * serves the disk: takes the files up, copies and marks and writes, stops in
 * order.  A copier releases and punches, beside them.  The crash may come
 * between any two steps.  After it only what is marked clean is believed (the
 * boot id is another one); nobody else could tell, as for a block device.
 *
 * Shown: a map that is believed gives the old content, and a tracking bitmap
 * that is believed has the bit of what has changed.
 *
 * verify
 * catch BREAK_CLAIM_NOT_SYNCED
 * catch BREAK_IN_USE_BEFORE_SYNC
 * catch BREAK_ONE_SYNC
 * catch BREAK_SCRATCH_NOT_SYNCED
 * catch BREAK_NO_CLOSING
 * catch BREAK_RELEASE_IGNORES_CLEAN
 */

#define LIVE 0                  /* the live disk */
#define SCRATCH 1
#define COPIED 2
#define RELEASED 3
#define DIRTY 4
#define HEADER 5                /* the clean mark */
#define PAGES 6

#define ZERO 0
#define OLD 1
#define NEW 2

#define IN_USE 0
#define CLEAN 1
#define CLOSING 2

byte mem[PAGES], disk[PAGES];
bool crashed;

inline sync (page)
{
  disk[page] = mem[page]
}

/* bmfile_sync: any order. */
inline sync_all ()
{
  sync (RELEASED);
  sync (HEADER);
  sync (COPIED);
  sync (DIRTY)
}

inline write_request ()
{
  if
  :: mem[COPIED] || mem[RELEASED]
  :: else ->
     mem[SCRATCH] = mem[LIVE];  /* W2 */
     mem[COPIED] = 1            /* W3 */
  fi;
  mem[DIRTY] = 1;               /* T1 */
  mem[LIVE] = NEW               /* W4 */
}

inline claim ()
{
#ifdef BREAK_CLAIM_NOT_SYNCED
  mem[HEADER] = IN_USE
#elif defined BREAK_IN_USE_BEFORE_SYNC
  mem[HEADER] = IN_USE;
  sync (HEADER)
#else
  mem[HEADER] = CLOSING;
  sync (HEADER);
  mem[HEADER] = IN_USE
#endif
}

inline stop ()
{
#ifndef BREAK_SCRATCH_NOT_SYNCED
  sync (SCRATCH);
#endif
#ifdef BREAK_ONE_SYNC
  mem[HEADER] = CLEAN;
  sync_all ();
#else
#ifndef BREAK_NO_CLOSING
  mem[HEADER] = CLOSING;
#endif
  sync_all ();
  mem[HEADER] = CLEAN;
  sync (HEADER)
#endif
}

proctype filter ()
{
  byte lives;

  {
    do
    :: lives == 2 -> break
    :: else ->
       claim ();
       if
       :: true -> write_request ()
       :: true -> skip
       fi;
       stop ();
       lives++
    od
  } unless { crashed }
}

proctype copier ()
{
  {
    mem[RELEASED] = 1;          /* L2 */
#ifndef BREAK_RELEASE_IGNORES_CLEAN
    if
    :: mem[HEADER] != IN_USE -> sync_all ()
    :: else
    fi;
#endif
    mem[SCRATCH] = ZERO         /* L3 */
  } unless { crashed }
}

proctype kernel ()
{
  byte page;

end:
  do
  :: atomic {
       !crashed && disk[page] != mem[page] -> disk[page] = mem[page]
     }
  :: atomic { !crashed -> page = (page + 1) % PAGES }
  :: crashed -> break
  od
}

/* The crash, and the look after it. */
proctype host ()
{
  atomic {
    crashed = true;
    mem[LIVE] = disk[LIVE];
    mem[SCRATCH] = disk[SCRATCH];
    mem[COPIED] = disk[COPIED];
    mem[RELEASED] = disk[RELEASED];
    mem[DIRTY] = disk[DIRTY];
    mem[HEADER] = disk[HEADER]
  }
  if
  :: mem[HEADER] == CLEAN ->
     assert (mem[LIVE] == OLD || mem[DIRTY]);
     if
     :: mem[RELEASED]
     :: !mem[RELEASED] && mem[COPIED] -> assert (mem[SCRATCH] == OLD)
     :: !mem[RELEASED] && !mem[COPIED] -> assert (mem[LIVE] == OLD)
     fi
  :: else                       /* ENDED, INCONSISTENT */
  fi
}

init
{
  atomic {
    mem[LIVE] = OLD;
    disk[LIVE] = OLD;
    run filter ();
    run copier ();
    run kernel ();
    run host ()
  }
}
