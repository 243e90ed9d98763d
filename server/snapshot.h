/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Snapshots: their files, and how they begin and end. */

#ifndef NBDFLEECE_SNAPSHOT_H
#define NBDFLEECE_SNAPSHOT_H

#include <stdbool.h>
#include <sys/queue.h>

#include <ev.h>

#include "conf.h"
#include "map.h"
#include "util.h"

struct checkpoint;
struct daemon;
struct export;
struct job;
struct json_object;

enum snapshot_state {
  SNAPSHOT_CREATING,            /* its name is taken, no more */
  SNAPSHOT_ACTIVE,
  SNAPSHOT_ENDING,
};

/* Told when a snapshot that was to be ended is gone. */
typedef void (*snapshot_gone) (void *opaque);

struct snapshot {
  TAILQ_ENTRY (snapshot) entry;
  struct export *export;
  char *name;
  char *map_path, *scratch_path;
  bool beside;                  /* it waits to take the place of another one of
                                 * its name (rearm.c) */
  enum snapshot_state state;
  struct bmfile map;            /* open (writable) if ACTIVE or ENDING */
  struct job *job;              /* that needs it, or NULL */

  /* ENDING. */
  snapshot_gone gone;
  void *opaque;
  bool end_sent;
  ev_timer again;
};

/* Not one that is beside another. */
extern struct snapshot *snapshot_find (const struct export *ex,
                                       const char *name);

/* A new one in the export's list, CREATING, without files; and its
 * opposite. */
extern struct snapshot *snapshot_new (struct export *ex, const char *name);
extern void snapshot_free (struct snapshot *s);

/* Makes map and scratch and opens the map.  since: the checkpoint that is the
 * start of its scope, or NULL; release: clients may release clusters.  The
 * descriptors, of map and scratch, are the
 * caller's.  0, or -1 with *failure and nothing left behind. */
extern int snapshot_make_files (struct snapshot *s, const char *since,
                                bool release, int fds[2],
                                struct failure *failure);

/* Deletes its files.  Nobody must be using them. */
extern void snapshot_remove_files (struct snapshot *s);

/* Finds the export's snapshots in the state directory and removes what is
 * left over there and in the scratch directory. */
extern void snapshots_load (struct export *ex);

/* After the export's nbdkit has been started again: drops those that the
 * filter could not go on with. */
extern void snapshots_check (struct export *ex);

/* Ends it, deletes its files and frees it, as soon as the export's nbdkit
 * lets go of it; then calls gone, never from within this call. */
extern void snapshot_end (struct snapshot *s, snapshot_gone gone,
                          void *opaque);

/* Ends it at once and frees it, where no process of the export runs. */
extern void snapshot_drop (struct snapshot *s, const char *why);

/* Several exports at one instant (snapshot_create.c). */
struct create_wish {
  struct export *export;
  const char *name;             /* of the snapshot */
  const char *since;            /* checkpoint that has to be good for a scope
                                 * that starts there, or NULL */
};

struct create_params {
  const struct create_wish *wishes; /* each export once */
  size_t nr;
  const struct config_group *const *groups; /* that were named: their hooks are
                                 * run, too */
  size_t nr_groups;
  const char *checkpoint;       /* to be made at the instant, or NULL */
  unsigned deadline_ms;         /* 0: freeze-timeout of the configuration */
  bool release;                 /* clients may release clusters */
  bool keep_record;             /* done has to take the record */
  bool rearm;                   /* beside snapshots of the same names, to take
                                 * their places */
};

struct created {
  struct snapshot **snapshots;  /* in the order of the wishes */
  struct checkpoint **checkpoints; /* likewise; each may be NULL */
  size_t nr;
  struct json_object *report;   /* members for the answer: how long writes were
                                 * held, and what became of hooks */
  char *record;                 /* of unfinished.h, or NULL; it is removed
                                 * after the call.  Whoever takes it (and puts
                                 * NULL here) removes and frees it later */
};

/* done is called once, never from within: failure is NULL if all exist. */
typedef void (*snapshots_created) (void *opaque,
                                   const struct failure *failure,
                                   struct created *created);
extern void snapshots_create (struct daemon *d,
                              const struct create_params *params,
                              snapshots_created done, void *opaque);

/* Begins what has waited for its turn. */
extern void snapshots_go_on (struct daemon *d);

/* True if a request of that kind has to do with the export. */
extern bool snapshots_are_created (const struct export *ex);

#endif /* NBDFLEECE_SNAPSHOT_H */
