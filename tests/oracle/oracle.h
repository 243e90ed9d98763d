/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The parts of the oracle test: options, servers, writers, snapshots. */

/* Threads:
 *
 *   main      starts and kills the servers, settles the model now and then
 *   writers   one connection each to the export, several requests in flight
 *   slots     one snapshot each at a time: begin, read, end, over and over
 *   roamers   read whatever snapshots there are, also while they end
 *
 * What keeps them apart is the turn (turn.c): begins are shared, settling and
 * restarting the export are exclusive.  Lock order: turn, registry, snapshot,
 * view, model. */

#ifndef NBDFLEECE_ORACLE_H
#define NBDFLEECE_ORACLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <libnbd.h>

#include "../testing.h"
#include "model.h"
#include "reader.h"
#include "wire.h"

#define EXPORT "vda"

struct options {                /* see options.c for what they mean */
  const char *dir, *backend, *trim, *on_cow_error, *chaos;
  uint64_t size, cluster, max_request, scratch_limit;
  uint64_t writers, depth, slots, readers, rounds, seconds;
  uint64_t delay, jitter, cow_timeout, exact, frozen, kill_every, release;
  uint64_t durable;
  uint64_t filter, direct, front;
};

/* A server with a socket that outlives it: while it is away, clients wait. */
struct server {
  const char *name;             /* set once */
  char socket[200], log[200];
  int listener;
  const char **argv;            /* without what server_start adds */
  atomic_uint generation;       /* one more before it is killed (odd: it is
                                 * dying) and again when it is dead */
  pid_t pid;                    /* main thread only; 0 if not running */
};

/* Whether the server may have been killed since its generation was seen. */
static inline bool
server_went (const struct server *s, unsigned seen)
{
  unsigned now = atomic_load (&s->generation);

  return now != seen || seen % 2 == 1;
}

/* See turn.c. */
struct turn {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned shared, waiting;     /* under lock, like all below */
  bool exclusive, up;
  atomic_bool paused;           /* writers are to drain and wait */
  unsigned idle;                /* writers that have */
};

struct snapshot;

struct tally {                  /* for the account at the end */
  atomic_ullong requests, written, failed; /* of the writers */
  atomic_ullong reads, bytes_read, holes, denied; /* of snapshots */
  atomic_ullong exact, free_, frozen, timeouts;   /* begins */
  atomic_ullong concurrent, in, out; /* requests at an instant */
  atomic_ullong settled, kills, survivors, lost;
};

struct oracle {
  struct options opt;           /* set once, down to model */
  uint64_t seed;
  char state[200], export_dir[300], control[200], live[300];
  struct server export, plugin, backend;
  struct server front;          /* not started unless wanted */
  struct model *model;
  struct turn turn;
  struct nbd_handle *settler;   /* in the turn: exclusive, or killing */
  atomic_bool stop;             /* writers and roamers end */
  atomic_uint next_round;       /* snapshots begun */
  atomic_uint slots_left;
  pthread_mutex_t registry;     /* protects current */
  pthread_cond_t event;         /* with registry: something is over */
  struct snapshot **current;    /* per slot; NULL if none */
  pthread_mutex_t freezer;      /* who holds the gate over time */
  atomic_ullong frozen_since;   /* stamp; 0 if nobody holds the gate */
  struct tally tally;
};

/* util.c: all of these end the program rather than fail. */
extern void complain (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));
extern void die (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2), noreturn));
extern void *xmalloc (size_t size);
extern void *xcalloc (size_t n, size_t size);
extern void *xrealloc (void *p, size_t size);
extern char *xprintf (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));
extern bool chance (struct rng *r, unsigned percent);
/* 1 to max, as likely to be short as long in every order of magnitude. */
extern uint64_t log_uniform (struct rng *r, uint64_t max);
extern void thread_start (pthread_t *t, void *(*run) (void *), void *arg);
/* Called by die before the end: kills the servers, shows their logs. */
extern void at_death (void (*handler) (void *), void *opaque);

/* options.c */
extern void options_parse (struct options *opt, int argc, char *argv[]);
extern void options_print (const struct options *opt);

