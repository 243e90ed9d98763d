/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Reading requests from many clients and writing replies to them. */

/* A client costs one buffer for input, of the size of the longest line, and
 * one for output, which holds at most a reply and an event: the next request
 * is not looked at before the reply to the last has been taken.  So a client
 * that sends and never reads comes to rest by itself.
 *
 * Input is read while a request is being carried out, as far as the buffer
 * goes, to see that the client has gone away.  One that has only shut down
 * its sending side still gets its replies.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"

#define JSON_DEPTH 16
#define ID_LENGTH_MAX 64
#define ACCEPT_PAUSE 0.5        /* seconds */

struct client {
  TAILQ_ENTRY (client) entry;
  struct control *control;
  int fd;
  ev_io readable, writable;
  char *in, *out;               /* in: CONTROL_LINE_MAX bytes */
  size_t in_length, out_length, out_sent;
  struct request *request;      /* being carried out, or NULL */
  bool ended;                   /* it will send no more */
  bool closing;                 /* close when all is sent */
};

struct control {
  struct daemon *daemon;
  int fd;
  char *path;
  ev_io acceptable;
  ev_timer pause;               /* no descriptors left: accept a little later */
  TAILQ_HEAD (, client) clients;
  unsigned nr;
};

static void serve (struct client *cl);

static void
drop_client (struct client *cl)
{
  struct control *c = cl->control;
  struct request *request = cl->request;

  if (request)
    request->client = NULL;
  ev_io_stop (c->daemon->loop, &cl->readable);
  ev_io_stop (c->daemon->loop, &cl->writable);
  close (cl->fd);
  TAILQ_REMOVE (&c->clients, cl, entry);
  c->nr--;
  free (cl->in);
  free (cl->out);
  free (cl);
  if (request && request->abandoned)
    request->abandoned (request);
}

/* Sends what there is.  False if the client is gone. */
static bool
flush_out (struct client *cl)
{
  struct ev_loop *loop = cl->control->daemon->loop;
  ssize_t r;

  while (cl->out_sent < cl->out_length) {
    r = send (cl->fd, cl->out + cl->out_sent, cl->out_length - cl->out_sent,
              MSG_NOSIGNAL | MSG_DONTWAIT);
    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1 && errno == EAGAIN) {
      ev_io_start (loop, &cl->writable);
      return true;
    }
    if (r == -1) {
      drop_client (cl);
      return false;
    }
    cl->out_sent += r;
  }
  ev_io_stop (loop, &cl->writable);
  cl->out_length = cl->out_sent = 0;
  if (cl->closing) {
    drop_client (cl);
    return false;
  }
  return true;
}

/* Queues one line: an object with one member, and the id.  Takes over
 * value. */
static void
queue_line (struct client *cl, struct json_object *id, const char *key,
            struct json_object *value)
{
  struct json_object *line = json_object_new_object ();
  const char *text;
  size_t length;

  if (id)
    json_object_object_add (line, "id", json_object_get (id));
  json_object_object_add (line, key, value);
  text = json_object_to_json_string_length (line, JSON_C_TO_STRING_PLAIN
                                            | JSON_C_TO_STRING_NOSLASHESCAPE,
                                            &length);
  cl->out = xrealloc (cl->out, cl->out_length + length + 1, 1);
  memcpy (cl->out + cl->out_length, text, length);
  cl->out[cl->out_length + length] = '\n';
  cl->out_length += length + 1;
  json_object_put (line);
}

static struct json_object *
error_object (const char *code, const char *message)
{
  struct json_object *error = json_object_new_object ();

  json_object_object_add (error, "code", json_object_new_string (code));
  json_object_object_add (error, "message", json_object_new_string (message));
  return error;
}

static void
answer (struct request *request, const char *key, struct json_object *value)
{
  struct client *cl = request->client;

  if (cl) {
    queue_line (cl, request->id, key, value);
    cl->request = NULL;
  }
  else
    json_object_put (value);
  json_object_put (request->id);
  free (request);
  if (cl && flush_out (cl))
    /* The next line is for the loop to find: `serve' may be our caller. */
    ev_feed_event (cl->control->daemon->loop, &cl->readable, EV_READ);
}

