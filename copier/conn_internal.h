/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What conn.c (life of connections) and conn_io.c (requests on them) share. */

#ifndef NBDFLEECE_CONN_INTERNAL_H
#define NBDFLEECE_CONN_INTERNAL_H

#include <libnbd.h>

#include "conn.h"

struct conn {
  struct conn_set *set;
  struct nbd_handle *nbd;
  ev_io watcher;
  int events;                   /* what the watcher waits for */
  bool touched;                 /* a call was made since the last check */
  bool going, gone;             /* the export was asked for; it was answered */
  int go_error;                 /* the answer */
  struct io *flight;            /* requests under way */
  unsigned nr_flight;
};

struct conn_set {
  struct loop_hook hook;        /* first */
  struct loop *loop;
  struct conn_params params;
  enum { CONN_DOWN, CONN_CONNECTING, CONN_UP, CONN_LOST } state;
  struct io *connecting;        /* whom to tell */
  ev_timer timer;
  struct conn conns[CONN_MAX];
  unsigned nr;
  struct conn_info info;
  struct message why;
  int err;
  bool final;
};

/* The errno value of libnbd's last error on this thread, never 0. */
extern int conn_nbd_errno (void);

/* Keeps libnbd's last error as the reason for what happens to the set. */
extern void conn_note_error (struct conn *c, const char *what);

/* Takes io off the connection's list. */
extern void conn_unlink (struct conn *c, struct io *io);

#endif /* NBDFLEECE_CONN_INTERNAL_H */
