/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The control socket: clients, lines, requests. */

#ifndef NBDFLEECE_CONTROL_H
#define NBDFLEECE_CONTROL_H

#include <json-c/json.h>

#include "daemon.h"

/* docs/control-protocol.md says these to users. */
#define CONTROL_LINE_MAX 65536
#define CONTROL_CLIENTS_MAX 64
#define CONTROL_PROTOCOL 1

struct client;

/* One request, from its line until it is answered with request_result or
 * request_error, each of which frees it.  Its client may go away before. */
struct request {
  struct daemon *daemon;
  struct client *client;        /* NULL: gone */
  struct json_object *id;       /* or NULL */

  /* For whoever answers later; abandoned, if set, is called when the client
   * goes away, and has to answer the request all the same. */
  void (*abandoned) (struct request *request);
  void *opaque;
};

/* Both take over the object. */
extern void request_result (struct request *request,
                            struct json_object *result);

/* An event before the answer.  False, and nothing sent, if the client has not
 * read what it got before. */
extern bool request_event (struct request *request,
                           struct json_object *event);

extern void request_error (struct request *request, const char *code,
                           const char *format, ...)
  __attribute__ ((format (printf, 3, 4)));
extern void request_failed (struct request *request,
                            const struct failure *failure);

/* Listens at RUN/control.sock.  NULL with a message in *failure. */
extern struct control *control_new (struct daemon *d,
                                    struct failure *failure);

/* Drops all clients and removes the socket.  Harmless on NULL. */
extern void control_free (struct control *c);

/* In commands.c: carries out one request.  args is an object with a member
 * "command", and stays the caller's. */
extern void command_execute (struct request *request,
                             struct json_object *args);

#endif /* NBDFLEECE_CONTROL_H */
