/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Sends requests to the daemon and takes its lines apart. */

/* Every line that comes is looked at as if it came from anybody: it must be
 * one JSON object of bounded length, with our id and exactly one of "result",
 * "event" and "error".  Whatever else comes, or nothing at all, is one line
 * on stderr and exit status 1.
 *
 * Only events may come late without limit; a reply to anything but job-wait
 * has REPLY_TIMEOUT, unless the caller knows better.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

#define REPLY_TIMEOUT (120 * 1000)      /* milliseconds */
#define RECONNECT_INTERVAL 250          /* milliseconds */

/* Returns 0, or -1 and errno. */
static int
try_connect (struct client *client)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int err;

  strcpy (addr.sun_path, client->cli->socket);
  client->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (client->fd == -1)
    return -1;
  if (connect (client->fd, (struct sockaddr *) &addr, sizeof addr) == 0)
    return 0;
  err = errno;
  close (client->fd);
  client->fd = -1;
  errno = err;
  return -1;
}

int
client_open (struct client *client, const struct cli *cli)
{
  const size_t max = sizeof ((struct sockaddr_un *) NULL)->sun_path - 1;

  *client = (struct client) { .cli = cli, .fd = -1, .signals = -1 };
  if (strlen (cli->socket) > max) {
    cli_fail (cli, "connect", "cannot connect to %s: the path is longer than "
              "%zu bytes", cli->socket, max);
    return -1;
  }
  if (try_connect (client) == 0)
    return 0;
  cli_fail (cli, "connect", "cannot connect to %s: %s%s", cli->socket,
            strerror (errno), errno == ENOENT || errno == ECONNREFUSED
            ? " (is nbdfleeced running?)" : "");
  return -1;
}

enum client_message
client_reopen (struct client *client, int timeout, int *signal)
{
  struct pollfd fds[1] = { { .fd = client->signals, .events = POLLIN } };
  struct signalfd_siginfo info;

  close (client->fd);
  client->fd = -1;
  client->used = 0;
  for (; timeout > 0; timeout -= RECONNECT_INTERVAL) {
    if (poll (fds, 1, RECONNECT_INTERVAL) > 0
        && read (client->signals, &info, sizeof info) == sizeof info) {
      *signal = info.ssi_signo;
      return CLIENT_SIGNAL;
    }
    if (try_connect (client) == 0)
      return CLIENT_RESULT;
  }
  return CLIENT_LOST;
}

void
client_close (struct client *client)
{
  if (client->fd != -1)
    close (client->fd);
  if (client->signals != -1)
    close (client->signals);
  free (client->buf);
  client->fd = client->signals = -1;
  client->buf = NULL;
  client->used = client->size = 0;
}

json_object *
client_request (const char *command)
{
  json_object *request = json_object_new_object ();

  json_object_object_add (request, "command",
                          json_object_new_string (command));
  return request;
}

int
client_send (struct client *client, json_object *request)
{
  const char *text;
  char *line = NULL;
  size_t sent = 0;
  int length;
  ssize_t r = 0;

  json_object_object_add (request, "id", json_object_new_int (++client->id));
  text = json_object_to_json_string_ext (request, JSON_C_TO_STRING_PLAIN);
  length = text ? asprintf (&line, "%s\n", text) : -1;
  if (length == -1) {
    line = NULL;
    errno = ENOMEM;
    r = -1;
  }
  while (r != -1 && sent < (size_t) length) {
    r = send (client->fd, line + sent, length - sent, MSG_NOSIGNAL);
    if (r == -1 && errno == EINTR)
      r = 0;
    else if (r > 0)
      sent += r;
  }
  free (line);
  json_object_put (request);
  if (r != -1)
    return 0;
  /* The daemon may have said why it closes ("busy"). */
  if (errno == EPIPE || errno == ECONNRESET)
    return 0;
  cli_fail (client->cli, "connection-lost", "cannot send to the daemon: %s",
            strerror (errno));
  return -1;
}

/* Appends what has come to the buffer.  Returns CLIENT_RESULT to go on; or
 * CLIENT_LOST, or CLIENT_FAILED after telling. */
static enum client_message
fill (struct client *client)
{
  const size_t size = client->size == 0 ? 65536 : 2 * client->size;
  ssize_t r;
  char *buf;

  if (client->used == client->size) {
    buf = client->size >= CLIENT_LINE_MAX ? NULL : realloc (client->buf, size);
    if (!buf) {
      cli_fail (client->cli, "protocol", "the daemon's reply is too long");
      return CLIENT_FAILED;
    }
    client->buf = buf;
    client->size = size;
  }
  r = recv (client->fd, client->buf + client->used,
            client->size - client->used, 0);
  if (r == -1 && errno == EINTR)
    return CLIENT_RESULT;
  if (r > 0) {
    client->used += r;
    return CLIENT_RESULT;
  }
  if (client->persistent)
    return CLIENT_LOST;
  cli_fail (client->cli, "connection-lost",
            "the daemon closed the connection %s%s%s",
            client->used > 0 ? "in the middle of a reply" : "without a reply",
            r == -1 ? ": " : "", r == -1 ? strerror (errno) : "");
  return CLIENT_FAILED;
}

