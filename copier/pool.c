/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Worker threads. */

/* One lock guards both queues.  A submitter wakes a thread only if one sleeps,
 * and a thread wakes the loop only if the queue of finished work was empty,
 * so that under load, when nobody sleeps, a request costs no system call of
 * its own. */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "pool.h"

struct queue {
  struct io *first, **last;
};

struct pool {
  /* Set once. */
  struct loop *loop;
  ev_async wake;
  pthread_t *threads;
  unsigned nr;

  pthread_mutex_t lock;
  /* Under lock. */
  pthread_cond_t work;
  struct queue todo, finished;
  unsigned asleep;
  bool stop;
};

static void
append (struct queue *q, struct io *io)
{
  io->next = NULL;
  *q->last = io;
  q->last = &io->next;
}

static struct io *
take (struct queue *q)
{
  struct io *io = q->first;

  if (io) {
    q->first = io->next;
    if (!q->first)
      q->last = &q->first;
  }
  return io;
}

static void *
worker (void *opaque)
{
  struct pool *p = opaque;
  struct io *io;
  bool was_empty;

  pthread_mutex_lock (&p->lock);
  while (!p->stop) {
    io = take (&p->todo);
    if (!io) {
      p->asleep++;
      pthread_cond_wait (&p->work, &p->lock);
      p->asleep--;
      continue;
    }
    pthread_mutex_unlock (&p->lock);
    io->error = io->run (io) == -1 ? errno : 0;
    pthread_mutex_lock (&p->lock);
    was_empty = !p->finished.first;
    append (&p->finished, io);
    if (was_empty)
      ev_async_send (p->loop->ev, &p->wake);
  }
  pthread_mutex_unlock (&p->lock);
  return NULL;
}

static void
woken (struct ev_loop *ev, ev_async *w, int revents)
{
  struct pool *p = w->data;
  struct io *io, *next;

  (void) ev;
  (void) revents;
  pthread_mutex_lock (&p->lock);
  io = p->finished.first;
  p->finished = (struct queue) { NULL, &p->finished.first };
  pthread_mutex_unlock (&p->lock);
  for (; io; io = next) {
    next = io->next;
    loop_complete (io, io->error);
  }
}

static int
start_threads (struct pool *p, unsigned nr)
{
  sigset_t all, before;
  int err = 0;

  sigfillset (&all);            /* signals are the loop's */
  pthread_sigmask (SIG_SETMASK, &all, &before);
  for (; p->nr < nr && err == 0; p->nr += err == 0)
    err = pthread_create (&p->threads[p->nr], NULL, worker, p);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  errno = err;
  return err == 0 ? 0 : -1;
}

struct pool *
pool_new (struct loop *l, unsigned nr)
{
  struct pool *p = calloc (1, sizeof *p);

  if (!p)
    return NULL;
  p->loop = l;
  p->todo.last = &p->todo.first;
  p->finished.last = &p->finished.first;
  pthread_mutex_init (&p->lock, NULL);
  pthread_cond_init (&p->work, NULL);
  ev_async_init (&p->wake, woken);
  p->wake.data = p;
  ev_async_start (l->ev, &p->wake);
  p->threads = calloc (nr, sizeof *p->threads);
  if (!p->threads || start_threads (p, nr) == -1) {
    int err = errno;

    pool_free (p);
    errno = err;
    return NULL;
  }
  return p;
}

void
pool_submit (struct pool *p, struct io *io)
{
  pthread_mutex_lock (&p->lock);
  append (&p->todo, io);
  if (p->asleep > 0)
    pthread_cond_signal (&p->work);
  pthread_mutex_unlock (&p->lock);
}

void
pool_free (struct pool *p)
{
  unsigned i;

  if (!p)
    return;
  pthread_mutex_lock (&p->lock);
  p->stop = true;
  pthread_cond_broadcast (&p->work);
  pthread_mutex_unlock (&p->lock);
  for (i = 0; i < p->nr; i++)
    pthread_join (p->threads[i], NULL);
  ev_async_stop (p->loop->ev, &p->wake);
  pthread_cond_destroy (&p->work);
  pthread_mutex_destroy (&p->lock);
  free (p->threads);
  free (p);
}
