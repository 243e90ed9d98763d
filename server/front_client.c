/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Asking the front what goes on. */

/* Who connects to the status socket is sent one document, and then the end.
 * The front reads what strangers send, so it is not believed blindly: what is
 * too long, too late or no JSON is no answer.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "front_client.h"
#include "util.h"

#define ANSWER_MAX (UINT64_C (16) << 20)
#define ANSWER_TIME 2.0         /* seconds */
#define CHUNK 65536

struct front_ask {
  LIST_ENTRY (front_ask) entry;
  struct ev_loop *loop;
  front_answered done;
  void *opaque;
  ev_io io;
  ev_timer limit;
  int fd;                       /* -1: it could not be connected */
  char *text;
  size_t len;
};

static void
ask_free (struct front_ask *a)
{
  LIST_REMOVE (a, entry);
  ev_timer_stop (a->loop, &a->limit);
  if (a->fd != -1) {
    ev_io_stop (a->loop, &a->io);
    close (a->fd);
  }
  free (a->text);
  free (a);
}

static void
answer (struct front_ask *a, struct json_object *status)
{
  front_answered done = a->done;
  void *opaque = a->opaque;

  ask_free (a);
  done (opaque, status);
  json_object_put (status);
}

static void
no_answer (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  answer (w->data, NULL);
}

static void
read_some (struct ev_loop *loop, ev_io *io, int revents)
{
  struct front_ask *a = io->data;
  struct json_object *status;
  ssize_t n;

  (void) loop;
  (void) revents;
  a->text = xrealloc (a->text, a->len + CHUNK + 1, 1);
  n = recv (a->fd, a->text + a->len, CHUNK, MSG_DONTWAIT);
  if (n == -1 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n > 0 && a->len + n <= ANSWER_MAX) {
    a->len += n;
    return;
  }
  a->text[a->len] = '\0';
  status = n == 0 ? json_tokener_parse (a->text) : NULL;
  if (status && !json_object_is_type (status, json_type_object)) {
    json_object_put (status);
    status = NULL;
  }
  answer (a, status);
}

void
front_ask (struct ev_loop *loop, struct front_asks *asks, const char *path,
           front_answered done, void *opaque)
{
  struct front_ask *a = xcalloc (1, sizeof *a);

  a->loop = loop;
  a->done = done;
  a->opaque = opaque;
  a->fd = unix_connect (path, SOCK_STREAM);
  LIST_INSERT_HEAD (asks, a, entry);
  ev_timer_init (&a->limit, no_answer, a->fd == -1 ? 0 : ANSWER_TIME, 0);
  a->limit.data = a;
  ev_timer_start (loop, &a->limit);
  if (a->fd == -1)
    return;
  ev_io_init (&a->io, read_some, a->fd, EV_READ);
  a->io.data = a;
  ev_io_start (loop, &a->io);
}

void
front_asks_forget (struct front_asks *asks)
{
  while (!LIST_EMPTY (asks))
    ask_free (LIST_FIRST (asks));
}
