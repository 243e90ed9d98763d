/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One export: its nbdkit, its disk's qemu-nbd if it needs one, its snapshots. */

#ifndef NBDFLEECE_EXPORT_H
#define NBDFLEECE_EXPORT_H

#include "checkpoint.h"
#include "daemon.h"
#include "filter_client.h"
#include "service.h"
#include "snapshot.h"

/* What is to become of it. */
enum export_intent {
  EXPORT_RUN,
  EXPORT_RESTART,               /* with another configuration; then RUN */
  EXPORT_REMOVE,                /* with its snapshots; then it is freed */
  EXPORT_END,                   /* the daemon ends; snapshots stay */
  EXPORT_LEAVE,                 /* the daemon ends; its processes go on */
};

struct export {
  TAILQ_ENTRY (export) entry;
  struct daemon *daemon;

  /* Set once. */
  char *name;
  char *dir;                    /* STATE/exports/NAME */
  char *socket, *qemu_socket;   /* for the guest; of qemu-nbd */
  char *control;                /* of the filter */
  char *uri;                    /* of socket */

  /* Part of daemon->config; NULL if the export is not configured (any
   * more). */
  const struct config_export *conf;
  char *scratch_dir;            /* where new scratches go */

  enum export_intent intent;
  bool other_disk;              /* than that of the snapshots, which have to
                                 * end before nbdkit is started for it */
  bool ever_up;                 /* it has worked since the daemon started */
  bool adopted;                 /* it ran before the daemon */
  struct service nbdkit, qemu;
  int listen_fd, qemu_fd;       /* listening sockets, or -1 */
  int control_fd;               /* of the filter's, if it cannot make it */

  /* What the filter said; of the nbdkit that runs now. */
  struct filter_client *client; /* or NULL */
  bool hello_known;
  struct wire_hello hello;

  TAILQ_HEAD (snapshot_list, snapshot) snapshots; /* oldest first */
  TAILQ_HEAD (checkpoint_list, checkpoint) checkpoints; /* oldest first, those
                                 * that are being created last */
  char *chain_unknown;          /* why none of them can be used, or NULL */
  bool merging, untracking;     /* merge.c works on them */
  ev_timer again;               /* next_step, a little later */
  ev_timer hang_up;             /* while nbdkit is to end and does not */
};

/* Adds an export to the daemon's list and starts or adopts its processes.
 * conf NULL: it is not configured; what is left of it is to be removed. */
extern struct export *export_new (struct daemon *d, const char *name,
                                  const struct config_export *conf);

/* RUN and works. */
extern bool export_is_up (const struct export *ex);

/* A connection to the filter of an export that is up, or NULL. */
extern struct filter_client *export_client (struct export *ex);

/* Why it is not up, for people. */
extern const char *export_reason (const struct export *ex);

/* Gives it another part of the configuration; restart says that its
 * processes have to be started anew. */
extern void export_configure (struct export *ex,
                              const struct config_export *conf, bool restart);

/* Ends its snapshots, its processes and then itself. */
extern void export_remove (struct export *ex);

/* Ends its processes; snapshots stay. */
extern void export_end (struct export *ex);

/* Leaves its processes alone from now on. */
extern void export_leave (struct export *ex);

/* True if nothing of it runs, or it is to be left alone. */
extern bool export_has_ended (const struct export *ex);

/* Does whatever can be done next; for snapshot.c, when one is gone. */
extern void export_next_step (struct export *ex);

/* Frees it; its processes go on. */
extern void export_free (struct export *ex);

extern struct export *export_find (const struct daemon *d, const char *name);

/* The disk on one line, for people. */
extern char *export_disk_text (const struct config_disk *disk);
extern const char *export_disk_kind (const struct config_disk *disk);

/* What a snapshot's map says about where the live disk is; the caller frees
 * it. */
extern char *export_live (const struct export *ex);

/* The URI of a server that may know the layers of the disk, or NULL; the
 * caller frees it. */
extern char *export_layers (const struct export *ex);

/* In export_filter.c.  A probe of nbdkit: it is up when the filter answers
 * HELLO. */
extern void export_probe_filter (struct service *nbdkit);
extern void export_disconnect (struct export *ex);

/* For an nbdkit that has been told to end and does not: has it hang up on its
 * clients, without waiting for the answer. */
extern void export_hang_up (struct export *ex);

/* Ends what the filter keeps and we know nothing of. */
extern void export_end_unknown (struct export *ex);

/* In export_argv.c: what to start for an export. */
extern int export_nbdkit_argv (const struct export *ex, struct strings *argv);
extern void export_confine (const struct export *ex, struct spawn *spawn);
extern int export_qemu_argv (const struct export *ex, struct strings *argv);

#endif /* NBDFLEECE_EXPORT_H */