/* servers.c: main thread only, but for server_connect. */
extern void servers_prepare (struct oracle *o);
extern void server_start (struct server *s);
extern void server_kill (struct server *s, int sig);
extern void servers_finish (struct oracle *o);
extern void servers_abandon (void *opaque);
/* A connection to the server; waits while it is away.  NULL if the server
 * refused, or went away in the middle. */
extern struct nbd_handle *server_connect (struct server *s,
                                          const char *export_name);
/* Where snapshots are pulled from: the front, or the plugin itself. */
extern struct server *pulled_from (struct oracle *o);

/* turn.c */
extern void turn_init (struct turn *t);
/* A shared turn, which waits until the export is up. */
extern void turn_share (struct turn *t);
extern void turn_unshare (struct turn *t);
/* The turn for oneself; while the export is down only if that is wanted. */
extern void turn_take (struct turn *t, bool even_if_down);
extern void turn_release (struct turn *t);
extern void turn_set_up (struct turn *t, bool up);
extern bool turn_is_up (struct turn *t);
/* Within turn_share, cut off from the export: waits until it is known dead. */
extern void turn_wait_down (struct turn *t);
/* Within turn_take: writers drain and wait; and go on. */
extern void turn_pause (struct oracle *o);
extern void turn_resume (struct oracle *o);
/* Called by a writer with nothing in flight: waits while paused. */
extern void turn_idle (struct oracle *o, bool until_up);

/* writers.c */
extern void *writer_run (void *arg);
struct writer { struct oracle *o; unsigned nr; pthread_t thread; };

/* settle.c: within an exclusive turn, with writers paused. */
extern void settle (struct oracle *o);

/* chaos.c: what main does until the slots are done. */
extern void chaos_run (struct oracle *o, struct rng *r);

/* snapshots.c */
struct snapshot {
  struct oracle *o;             /* set once, down to scratch */
  char name[32];
  char *map_path, *scratch_path;
  struct bmfile map;            /* writable, as a copier's is */
  int map_fd, scratch;
  struct live *live;            /* NULL: no direct reads */
  struct reader reader;
  struct view *view;
  unsigned slot;
  unsigned refs;                /* under o->registry */
  atomic_bool ending;           /* END may have been sent */
  atomic_bool ended;            /* END was answered */
  atomic_uchar *released;       /* per cluster: 1 maybe, 2 surely */
};
extern void *slot_run (void *arg);
struct slot {
  struct oracle *o;
  unsigned nr;
  struct rng rng;
  int control;                  /* -1 if not connected */
  unsigned generation;          /* of the export when it was */
  pthread_t thread;
};

/* begin.c: begins and ends snapshots.  begin returns NULL if it may fail and
 * did. */
extern struct snapshot *snapshot_begin (struct slot *slot, unsigned round);
extern void snapshot_end (struct slot *slot, struct snapshot *s);
extern void snapshot_free (struct snapshot *s);

/* readers.c: reads [offset, offset + count), or as much as there may be, and
 * checks. */
struct pull {                   /* a connection to the plugin */
  struct snapshot *s;
  struct nbd_handle *nbd;       /* NULL: not connected */
  unsigned plugin, front, export; /* generations when it was */
};
extern void *roamer_run (void *arg);
struct roamer { struct oracle *o; unsigned nr; pthread_t thread; };
extern void pull_open (struct pull *p, struct snapshot *s);
extern void pull_close (struct pull *p);
/* Several reads at a time, at random or one after the other. */
extern void pull_read (struct pull *p, struct rng *r, bool in_full);
extern void pull_extents (struct pull *p, struct rng *r, bool in_full);

/* direct.c: the same through the reader of common/. */
extern void direct_read (struct snapshot *s, struct rng *r, bool in_full);
extern void direct_copy (struct snapshot *s, struct rng *r);
extern void direct_extents (struct snapshot *s, struct rng *r, bool in_full);
extern void direct_release (struct snapshot *s, struct rng *r);
/* Whether the clusters of the range are in the way of reading it. */
struct obstacles { bool lost, maybe_released, released; };
extern struct obstacles obstacles_of (struct snapshot *s,
                                      uint64_t offset, uint64_t count);

#endif /* NBDFLEECE_ORACLE_H */
