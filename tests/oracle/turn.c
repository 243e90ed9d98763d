/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Whose turn it is: begins, settling, restarts, and pauses of the writers. */

/* A snapshot is begun within a shared turn, so that the model is not settled
 * between its two stamps; settling, and restarting the export, take the turn
 * exclusively.  The export is killed within a shared turn: in the middle of
 * other begins, but not of a settlement.
 *
 * Waiting ends because a shared turn is one call of the control protocol,
 * which has a deadline, and an exclusive one waits besides only for writers
 * to drain, whose requests the export answers or dies of.
 */

#include <config.h>

#include "oracle.h"

void
turn_init (struct turn *t)
{
  *t = (struct turn) { .up = false };
  pthread_mutex_init (&t->lock, NULL);
  pthread_cond_init (&t->changed, NULL);
}

void
turn_share (struct turn *t)
{
  pthread_mutex_lock (&t->lock);
  while (t->exclusive || t->waiting || !t->up)
    pthread_cond_wait (&t->changed, &t->lock);
  t->shared++;
  pthread_mutex_unlock (&t->lock);
}

void
turn_unshare (struct turn *t)
{
  pthread_mutex_lock (&t->lock);
  t->shared--;
  pthread_cond_broadcast (&t->changed);
  pthread_mutex_unlock (&t->lock);
}

void
turn_take (struct turn *t, bool even_if_down)
{
  pthread_mutex_lock (&t->lock);
  t->waiting++;
  while (t->exclusive || t->shared || (!t->up && !even_if_down))
    pthread_cond_wait (&t->changed, &t->lock);
  t->waiting--;
  t->exclusive = true;
  pthread_mutex_unlock (&t->lock);
}

void
turn_release (struct turn *t)
{
  pthread_mutex_lock (&t->lock);
  t->exclusive = false;
  pthread_cond_broadcast (&t->changed);
  pthread_mutex_unlock (&t->lock);
}

void
turn_set_up (struct turn *t, bool up)
{
  pthread_mutex_lock (&t->lock);
  t->up = up;
  pthread_cond_broadcast (&t->changed);
  pthread_mutex_unlock (&t->lock);
}

bool
turn_is_up (struct turn *t)
{
  bool up;

  pthread_mutex_lock (&t->lock);
  up = t->up;
  pthread_mutex_unlock (&t->lock);
  return up;
}

/* Within a shared turn, which keeps the export from coming up again. */
void
turn_wait_down (struct turn *t)
{
  pthread_mutex_lock (&t->lock);
  while (t->up)
    pthread_cond_wait (&t->changed, &t->lock);
  pthread_mutex_unlock (&t->lock);
}

void
turn_pause (struct oracle *o)
{
  struct turn *t = &o->turn;

  pthread_mutex_lock (&t->lock);
  t->paused = true;
  while (t->idle < o->opt.writers)
    pthread_cond_wait (&t->changed, &t->lock);
  pthread_mutex_unlock (&t->lock);
}

void
turn_resume (struct oracle *o)
{
  struct turn *t = &o->turn;

  pthread_mutex_lock (&t->lock);
  t->paused = false;
  pthread_cond_broadcast (&t->changed);
  pthread_mutex_unlock (&t->lock);
}

void
turn_idle (struct oracle *o, bool until_up)
{
  struct turn *t = &o->turn;

  pthread_mutex_lock (&t->lock);
  t->idle++;
  pthread_cond_broadcast (&t->changed);
  while (t->paused || (until_up && !t->up))
    pthread_cond_wait (&t->changed, &t->lock);
  t->idle--;
  pthread_mutex_unlock (&t->lock);
}
