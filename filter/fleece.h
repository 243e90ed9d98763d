/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The filter's one disk: what is shared by its parts. */

/* Lock order: nobody holds two locks of this filter at once, but for
 * the in-flight range of one snapshot, under which its owner reads the live
 * disk and writes and flushes the scratch (and there takes the locks of
 * durable.c and of the time-out queue, timed.h), and the range of the deferred trims (trim.h), which is
 * taken before any other and never while holding one. */

#ifndef NBDFLEECE_FLEECE_H
#define NBDFLEECE_FLEECE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "bmfile.h"
#include "clients.h"
#include "gate.h"
#include "inflight.h"
#include "wire.h"

#define SNAPSHOTS_MAX WIRE_SNAPSHOTS_MAX
#define BUFFERS_KEPT 16
#define RUN_MAX (1024 * 1024)   /* bytes copied by one read and one write */

struct activity;
struct durable;
struct timed;
struct trim;
struct control;

enum on_cow_error { BREAK_SNAPSHOT, BREAK_GUEST_WRITE };

/* Set once, from the command line. */
struct options {
  const char *export_name;
  const char *state;            /* directory of this export's maps, or NULL */
  const char *control;          /* path of the control socket, or NULL */
  const char *id;
  const char *live;             /* for maps the filter makes itself */
  const char *snapshot;         /* begin this one at start */
  uint64_t cluster_size;        /* 0: auto */
  uint64_t scratch_limit;       /* bytes; 0: none */
  uint64_t cow_timeout_ns;      /* 0: none */
  enum on_cow_error on_cow_error;
  bool defer_trim;
  bool durable_tracking;
  uint64_t log_idle_ns;         /* how long a region stays active */
  uint32_t readers;             /* uid of clients that may only read; 0: none */
};

struct snapshot {
  struct bmfile map;            /* set once; contents by the rules of map.h */
  int scratch;                  /* set once */
  struct inflight inflight;     /* the lock of W1 to W3 */
  struct durable *durable;      /* NULL: it is not to outlast the host; set
                                 * once */
  /* Atomic, for the control thread to report: the first errno of a copy that
   * failed, and whether that has been said. */
  _Atomic int first_error;
  bool reported;                /* control thread only */
};

/* What a changing request has to look after, immutable once published.  A
 * request loads it after it has entered the gate and may use it until it
 * leaves. */
struct snapset {
  unsigned nr;
  struct snapshot *snapshots[SNAPSHOTS_MAX];
  struct bmfile *tracking;      /* dirty bits go here; NULL: not tracking */
};

struct fleece {
  struct options options;       /* set once */

  /* Set once by after_fork, before the first client. */
  nbdkit_backend *backend;
  uint64_t cluster_size;        /* for new maps */
  uint32_t run_max;             /* bytes; a multiple of any cluster size, or
                                 * less than it if the backend takes less */
  bool can_extents;
  int state_lock;               /* descriptor of options.state, locked */
  int listener;                 /* the guest's listening socket, or -1 */
  struct control *control;
  struct timed *timed;          /* NULL without cow-timeout */
  struct trim *trim;            /* NULL without defer_trim */
  struct activity *activity;    /* NULL without durable_tracking */

  struct gate gate;
  struct clients clients;

  struct {
    pthread_mutex_t lock;
    char *free[BUFFERS_KEPT];   /* under lock */
    unsigned nr;
  } buffers;

  /* Atomic; bytes, as the last connection found it: a raw disk may grow. */
  _Atomic uint64_t disk_size;

  /* Atomic; changed by the control thread only (and before it runs). */
  _Atomic (struct snapset *) set;

  /* Relaxed, a guess: the last long run that was copied began with zeroes, so
   * it is worth while to ask the backend for extents (cow.c). */
  _Atomic bool ask_extents;

  /* Control thread only: the counters of snapshots that have ended; a frozen
   * bitmap that is not flushed yet, or NULL. */
  struct wire_stats ended;
  struct bmfile *unsettled;

  /* Statistics, relaxed. */
  _Atomic uint64_t cow_requests, failed_requests, cow_max_us;
  _Atomic uint64_t histogram[WIRE_HISTOGRAM];
};

#endif /* NBDFLEECE_FLEECE_H */
