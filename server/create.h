/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A request that begins snapshots, for the files that carry it out. */

#ifndef NBDFLEECE_CREATE_H
#define NBDFLEECE_CREATE_H

#include "export.h"
#include "hooks.h"

struct part {
  struct create *create;
  struct export *export;
  char *name;                   /* of the snapshot */
  char *since;                  /* or NULL */
  struct snapshot *snapshot;
  struct checkpoint *checkpoint; /* or NULL */
  struct filter_client *client;
  int fds[WIRE_FILES_MAX];      /* to go along with BEGIN */
  unsigned nr_fds;
  bool begin_sent;
  uint64_t closed_at_ns, closed_ns; /* what BEGIN said of the gate */
};

struct create {
  TAILQ_ENTRY (create) entry;
  struct daemon *daemon;
  char *checkpoint;             /* or NULL */
  bool started, keep_record, rearm, release;
  snapshots_created done;
  void *opaque;
  unsigned deadline_ms;
  struct hooks *hooks;          /* or NULL */
  bool hooks_begun, hooks_done; /* before-freeze; after-thaw */
  char *record;                 /* STATE/begin-UUID, or NULL */
  struct failure failure;       /* code is NULL as long as all is well */
  ev_timer later;               /* reports a failure, now or at last */
  bool reported;
  size_t nr, waiting;           /* parts; answers that are still to come */
  struct part parts[];
};

/* create_files.c: takes the names and makes the files of one part.  0, or -1
 * with the failure set and all that was made in the part. */
extern int create_files (struct create *c, struct part *p);

/* The record for a daemon that finds the request half done, if it needs one.
 * 0, or -1 with the failure set. */
extern int create_write_record (struct create *c);

/* create_report.c: nanoseconds from the first gate that closed until the last
 * one opened; what is told of a request that was carried out. */
extern uint64_t create_gates_ns (const struct create *c);
extern struct json_object *create_report (const struct create *c);

#endif /* NBDFLEECE_CREATE_H */