void
request_result (struct request *request, struct json_object *result)
{
  answer (request, "result", result);
}

void
request_error (struct request *request, const char *code,
               const char *format, ...)
{
  char message[512];
  va_list args;

  va_start (args, format);
  vsnprintf (message, sizeof message, format, args);
  va_end (args);
  answer (request, "error", error_object (code, message));
}

void
request_failed (struct request *request, const struct failure *failure)
{
  request_error (request, failure->code, "%s", failure->message);
}

bool
request_event (struct request *request, struct json_object *event)
{
  struct client *cl = request->client;

  if (!cl || cl->out_length > 0) {
    json_object_put (event);
    return false;
  }
  queue_line (cl, request->id, "event", event);
  flush_out (cl);
  return true;
}

static bool
id_ok (struct json_object *id)
{
  return !id || json_object_is_type (id, json_type_int)
    || (json_object_is_type (id, json_type_string)
        && json_object_get_string_len (id) <= ID_LENGTH_MAX);
}

/* The object in a line, or NULL. */
static struct json_object *
parse (const char *line, size_t length)
{
  struct json_tokener *tok = json_tokener_new_ex (JSON_DEPTH);
  struct json_object *o = NULL;

  if (!tok)
    return NULL;
  json_tokener_set_flags (tok, JSON_TOKENER_STRICT
                          | JSON_TOKENER_VALIDATE_UTF8);
  if (!memchr (line, '\0', length))
    o = json_tokener_parse_ex (tok, line, length);
  if (o && (json_tokener_get_parse_end (tok) != length
            || !json_object_is_type (o, json_type_object))) {
    json_object_put (o);
    o = NULL;
  }
  json_tokener_free (tok);
  return o;
}

static void
take_line (struct client *cl, const char *line, size_t length)
{
  struct json_object *args = parse (line, length), *id = NULL, *command = NULL;
  struct request *request = xcalloc (1, sizeof *request);

  request->daemon = cl->control->daemon;
  request->client = cl;
  cl->request = request;
  if (!args) {
    request_error (request, "bad-request", "not a JSON object on one line");
    return;
  }
  json_object_object_get_ex (args, "id", &id);
  if (id_ok (id))
    request->id = json_object_get (id);
  if (!id_ok (id))
    request_error (request, "bad-request", "id: expected an integer or a "
                   "string of at most %d bytes", ID_LENGTH_MAX);
  else if (!json_object_object_get_ex (args, "command", &command)
           || !json_object_is_type (command, json_type_string))
    request_error (request, "bad-request", "command: expected a string");
  else
    command_execute (request, args);
  json_object_put (args);
}

/* Takes the next line if it is its turn.  The client may be gone after. */
static void
serve (struct client *cl)
{
  struct ev_loop *loop = cl->control->daemon->loop;
  char *end, *line;
  size_t length;

  if (cl->request || cl->out_length > 0 || cl->closing)
    return;
  end = memchr (cl->in, '\n', cl->in_length);
  if (end) {
    length = end - cl->in;
    line = xcalloc (length + 1, 1);
    memcpy (line, cl->in, length);
    cl->in_length -= length + 1;
    memmove (cl->in, end + 1, cl->in_length);
    if (!cl->ended)
      ev_io_start (loop, &cl->readable);
    take_line (cl, line, length);
    free (line);
  }
  else if (cl->in_length == CONTROL_LINE_MAX) {
    cl->closing = true;
    queue_line (cl, NULL, "error", error_object ("too-large",
                "a line may have 65536 bytes"));
    flush_out (cl);
  }
  else if (cl->ended)
    drop_client (cl);
}

