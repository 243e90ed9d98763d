/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the models share: the bits of a map, and the walk of a reader. */

/* Every load and store of a shared variable is a step of its own, unless the
 * code does several under one lock or in one atomic instruction.  Spin
 * interleaves steps in any order that keeps each process's own (sequential
 * consistency); where the code needs a fence to have that, a BREAK_ variant
 * does the two steps in the other order instead.
 *
 * The user defines NS (snapshots) and NC (clusters, at most 2), and says what
 * is in old[] at the instant.
 */

/* What a cluster or its place in the scratch holds. */
#define ZERO 0                  /* zeroes; also what a hole reads as */
#define OLD 1                   /* data from before the instant */
#define PART 2                  /* a write to the scratch that is under way */
#define NEW 3                   /* anything a guest wrote after the instant */

#define LIVE 0
#define COPIED 1
#define RELEASED 2
#define LOST 3

#define BOTH 3                  /* clusters as a mask */

#define AT(s, c) ((s) * NC + (c))

byte live[NC];                  /* the live disk */
byte old[NS * NC];              /* ghost: the live disk at the instant */
byte scratch[NS * NC];
bit copied[NS * NC], released[NS * NC], lost[NS * NC];

/* map_next_run on one cluster: three loads, in no particular order. */
inline load_state (s, c, st)
{
  st = (copied[AT (s, c)] -> COPIED : LIVE);
  st = (lost[AT (s, c)] -> LOST : st);
  st = (released[AT (s, c)] -> RELEASED : st);
}

/* walk_range of common/reader.c over the clusters in the mask `need'.  The
 * values read go to val[]; err becomes RELEASED or LOST if one of them may not
 * be read.  A run is one cluster or two in one state. */
inline walk (s)
{
  do
  :: need == 0 || err != LIVE -> break
  :: else ->
     rc = (need & 1 -> 0 : 1);
R1:  load_state (s, rc, st);
     rn = rc + 1;
     if
     :: need == BOTH ->
        load_state (s, 1, st2);
        rn = (st2 == st -> 2 : 1)
     :: else
     fi;
     if
     :: st == RELEASED || st == LOST -> err = st
     :: else ->
#ifdef BREAK_R3_BEFORE_R2
        ri = rc;
        do
        :: ri < rn ->
           load_state (s, ri, st2);
           need = (st2 == st -> need & ~(1 << ri) : need);
           ri++
        :: else -> break
        od;
#endif
        ri = rc;
        do
        :: ri < rn ->
R2:        val[ri] = (st == COPIED -> scratch[AT (s, ri)] : live[ri]);
           ri++
        :: else -> break
        od;
#ifndef BREAK_R3_BEFORE_R2
        ri = rc;
        do
        :: ri < rn ->
#ifdef BREAK_NO_R3
           st2 = st;
#else
R3:        load_state (s, ri, st2);
#endif
           need = (st2 == st -> need & ~(1 << ri) : need);
           ri++
        :: else -> break
        od
#endif
     fi
  od;
  st = 0; st2 = 0; ri = 0; rn = 0; rc = 0
}
