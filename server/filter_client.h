/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Talking to the filter in an export's nbdkit without ever waiting for it. */

#ifndef NBDFLEECE_FILTER_CLIENT_H
#define NBDFLEECE_FILTER_CLIENT_H

#include <stdbool.h>

#include <ev.h>

#include "wire.h"

struct filter_client;

/* The answer to a call.  error: 0, what the filter says, ETIMEDOUT, or
 * ECONNRESET if the connection is gone.  reply is NULL unless error is 0.  fd
 * came with the reply and is the callee's then, or -1.  Called once, unless
 * the client is abandoned before, and never from within filter_call. */
typedef void (*filter_reply) (void *opaque, int error,
                              const struct wire_reply *reply, int fd);

/* Connects to RUN/EXPORT.ctl.  NULL and errno: ENOENT or ECONNREFUSED if
 * nobody is there (yet), EAGAIN if it is busy. */
extern struct filter_client *filter_connect (struct ev_loop *loop,
                                             const char *path);

/* Queues a request; descriptors in fds stay the caller's.  timeout in
 * seconds, 0: none. */
extern void filter_call (struct filter_client *c,
                         const struct wire_request *request,
                         const int *fds, unsigned nr_fds, double timeout,
                         filter_reply reply, void *opaque);

/* False once the connection is lost or a call has timed out: there will be
 * only ECONNRESET from it. */
extern bool filter_is_connected (const struct filter_client *c);

/* Ends the connection.  First all calls that wait are answered with
 * ECONNRESET; filter_abandon forgets them instead.  Both are harmless on NULL
 * and from within a filter_reply. */
extern void filter_close (struct filter_client *c);
extern void filter_abandon (struct filter_client *c);

#endif /* NBDFLEECE_FILTER_CLIENT_H */