/* True if nobody is there to read replies either. */
static bool
has_hung_up (const struct client *cl)
{
  struct pollfd p = { .fd = cl->fd };

  return poll (&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static void
client_readable (struct ev_loop *loop, ev_io *w, int revents)
{
  struct client *cl = w->data;
  ssize_t r = -1;

  (void) revents;
  errno = EAGAIN;
  if (!cl->ended && cl->in_length < CONTROL_LINE_MAX)
    r = recv (cl->fd, cl->in + cl->in_length,
              CONTROL_LINE_MAX - cl->in_length, MSG_DONTWAIT);
  if (r > 0)
    cl->in_length += r;
  else if ((r == -1 && errno != EAGAIN && errno != EINTR)
           || (r == 0 && has_hung_up (cl) && cl->in_length == 0)) {
    drop_client (cl);
    return;
  }
  else if (r == 0)
    cl->ended = true;
  if (cl->ended || cl->in_length == CONTROL_LINE_MAX)
    ev_io_stop (loop, &cl->readable);
  serve (cl);
}

static void
client_writable (struct ev_loop *loop, ev_io *w, int revents)
{
  struct client *cl = w->data;

  (void) loop;
  (void) revents;
  if (flush_out (cl) && cl->out_length == 0)
    serve (cl);
}

static void
add_client (struct control *c, int fd)
{
  struct client *cl = xcalloc (1, sizeof *cl);

  cl->control = c;
  cl->fd = fd;
  cl->in = xcalloc (CONTROL_LINE_MAX, 1);
  ev_io_init (&cl->readable, client_readable, fd, EV_READ);
  ev_io_init (&cl->writable, client_writable, fd, EV_WRITE);
  cl->readable.data = cl->writable.data = cl;
  TAILQ_INSERT_TAIL (&c->clients, cl, entry);
  c->nr++;
  ev_io_start (c->daemon->loop, &cl->readable);
}

/* The socket's mode says so already; this is the second lock. */
static bool
may_connect (int fd)
{
  struct ucred cred;
  socklen_t length = sizeof cred;

  return getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) == 0
    && (cred.uid == 0 || cred.uid == geteuid ());
}

static void
refuse (const struct control *c, int fd, const char *line)
{
  if (send (fd, line, strlen (line), MSG_NOSIGNAL) == -1)
    log_debug (&c->daemon->log, "control: %m");
  close (fd);
}

static void
acceptable (struct ev_loop *loop, ev_io *w, int revents)
{
  static const char busy[] = "{\"error\":{\"code\":\"busy\",\"message\":"
    "\"too many clients\"}}\n";
  static const char forbidden[] = "{\"error\":{\"code\":\"forbidden\","
    "\"message\":\"only root and the daemon's user may connect\"}}\n";
  struct control *c = w->data;
  int fd = accept4 (c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

  (void) revents;
  if (fd == -1) {
    if (errno != EAGAIN && errno != EINTR) {
      ev_io_stop (loop, &c->acceptable);
      ev_timer_start (loop, &c->pause);
    }
    return;
  }
  if (!may_connect (fd))
    refuse (c, fd, forbidden);
  else if (c->nr >= CONTROL_CLIENTS_MAX)
    refuse (c, fd, busy);
  else
    add_client (c, fd);
}

static void
accept_again (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct control *c = w->data;

  (void) revents;
  ev_timer_set (&c->pause, ACCEPT_PAUSE, 0);
  ev_io_start (loop, &c->acceptable);
}

struct control *
control_new (struct daemon *d, struct failure *failure)
{
  struct control *c = xcalloc (1, sizeof *c);

  c->daemon = d;
  c->path = xasprintf ("%s/control.sock", d->config->run_dir);
  TAILQ_INIT (&c->clients);
  c->fd = unix_listen (c->path);
  if (c->fd == -1) {
    failure_set (failure, "failed", "%s: %s", c->path, strerror (errno));
    free (c->path);
    free (c);
    return NULL;
  }
  fcntl (c->fd, F_SETFL, O_NONBLOCK);
  ev_timer_init (&c->pause, accept_again, ACCEPT_PAUSE, 0);
  c->pause.data = c;
  ev_io_init (&c->acceptable, acceptable, c->fd, EV_READ);
  c->acceptable.data = c;
  ev_io_start (d->loop, &c->acceptable);
  return c;
}

void
control_free (struct control *c)
{
  if (!c)
    return;
  while (!TAILQ_EMPTY (&c->clients))
    drop_client (TAILQ_FIRST (&c->clients));
  ev_io_stop (c->daemon->loop, &c->acceptable);
  ev_timer_stop (c->daemon->loop, &c->pause);
  close (c->fd);
  remove_file (c->path);
  free (c->path);
  free (c);
}