/* The next whole line as JSON; NULL if it is none.  *length is its bytes with
 * the newline. */
static json_object *
parse_line (const char *line, size_t length)
{
  struct json_tokener *tok = json_tokener_new ();
  json_object *object = NULL;

  if (!tok)
    return NULL;
  json_tokener_set_flags (tok, JSON_TOKENER_STRICT);
  object = json_tokener_parse_ex (tok, line, length);
  if (object && json_tokener_get_parse_end (tok) != length) {
    json_object_put (object);
    object = NULL;
  }
  json_tokener_free (tok);
  if (object && !json_object_is_type (object, json_type_object)) {
    json_object_put (object);
    object = NULL;
  }
  return object;
}

static enum client_message
bad_reply (const struct client *client, const char *what)
{
  cli_fail (client->cli, "protocol", "the daemon's reply %s", what);
  return CLIENT_FAILED;
}

static enum client_message
tell_error (const struct client *client, json_object *error)
{
  json_object *code, *message;

  if (!json_object_object_get_ex (error, "code", &code)
      || !json_object_object_get_ex (error, "message", &message))
    return bad_reply (client, "is an error without code or message");
  cli_fail (client->cli, json_object_get_string (code), "%s",
            json_object_get_string (message));
  return CLIENT_FAILED;
}

/* What a line means.  The connection's own errors come without an id. */
static enum client_message
take_line (const struct client *client, json_object *line,
           json_object **object)
{
  json_object *id, *member;
  const bool has_id = json_object_object_get_ex (line, "id", &id);

  if (has_id && json_object_get_int (id) != client->id)
    return bad_reply (client, "is to something else");
  if (json_object_object_get_ex (line, "error", &member))
    return tell_error (client, member);
  if (!has_id)
    return bad_reply (client, "has no id");
  if (json_object_object_get_ex (line, "event", &member)
      && json_object_is_type (member, json_type_object)) {
    *object = json_object_get (member);
    return CLIENT_EVENT;
  }
  if (json_object_object_get_ex (line, "result", &member)
      && json_object_is_type (member, json_type_object)) {
    *object = json_object_get (member);
    return CLIENT_RESULT;
  }
  return bad_reply (client, "has neither result nor error");
}

/* The first line of the buffer, if there is a whole one. */
static bool
next_line (struct client *client, json_object **object,
           enum client_message *message)
{
  char *end = client->used > 0
    ? memchr (client->buf, '\n', client->used) : NULL;
  json_object *line;
  size_t length;

  if (!end)
    return false;
  length = end + 1 - client->buf;
  line = parse_line (client->buf, length - 1);
  client->used -= length;
  memmove (client->buf, end + 1, client->used);
  *message = line ? take_line (client, line, object)
    : bad_reply (client, "is no JSON object");
  json_object_put (line);
  return true;
}

enum client_message
client_receive (struct client *client, int timeout, json_object **object,
                int *signal)
{
  struct pollfd fds[2] = {
    { .fd = client->fd, .events = POLLIN },
    { .fd = client->signals, .events = POLLIN },
  };
  struct signalfd_siginfo info;
  enum client_message message;
  int r;

  *object = NULL;
  while (!next_line (client, object, &message)) {
    r = poll (fds, 2, timeout);
    if (r == -1 && errno != EINTR) {
      cli_fail (client->cli, "failed", "poll: %s", strerror (errno));
      return CLIENT_FAILED;
    }
    if (r == 0) {
      cli_fail (client->cli, "timeout", "no reply from the daemon within %d "
                "seconds", timeout / 1000);
      return CLIENT_FAILED;
    }
    if (r > 0 && fds[1].revents
        && read (client->signals, &info, sizeof info) == sizeof info) {
      *signal = info.ssi_signo;
      return CLIENT_SIGNAL;
    }
    if (r > 0 && fds[0].revents) {
      message = fill (client);
      if (message != CLIENT_RESULT)
        return message;
    }
  }
  return message;
}

json_object *
client_call_for (const struct cli *cli, json_object *request, int timeout)
{
  json_object *result = NULL;
  enum client_message m;
  struct client client;
  int signal;

  if (client_open (&client, cli) == -1) {
    json_object_put (request);
    return NULL;
  }
  if (client_send (&client, request) == 0) {
    m = client_receive (&client, timeout, &result, &signal);
    if (m == CLIENT_EVENT)
      bad_reply (&client, "is an event");
    if (m != CLIENT_RESULT) {
      json_object_put (result);
      result = NULL;
    }
  }
  client_close (&client);
  return result;
}

json_object *
client_call (const struct cli *cli, json_object *request)
{
  return client_call_for (cli, request, REPLY_TIMEOUT);
}
