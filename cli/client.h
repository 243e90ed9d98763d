/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The daemon's control socket, from the client's side. */

#ifndef NBDFLEECE_CLIENT_H
#define NBDFLEECE_CLIENT_H

#include <stddef.h>

#include "cli.h"

/* The daemon's word is its replies: how long, at most. */
#define CLIENT_LINE_MAX (64 * 1024 * 1024)

struct client {
  const struct cli *cli;
  int fd;
  int signals;                  /* signalfd to watch while waiting, or -1 */
  bool persistent;              /* a lost connection is no failure yet */
  int id;                       /* of the request that was sent last */
  char *buf;                    /* what was received and not yet looked at */
  size_t used, size;
};

/* What client_receive got. */
enum client_message {
  CLIENT_RESULT,                /* the object in "result" */
  CLIENT_EVENT,                 /* the object in "event" */
  CLIENT_SIGNAL,                /* a signal; its number */
  CLIENT_LOST,                  /* the connection; only if persistent */
  CLIENT_FAILED,                /* no connection or an error; has been told */
};

/* Connects.  Returns 0, or -1 after telling why not. */
extern int client_open (struct client *client, const struct cli *cli);

/* Connects again after CLIENT_LOST, trying for timeout milliseconds.  Returns
 * CLIENT_RESULT, or CLIENT_SIGNAL with its number, or CLIENT_LOST. */
extern enum client_message client_reopen (struct client *client, int timeout,
                                          int *signal);

/* Harmless on a client whose opening failed. */
extern void client_close (struct client *client);

/* Sends a request, {"command": ...}, which it adds an id to and then puts.
 * Returns 0, or -1 after telling why not. */
extern int client_send (struct client *client, json_object *request);

/* Waits for the next message about the last request, timeout milliseconds
 * (-1: for ever).  *object is the caller's to put. */
extern enum client_message client_receive (struct client *client, int timeout,
                                           json_object **object, int *signal);

/* Connects, sends the request, which it puts, and waits for its result.
 * Returns that, the caller's to put, or NULL after telling why not. */
extern json_object *client_call (const struct cli *cli, json_object *request);

/* The same for what may take longer than usual, milliseconds. */
extern json_object *client_call_for (const struct cli *cli,
                                     json_object *request, int timeout);

/* {"command": name}; NULL never (out of memory ends the program). */
extern json_object *client_request (const char *command);

#endif /* NBDFLEECE_CLIENT_H */
