/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Slots: each begins a snapshot, reads it in many ways, ends it, over again. */

#include <config.h>

#include <time.h>
#include <unistd.h>

#include "oracle.h"

static void
publish (struct snapshot *s)
{
  pthread_mutex_lock (&s->o->registry);
  s->o->current[s->slot] = s;
  pthread_mutex_unlock (&s->o->registry);
}

/* No roamer can take it up from now on; waits for those who have. */
static void
withdraw (struct snapshot *s)
{
  struct oracle *o = s->o;

  pthread_mutex_lock (&o->registry);
  o->current[s->slot] = NULL;
  while (s->refs)
    pthread_cond_wait (&o->event, &o->registry);
  pthread_mutex_unlock (&o->registry);
}

static void
one_action (struct snapshot *s, struct pull *p, struct rng *r)
{
  unsigned dice = rng_below (r, 100);

  if (dice < 40)
    pull_read (p, r, false);
  else if (dice < 50)
    pull_read (p, r, true);
  else if (dice < 65)
    pull_extents (p, r, chance (r, 30));
  else if (!s->live)
    pull_read (p, r, false);
  else if (dice < 80)
    direct_read (s, r, chance (r, 20));
  else if (dice < 90)
    direct_extents (s, r, chance (r, 30));
  else
    direct_copy (s, r);
}

static void
use (struct slot *slot, struct snapshot *s)
{
  struct pull p = { 0 };
  unsigned i, n = log_uniform (&slot->rng, 40);

  pull_open (&p, s);
  for (i = 0; i < n; i++)
    one_action (s, &p, &slot->rng);
  if (chance (&slot->rng, 80))
    pull_read (&p, &slot->rng, true);
  if (s->live && chance (&slot->rng, 50))
    direct_read (s, &slot->rng, true);
  if (chance (&slot->rng, s->o->opt.release))
    for (i = 0; i < n; i++) {
      direct_release (s, &slot->rng);
      one_action (s, &p, &slot->rng);
    }
  pull_close (&p);
}

/* Nothing may be had from a snapshot that has ended. */
static void
check_gone (struct snapshot *s)
{
  char byte, *name = xprintf ("%s@%s", EXPORT, s->name);
  struct nbd_handle *nbd = server_connect (pulled_from (s->o), name);

  if (nbd)
    die ("%s has ended and can be connected to", s->name);
  free (name);
  if (s->live
      && (reader_pread (&s->reader, &byte, 1, 0) != -1 || errno != ESHUTDOWN))
    die ("%s has ended and can be read", s->name);
}

/* Without a filter: only the live disk. */
static void
live_round (struct slot *slot)
{
  struct oracle *o = slot->o;
  struct timespec t = { 0, rng_below (&slot->rng, 20000000) };

  nanosleep (&t, NULL);
  turn_take (&o->turn, false);
  turn_pause (o);
  settle (o);
  turn_resume (o);
  turn_release (&o->turn);
}

static void
one_round (struct slot *slot, unsigned round)
{
  struct oracle *o = slot->o;
  struct snapshot *s = snapshot_begin (slot, round);
  unsigned in = 0, out = 0;

  if (!s)
    return;
  publish (s);
  use (slot, s);
  view_check_order (s->view, &in, &out);
  snapshot_end (slot, s);
  check_gone (s);
  withdraw (s);
  atomic_fetch_add (&o->tally.in, in);
  atomic_fetch_add (&o->tally.out, out);
  atomic_fetch_add (&o->tally.lost,
                    atomic_load (&s->map.live->lost_clusters));
  snapshot_free (s);
}

void *
slot_run (void *arg)
{
  struct slot *slot = arg;
  struct oracle *o = slot->o;
  unsigned round;

  slot->rng.state = o->seed * 57 + slot->nr;
  slot->control = -1;
  while ((round = atomic_fetch_add (&o->next_round, 1)) < o->opt.rounds)
    if (o->opt.filter)
      one_round (slot, round);
    else
      live_round (slot);
  if (slot->control != -1)
    close (slot->control);
  pthread_mutex_lock (&o->registry);
  atomic_fetch_sub (&o->slots_left, 1);
  pthread_cond_broadcast (&o->event);
  pthread_mutex_unlock (&o->registry);
  return NULL;
}

static struct snapshot *
borrow (struct oracle *o, struct rng *r)
{
  struct snapshot *s;

  pthread_mutex_lock (&o->registry);
  s = o->current[rng_below (r, o->opt.slots)];
  if (s)
    s->refs++;
  else {
    struct timespec until;

    clock_gettime (CLOCK_REALTIME, &until);
    until.tv_sec++;
    pthread_cond_timedwait (&o->event, &o->registry, &until);
  }
  pthread_mutex_unlock (&o->registry);
  return s;
}

static void
give_back (struct snapshot *s)
{
  pthread_mutex_lock (&s->o->registry);
  s->refs--;
  pthread_cond_broadcast (&s->o->event);
  pthread_mutex_unlock (&s->o->registry);
}

/* What a reader sees in the middle of an end: if anything, the old data. */
static void
hurry (struct snapshot *s, struct pull *p, struct rng *rng)
{
  if (s->live)
    direct_read (s, rng, true);
  else
    pull_read (p, rng, true);
}

/* Reads a snapshot of somebody else's; now and then beyond its end. */
void *
roamer_run (void *arg)
{
  struct roamer *roamer = arg;
  struct oracle *o = roamer->o;
  struct rng rng = { o->seed * 91 + roamer->nr };

  while (!atomic_load (&o->stop)) {
    struct snapshot *s = borrow (o, &rng);
    struct pull p = { 0 };
    unsigned i, n = 1 + rng_below (&rng, 4);
    bool to_the_end = chance (&rng, 30);

    if (!s)
      continue;
    pull_open (&p, s);
    for (i = 0; i < n || (to_the_end && !atomic_load (&s->ended)); i++)
      if (to_the_end && atomic_load (&s->ending))
        hurry (s, &p, &rng);
      else
        one_action (s, &p, &rng);
    pull_close (&p);
    give_back (s);
  }
  return NULL;
}
