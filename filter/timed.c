/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A small pool of threads that write to the scratch, and flush, while others
 * watch the clock. */

/* A system call that hangs cannot be taken back, so with a time-out the write
 * is another thread's, with a copy of the data and a duplicate of the
 * descriptor of its own, and the guest's thread waits for it with a deadline.
 * A write is owned by both until one of them is done with it:
 *
 *   QUEUED ──▶ WRITING ──▶ DONE        the guest's thread frees it
 *      │           └─────▶ ABANDONED   the writer frees it
 *      └─────────────────▶ ABANDONED   likewise, without writing
 *
 * What an abandoned write leaves in the scratch belongs to clusters that are
 * marked lost, and that mark is never taken back; or, under break-guest-write,
 * to clusters that are LIVE and whose old content it is.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"
#include "scratch.h"
#include "timed.h"

#define WRITERS 8

enum write_state { QUEUED, WRITING, DONE, ABANDONED };

struct timed_write {
  /* Set once. */
  int fd;                       /* a duplicate, closed with the write */
  void *buf;                    /* NULL: a flush */
  uint64_t count, offset;
  /* Under timed.lock. */
  enum write_state state;
  int error;
  struct timed_write *next;
};

struct timed {
  uint64_t timeout_ns;          /* set once */
  pthread_t threads[WRITERS];   /* set once */
  pthread_mutex_t lock;
  /* Under lock. */
  pthread_cond_t queued, done;
  struct timed_write *head, **tail;
  unsigned hanging;             /* abandoned while being written */
  bool stop;
};

static void
free_write (struct timed_write *w)
{
  if (w->fd != -1)
    close (w->fd);
  free (w->buf);
  free (w);
}

/* Under lock, which it drops while writing. */
static void
write_one (struct timed *t, struct timed_write *w)
{
  int error;

  if (w->state == ABANDONED) {
    free_write (w);
    return;
  }
  w->state = WRITING;
  pthread_mutex_unlock (&t->lock);
  error = (w->buf ? full_pwrite (w->fd, w->buf, w->count, w->offset)
           : fdatasync (w->fd)) == -1 ? errno : 0;
  pthread_mutex_lock (&t->lock);
  if (w->state == ABANDONED) {
    t->hanging--;
    free_write (w);
    return;
  }
  w->error = error;
  w->state = DONE;
  pthread_cond_broadcast (&t->done);
}

static void *
writer (void *opaque)
{
  struct timed *t = opaque;
  struct timed_write *w;

  pthread_mutex_lock (&t->lock);
  for (;;) {
    while (!t->head && !t->stop)
      pthread_cond_wait (&t->queued, &t->lock);
    if (!t->head)
      break;
    w = t->head;
    t->head = w->next;
    if (!t->head)
      t->tail = &t->head;
    write_one (t, w);
  }
  pthread_mutex_unlock (&t->lock);
  return NULL;
}

struct timed *
timed_new (uint64_t timeout_ns)
{
  struct timed *t = calloc (1, sizeof *t);
  pthread_condattr_t attr;
  int i, err;

  if (!t)
    return NULL;
  t->timeout_ns = timeout_ns;
  t->tail = &t->head;
  pthread_mutex_init (&t->lock, NULL);
  pthread_cond_init (&t->queued, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&t->done, &attr);
  pthread_condattr_destroy (&attr);
  for (i = 0; i < WRITERS; i++) {
    err = pthread_create (&t->threads[i], NULL, writer, t);
    if (err != 0) {
      pthread_mutex_lock (&t->lock);
      t->stop = true;
      pthread_cond_broadcast (&t->queued);
      pthread_mutex_unlock (&t->lock);
      while (i-- > 0)
        pthread_join (t->threads[i], NULL);
      free (t);
      errno = err;
      return NULL;
    }
  }
  return t;
}

void
timed_free (struct timed *t)
{
  bool hanging;
  int i;

  if (!t)
    return;
  pthread_mutex_lock (&t->lock);
  t->stop = true;
  hanging = t->hanging > 0;
  pthread_cond_broadcast (&t->queued);
  pthread_mutex_unlock (&t->lock);
  if (hanging)
    return;
  for (i = 0; i < WRITERS; i++)
    pthread_join (t->threads[i], NULL);
  pthread_cond_destroy (&t->done);
  pthread_cond_destroy (&t->queued);
  pthread_mutex_destroy (&t->lock);
  free (t);
}

static struct timed_write *
new_write (int fd, const void *buf, uint64_t count, uint64_t offset)
{
  struct timed_write *w = calloc (1, sizeof *w);

  if (!w)
    return NULL;
  w->count = count;
  w->offset = offset;
  w->fd = fcntl (fd, F_DUPFD_CLOEXEC, 0);
  w->buf = buf ? malloc (count) : NULL;
  if (w->fd == -1 || (buf && !w->buf)) {
    free_write (w);
    return NULL;
  }
  if (buf)
    memcpy (w->buf, buf, count);
  return w;
}

/* Under lock.  Returns the write's errno value; w is gone afterwards. */
static int
await (struct timed *t, struct timed_write *w)
{
  uint64_t deadline = now_ns () + t->timeout_ns;
  struct timespec ts = { .tv_sec = deadline / 1000000000,
                         .tv_nsec = deadline % 1000000000 };
  int error;

  while (w->state != DONE)
    if (pthread_cond_timedwait (&t->done, &t->lock, &ts) == ETIMEDOUT
        && w->state != DONE) {
      if (w->state == WRITING)
        t->hanging++;
      w->state = ABANDONED;
      return ETIMEDOUT;
    }
  error = w->error;
  free_write (w);
  return error;
}

static int
carry_out (struct timed *t, struct timed_write *w)
{
  int error;

  if (!w)
    return -1;
  pthread_mutex_lock (&t->lock);
  if (t->hanging > 0) {
    error = ETIMEDOUT;
    free_write (w);
  }
  else {
    *t->tail = w;
    t->tail = &w->next;
    pthread_cond_signal (&t->queued);
    error = await (t, w);
  }
  pthread_mutex_unlock (&t->lock);
  errno = error;
  return error ? -1 : 0;
}

int
timed_pwrite (struct timed *t, int fd, const void *buf,
              uint64_t count, uint64_t offset)
{
  return carry_out (t, new_write (fd, buf, count, offset));
}

int
timed_fdatasync (struct timed *t, int fd)
{
  return carry_out (t, new_write (fd, NULL, 0, 0));
}
