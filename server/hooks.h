/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The hooks of one request that begins snapshots. */

#ifndef NBDFLEECE_HOOKS_H
#define NBDFLEECE_HOOKS_H

#include <json-c/json.h>

#include "daemon.h"
#include "snapshot.h"

struct program;

/* failure: NULL if no hook has failed.  Called once, from the loop. */
typedef void (*hooks_done) (void *opaque, const struct failure *failure);

enum hook_side { HOOK_BEFORE, HOOK_AFTER };

/* One side of a hook. */
struct hook_step {
  char **argv;                  /* NULL: there is none */
  uint64_t timeout_ms;
  struct program *running;      /* or NULL */
  bool ran;
  char *why;                    /* it has failed; or NULL */
  int64_t began_ns, took_ns;
};

/* The hook of a group or an export. */
struct hook {
  struct hooks *hooks;
  char *group;                  /* NULL: of an export */
  struct strings exports;       /* of the group, or the one */
  struct strings snapshots;     /* of each */
  struct hook_step steps[2];    /* by enum hook_side */
  bool started;                 /* so after-thaw has to run */
};

struct hooks {
  TAILQ_ENTRY (hooks) entry;
  struct daemon *daemon;
  char id[UUID_SIZE];           /* of this set, in its processes' environment
                                 * and the name of the record */
  char *record;                 /* STATE/hooks-ID, while it exists, or NULL */
  bool recovering;              /* of a daemon that died */
  enum hook_side side;          /* that is being run, or was */
  unsigned round;               /* of two: groups first or last */
  const char *result;           /* for after-thaw */
  struct failure failure;       /* code is NULL: none yet */
  hooks_done done;              /* NULL: nothing is being run */
  void *opaque;
  size_t waiting;               /* programs that run */
  ev_timer next;                /* takes the next step */
  size_t nr;
  struct hook hook[];
};

/* The hooks of the exports and groups of a request, copied from the
 * configuration; NULL if there are none. */
extern struct hooks *hooks_new (struct daemon *d,
                                const struct create_params *params);

/* A set of nr hooks to be filled in, with the id or a new one (NULL).  NULL
 * with *failure if there is no id. */
extern struct hooks *hooks_alloc (struct daemon *d, size_t nr, const char *id);

/* Writes the record and runs before-freeze.  Hooks that are still running when
 * one has failed are stopped. */
extern void hooks_before (struct hooks *h, hooks_done done, void *opaque);

/* Runs after-thaw of all that were started, then removes the record.  result:
 * begun, failed or unknown. */
extern void hooks_after (struct hooks *h, const char *result, hooks_done done,
                         void *opaque);

/* What ran and how it went: an array of hook objects of the control protocol, a
 * new reference.  Of NULL, an empty one. */
extern struct json_object *hooks_json (const struct hooks *h);

/* Nothing is being run.  Harmless on NULL. */
extern void hooks_free (struct hooks *h);

/* The daemon ends: before-freeze fails wherever it is under way; after-thaw is
 * run all the same, and waited for. */
extern void hooks_end (struct daemon *d);

/* hooks_record.c: the record says what is to be run if we die.  0, or -1 with
 * *failure. */
extern int hooks_write_record (struct hooks *h, struct failure *failure);

/* At start: kills what is left of the hooks of a daemon that died, and runs
 * after-thaw. */
extern void hooks_recover (struct daemon *d);
extern bool hooks_are_recovering (const struct daemon *d);

#endif /* NBDFLEECE_HOOKS_H */
