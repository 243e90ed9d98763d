/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Clients in the event loop. */

/* After every turn of a client its watchers are made to fit what it wants.
 * They are level-triggered, so a watcher is on only while the client can do
 * something with what it tells; that is how back-pressure reaches the kernel's
 * buffers.  A client that has more to do when its turn is over comes again by a
 * timer of zero seconds: after all others that are ready.
 *
 * A descriptor may have been closed, and its number used again, within the
 * turn.  libev asks only to be told (ev_io_set) before it polls again.
 */

#include <config.h>

#include <stdlib.h>
#include <syslog.h>
#include <time.h>

#include "loop.h"
#include "status.h"

#define BACKEND_PAUSE 0.05      /* seconds */

struct watch {
  struct ev_loop *loop;
  struct client *client;
  ev_io io, backend_io;
  ev_timer again;
};

void
loop_now (struct front *front)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  front->now = t.tv_sec + t.tv_nsec / 1e9;
}

static void
set_io (struct ev_loop *loop, ev_io *w, int fd, int events)
{
  int now = ev_is_active (w) ? w->events & (EV_READ | EV_WRITE) : 0;

  if (now == events && (events == 0 || w->fd == fd))
    return;
  ev_io_stop (loop, w);
  if (events == 0)
    return;
  ev_io_set (w, fd, events);
  ev_io_start (loop, w);
}

static void
set_backend_io (struct watch *w, unsigned epoch)
{
  const struct client *c = w->client;
  int events = (c->wants & WANT_BACKEND_READ ? EV_READ : 0)
    | (c->wants & WANT_BACKEND_WRITE ? EV_WRITE : 0);

  /* The same number may be another connection. */
  if (c->backend.epoch != epoch || c->backend.ch.fd == -1)
    ev_io_stop (w->loop, &w->backend_io);
  set_io (w->loop, &w->backend_io, c->backend.ch.fd,
          c->backend.ch.fd == -1 ? 0 : events);
}

static void
remove_client (struct watch *w)
{
  struct client *c = w->client;

  if (c->why[0])
    front_log (c->front, c->served ? LOG_INFO : LOG_DEBUG,
               "client %llu: %s: closed: %s", (unsigned long long) c->id,
               c->peer.address, c->why);
  else if (c->served)
    front_log (c->front, LOG_DEBUG, "client %llu: done",
               (unsigned long long) c->id);
  ev_io_stop (w->loop, &w->io);
  ev_io_stop (w->loop, &w->backend_io);
  ev_timer_stop (w->loop, &w->again);
  client_free (c);
  free (w);
}

static void
run (struct watch *w)
{
  struct client *c = w->client;
  unsigned epoch = c->backend.epoch;
  bool more;

  loop_now (c->front);
  more = client_run (c);
  if (c->state == CLIENT_CLOSED) {
    remove_client (w);
    return;
  }
  ev_timer_stop (w->loop, &w->again);
  if (more) {
    set_io (w->loop, &w->io, c->ch.fd, 0);
    c->wants = 0;
  }
  else
    set_io (w->loop, &w->io, c->ch.fd,
            (c->wants & WANT_CLIENT_READ ? EV_READ : 0)
            | (c->wants & WANT_CLIENT_WRITE ? EV_WRITE : 0));
  set_backend_io (w, epoch);
  if (more || (c->wants & WANT_BACKEND)) {
    ev_timer_set (&w->again, more ? 0 : BACKEND_PAUSE, 0);
    ev_timer_start (w->loop, &w->again);
  }
}

static void
io_ready (struct ev_loop *loop, ev_io *io, int revents)
{
  (void) loop;
  (void) revents;
  run (io->data);
}

static void
comes_again (struct ev_loop *loop, ev_timer *t, int revents)
{
  (void) loop;
  (void) revents;
  run (t->data);
}

int
loop_add (struct ev_loop *loop, struct client *c)
{
  struct watch *w = calloc (1, sizeof *w);

  if (!w)
    return -1;
  w->loop = loop;
  w->client = c;
  c->loop = w;
  ev_io_init (&w->io, io_ready, c->ch.fd, EV_READ);
  ev_io_init (&w->backend_io, io_ready, 0, EV_READ);
  ev_timer_init (&w->again, comes_again, 0, 0);
  w->io.data = w->backend_io.data = w->again.data = w;
  run (w);
  return 0;
}

void
loop_tick (struct ev_loop *loop, struct front *front)
{
  struct client *c, *next;

  (void) loop;
  loop_now (front);
  for (c = TAILQ_FIRST (&front->clients); c; c = next) {
    enum client_state before = c->state;

    next = TAILQ_NEXT (c, entry);
    client_tick (c);
    if (client_deadline (c) < front->now)
      client_timed_out (c);
    if (c->state != before)
      run (c->loop);
  }
}

void
loop_shut_down (struct ev_loop *loop, struct front *front)
{
  struct client *c, *next;

  (void) loop;
  for (c = TAILQ_FIRST (&front->clients); c; c = next) {
    next = TAILQ_NEXT (c, entry);
    client_shut_down (c);
    run (c->loop);
  }
}

void
loop_end_all (struct ev_loop *loop, struct front *front)
{
  struct client *c, *next;

  (void) loop;
  for (c = TAILQ_FIRST (&front->clients); c; c = next) {
    next = TAILQ_NEXT (c, entry);
    client_fail (c, "shutting down");
    run (c->loop);
  }
}

void
loop_drop_all (struct ev_loop *loop, struct front *front)
{
  struct client *c;

  (void) loop;
  while ((c = TAILQ_FIRST (&front->clients)) != NULL)
    remove_client (c->loop);
}
