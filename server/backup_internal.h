/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The backup endpoint, for its own files. */

#ifndef NBDFLEECE_BACKUP_INTERNAL_H
#define NBDFLEECE_BACKUP_INTERNAL_H

#include "backup.h"
#include "backup_options.h"
#include "backup_sockets.h"
#include "front_client.h"
#include "job_commands.h"
#include "service.h"
#include "status.h"

enum backup_effect {            /* of the options that have b->id */
  EFFECT_UNKNOWN,               /* the front may have others */
  EFFECT_SIGNALLED,             /* it was told to read them */
  EFFECT_KNOWN,                 /* it has them */
  EFFECT_REFUSED,               /* it keeps those before: b->refusal */
};

struct backup_waiter {
  LIST_ENTRY (backup_waiter) entry;
  void (*done) (void *opaque, const char *refusal);
  void *opaque;
};

struct backup {
  /* Set once. */
  struct daemon *daemon;
  char *socket;                 /* of the front */
  char *data_socket;            /* of the snapshot server */
  char *status_path, *options_path; /* of the front */

  enum { BACKUP_RUN, BACKUP_RESTART, BACKUP_END, BACKUP_LEAVE } intent;
  struct service data, front;
  struct strings scratches;     /* directories that the front may write in */
  int data_fd;                  /* listening at data_socket, or -1 */
  int status_fd;                /* at status_path, if the front cannot, or -1 */
  struct backup_sockets sockets; /* listening for the front */
  bool ever_up, adopted;
  ev_timer again;               /* the next step */

  char *id;                     /* of the options that are wanted */
  unsigned nr_options;          /* how often they changed */
  enum backup_effect effect;
  char refusal[512];            /* or "" */
  int64_t reloads;              /* of the front, before it was signalled */
  bool asked;                   /* it has not answered yet */
  ev_timer ask, effect_limit;
  struct front_asks asks;
  LIST_HEAD (backup_waiters, backup_waiter) waiters;
};

#endif /* NBDFLEECE_BACKUP_INTERNAL_H */
