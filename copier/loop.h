/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The event loop's turns, and the requests that complete in them. */

/* All state of a job belongs to the thread of the loop.  What is to be done
 * asynchronously is a struct io: it goes to a source or target, which passes
 * it to libnbd or to a worker thread, and comes back by loop_complete.
 *
 * loop_complete only queues.  libnbd calls back from inside its own calls,
 * where no new I/O may be started on that handle; so what follows from a
 * completion happens in the next turn.  A turn is, in the loop's prepare
 * watcher, just before it sleeps:
 *
 *   1. hooks look at their connections (check);
 *   2. the queue is emptied: each io->done is called, and may start I/O;
 *   3. the turn function of the job runs: starts what there is room for;
 *   4. back to 1 while there is something in the queue;
 *   5. hooks tell libev what to wait for (arm).
 *
 * Timers, signals and control messages therefore need only set a flag: that
 * the loop woke up is enough for the turn function to see it.
 */

#ifndef NBDFLEECE_LOOP_H
#define NBDFLEECE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

struct loop;

struct io {
  void (*done) (struct io *io); /* in a turn, on the loop's thread */
  void *owner;                  /* whose io it is */
  int error;                    /* for done: 0, or an errno value; ENOTCONN is
                                 * "the connection is gone", nothing else */
  /* The request, as the call it is passed to says. */
  void *buf;
  uint64_t offset, count;       /* bytes */
  uint64_t moved;               /* move: bytes that were copied in all */
  int method;                   /* move: how (enum offload) */
  const void *from;             /* move: struct reader */
  void *list;                   /* extents: struct extent_list */
  /* Of whoever carries it out. */
  struct loop *loop;
  void *end;                    /* source, target or connection */
  int (*run) (struct io *io);   /* worker thread: 0, or -1 and errno */
  struct io *next, **prev;      /* the one queue it is in */
};

struct loop_hook {
  void (*check) (struct loop_hook *hook); /* may complete I/O */
  void (*arm) (struct loop_hook *hook);
  struct loop_hook *next;
};

struct loop {
  struct ev_loop *ev;
  ev_prepare prepare;
  struct io *first, **last;     /* completed */
  struct io *unused;            /* to be had from loop_io */
  struct loop_hook *hooks;
  void (*turn) (void *opaque);  /* or NULL */
  void *opaque;
};

/* 0, or -1 and errno. */
extern int loop_init (struct loop *l);

/* Frees the loop; all that was started in it has ended. */
extern void loop_free (struct loop *l);

/* A struct io with done and owner set and the rest zero.  NULL and errno
 * ENOMEM.  Its owner gives it back in done, with loop_io_free. */
extern struct io *loop_io (struct loop *l, void (*done) (struct io *),
                           void *owner);
extern void loop_io_free (struct io *io);

/* Queues io for its done.  On the loop's thread; it is in no other queue. */
extern void loop_complete (struct io *io, int error);

extern void loop_add_hook (struct loop *l, struct loop_hook *hook);
extern void loop_remove_hook (struct loop *l, struct loop_hook *hook);

/* Runs turns until loop_stop, which may be called in one. */
extern void loop_run (struct loop *l);
extern void loop_stop (struct loop *l);

#endif /* NBDFLEECE_LOOP_H */
