/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The event loop's side of clients, listening sockets and the status. */

#ifndef NBDFLEECE_LOOP_H
#define NBDFLEECE_LOOP_H

#include <ev.h>

#include "client.h"
#include "front.h"
#include "tls.h"

/* Sets front->now. */
extern void loop_now (struct front *front);

/* loop.c: runs c from now on, and frees it when it is closed. */
extern int loop_add (struct ev_loop *loop, struct client *c);

/* Goes through all clients: time-outs, snapshots that have ended. */
extern void loop_tick (struct ev_loop *loop, struct front *front);

/* Every client ends in order. */
extern void loop_shut_down (struct ev_loop *loop, struct front *front);

/* Every client ends now; some may still have to take leave of the backend. */
extern void loop_end_all (struct ev_loop *loop, struct front *front);

/* Frees all clients as they are. */
extern void loop_drop_all (struct ev_loop *loop, struct front *front);

/* listen.c: the sockets clients come through. */
struct listeners;

/* Takes over nr_fds descriptors of listening sockets, from first_fd on. */
extern struct listeners *listeners_new (struct ev_loop *loop,
                                        struct front *front,
                                        int first_fd, unsigned nr_fds);

/* Makes them what settings say: opens those that are new, with the inherited
 * sockets where they fit, reads all certificates again, closes those that are
 * gone.  Or changes nothing: -1 with a message. */
extern int listeners_configure (struct listeners *ls,
                                const struct settings *settings,
                                char *why, size_t size);

/* Closes them all. */
extern void listeners_free (struct listeners *ls);

/* report.c: the status socket. */
struct report;

/* fd: a socket that listens at path already, or -1.  NULL and errno. */
extern struct report *report_new (struct ev_loop *loop, struct front *front,
                                  const char *path, int fd);
/* Harmless on NULL. */
extern void report_free (struct report *r);

/* A socket of mode 0600 listening at path; one that nobody listens at any more
 * is replaced.  -1 and errno. */
extern int unix_socket (const char *path);

#endif /* NBDFLEECE_LOOP_H */
