/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the main thread does meanwhile: settles, kills and starts again. */

/* The export is killed within a shared turn, so at any moment of a guest's
 * requests, of begins and of ends.  What its requests did is not known then;
 * the model finds out by settling before writers and slots go on.  A backend
 * of its own (backend=nbd) is ended in order and started again as well: its
 * queue may still hold requests of the killed export, which a restarted
 * filter could not know of.
 */

#include <config.h>

#include <signal.h>
#include <time.h>

#include "oracle.h"

/* In an exclusive turn. */
static void
pause_and_settle (struct oracle *o)
{
  turn_pause (o);
  settle (o);
  turn_resume (o);
}

/* Snapshots that are there when the export is restarted. */
static unsigned
count_snapshots (struct oracle *o)
{
  unsigned i, n = 0;

  pthread_mutex_lock (&o->registry);
  for (i = 0; i < o->opt.slots; i++)
    n += o->current[i] != NULL;
  pthread_mutex_unlock (&o->registry);
  return n;
}

static void
restart_export (struct oracle *o, int sig)
{
  turn_share (&o->turn);
  /* nbdkit does not end while a client just keeps its connection. */
  if (o->settler)
    nbd_close (o->settler);
  o->settler = NULL;
  server_kill (&o->export, sig);
  turn_set_up (&o->turn, false);
  turn_unshare (&o->turn);

  /* Begins and ends under way find out that they were cut off. */
  turn_take (&o->turn, true);
  if (strcmp (o->opt.backend, "nbd") == 0) {
    server_kill (&o->backend, SIGTERM);
    server_start (&o->backend);
  }
  server_start (&o->export);
  pause_and_settle (o);
  turn_set_up (&o->turn, true);
  turn_release (&o->turn);
  atomic_fetch_add (&o->tally.survivors, count_snapshots (o));
}

static void
strike (struct oracle *o, struct rng *r)
{
  static const char *kinds[] = { "export", "plugin", "term", "front" };
  const char *kind = o->opt.chaos;
  struct timespec moment = { 0, rng_below (r, 3000000) };

  /* A plugin that reads the export over NBD would keep it from ending in
   * order; killed in the middle of a request it may make an nbdkit before
   * 1.33.10 abort, which is not our subject. */
  if (strcmp (kind, "any") == 0)
    kind = strcmp (o->opt.backend, "file") ? "export"
      : kinds[rng_below (r, o->opt.front ? 4 : 3)];
  nanosleep (&moment, NULL);    /* any moment will do, so none in particular */
  if (strcmp (kind, "plugin") == 0) {
    server_kill (&o->plugin, SIGKILL);
    server_start (&o->plugin);
  }
  else if (strcmp (kind, "front") == 0) {
    server_kill (&o->front, SIGKILL);
    server_kill (&o->plugin, SIGKILL); /* it may have aborted, see above */
    server_start (&o->plugin);
    server_start (&o->front);
  }
  else
    restart_export (o, strcmp (kind, "term") == 0 ? SIGTERM : SIGKILL);
  atomic_fetch_add (&o->tally.kills, 1);
}

/* Until something is over, or for a moment. */
static bool
slots_are_done (struct oracle *o)
{
  struct timespec until;
  bool done;

  clock_gettime (CLOCK_REALTIME, &until);
  until.tv_nsec += 20000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  pthread_mutex_lock (&o->registry);
  if (atomic_load (&o->slots_left) > 0)
    pthread_cond_timedwait (&o->event, &o->registry, &until);
  done = atomic_load (&o->slots_left) == 0;
  pthread_mutex_unlock (&o->registry);
  return done;
}

/* A round takes seconds, and a slow machine some more.  That readers go on
 * says nothing: they may be waiting for an end that never comes. */
static void *
watch (void *arg)
{
  struct oracle *o = arg;
  unsigned seen = 0, now, idle = 0;

  for (;;) {
    struct timespec second = { 1, 0 };

    nanosleep (&second, NULL);
    now = atomic_load (&o->next_round);
    idle = now == seen ? idle + 1 : 0;
    if (idle >= o->opt.seconds)
      die ("no snapshot was begun for %u seconds", idle);
    seen = now;
  }
  return NULL;
}

/* A sign of life every ten seconds. */
static void
show_progress (struct oracle *o)
{
  static time_t last;
  time_t now = time (NULL);

  if (now / 10 == last / 10)
    return;
  if (last)
    complain ("round %u", atomic_load (&o->next_round));
  last = now;
}

void
chaos_run (struct oracle *o, struct rng *r)
{
  uint64_t limit = 8 * o->model->nr_cells + 4000;
  unsigned next = o->opt.kill_every;
  pthread_t watchdog;

  thread_start (&watchdog, watch, o);
  turn_take (&o->turn, true);
  pause_and_settle (o);
  turn_set_up (&o->turn, true);
  turn_release (&o->turn);
  while (!slots_are_done (o)) {
    show_progress (o);
    if (model_history (o->model) > limit) {
      turn_take (&o->turn, false);
      pause_and_settle (o);
      turn_release (&o->turn);
    }
    if (o->opt.kill_every && atomic_load (&o->next_round) >= next) {
      next = atomic_load (&o->next_round) + 1
        + rng_below (r, 2 * o->opt.kill_every);
      strike (o, r);
    }
  }
  pthread_cancel (watchdog);
  pthread_join (watchdog, NULL);
}
