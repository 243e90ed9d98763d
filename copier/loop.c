/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Turns of the event loop. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

static void
empty_queue (struct loop *l)
{
  while (l->first) {
    struct io *io = l->first;

    l->first = io->next;
    if (!l->first)
      l->last = &l->first;
    io->next = NULL;
    io->done (io);
  }
}

static void
turn (struct ev_loop *ev, ev_prepare *w, int revents)
{
  struct loop *l = w->data;
  struct loop_hook *h;

  (void) ev;
  (void) revents;
  do {
    for (h = l->hooks; h; h = h->next)
      h->check (h);
    empty_queue (l);
    if (l->turn)
      l->turn (l->opaque);
  } while (l->first);
  for (h = l->hooks; h; h = h->next)
    h->arm (h);
}

int
loop_init (struct loop *l)
{
  memset (l, 0, sizeof *l);
  l->last = &l->first;
  l->ev = ev_loop_new (EVFLAG_AUTO);
  if (!l->ev) {
    errno = ENOMEM;
    return -1;
  }
  ev_prepare_init (&l->prepare, turn);
  l->prepare.data = l;
  ev_prepare_start (l->ev, &l->prepare);
  return 0;
}

void
loop_free (struct loop *l)
{
  while (l->unused) {
    struct io *io = l->unused;

    l->unused = io->next;
    free (io);
  }
  if (l->ev) {
    ev_prepare_stop (l->ev, &l->prepare);
    ev_loop_destroy (l->ev);
  }
  l->ev = NULL;
}

struct io *
loop_io (struct loop *l, void (*done) (struct io *), void *owner)
{
  struct io *io = l->unused;

  if (io)
    l->unused = io->next;
  else {
    io = malloc (sizeof *io);
    if (!io)
      return NULL;
  }
  *io = (struct io) { .done = done, .owner = owner, .loop = l };
  return io;
}

void
loop_io_free (struct io *io)
{
  io->next = io->loop->unused;
  io->loop->unused = io;
}

void
loop_complete (struct io *io, int error)
{
  struct loop *l = io->loop;

  io->error = error;
  io->next = NULL;
  *l->last = io;
  l->last = &io->next;
}

void
loop_add_hook (struct loop *l, struct loop_hook *hook)
{
  hook->next = l->hooks;
  l->hooks = hook;
}

void
loop_remove_hook (struct loop *l, struct loop_hook *hook)
{
  struct loop_hook **p;

  for (p = &l->hooks; *p; p = &(*p)->next)
    if (*p == hook) {
      *p = hook->next;
      return;
    }
}

void
loop_run (struct loop *l)
{
  ev_run (l->ev, 0);
}

void
loop_stop (struct loop *l)
{
  ev_break (l->ev, EVBREAK_ONE);
}
