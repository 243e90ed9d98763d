/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Threads for bitmaps of many megabytes. */

#include <config.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "work.h"

struct work {
  TAILQ_ENTRY (work) entry;
  struct daemon *daemon;
  void (*run) (void *opaque);
  void (*done) (void *opaque);
  void *opaque;
  pthread_t thread;
  bool threaded;
  ev_async finished;
};

static void *
thread (void *opaque)
{
  struct work *w = opaque;

  w->run (w->opaque);
  ev_async_send (w->daemon->loop, &w->finished);
  return NULL;
}

static void
finished (struct ev_loop *loop, ev_async *async, int revents)
{
  struct work *w = async->data;
  struct daemon *d = w->daemon;

  (void) revents;
  if (w->threaded)
    pthread_join (w->thread, NULL);
  ev_async_stop (loop, &w->finished);
  TAILQ_REMOVE (&d->works, w, entry);
  w->done (w->opaque);
  free (w);
  daemon_part_changed (d);
}

void
work_start (struct daemon *d, void (*run) (void *), void (*done) (void *),
            void *opaque)
{
  struct work *w = xcalloc (1, sizeof *w);
  sigset_t all, before;

  *w = (struct work) { .daemon = d, .run = run, .done = done,
                       .opaque = opaque };
  TAILQ_INSERT_TAIL (&d->works, w, entry);
  ev_async_init (&w->finished, finished);
  w->finished.data = w;
  ev_async_start (d->loop, &w->finished);
  /* Signals are for the loop's thread. */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  w->threaded = pthread_create (&w->thread, NULL, thread, w) == 0;
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  if (!w->threaded)             /* better late than never */
    thread (w);
}
