/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Asking the front what goes on. */

#ifndef NBDFLEECE_FRONT_CLIENT_H
#define NBDFLEECE_FRONT_CLIENT_H

#include <sys/queue.h>

#include <ev.h>
#include <json-c/json.h>

/* Questions that have not been answered. */
LIST_HEAD (front_asks, front_ask);

/* The document, which stays ours; or NULL if there was no answer in time. */
typedef void (*front_answered) (void *opaque, struct json_object *status);

/* Asks at the front's status socket.  done is called once, never from
 * within. */
extern void front_ask (struct ev_loop *loop, struct front_asks *asks,
                       const char *path, front_answered done, void *opaque);

/* Forgets them all; nobody is called any more. */
extern void front_asks_forget (struct front_asks *asks);

#endif /* NBDFLEECE_FRONT_CLIENT_H */
