/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What an export's filter is asked while it comes up. */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "export.h"

#define ANSWER_TIMEOUT 10.0     /* seconds */
/* For the first answer.  The socket is there before the process is, which takes
 * up all that it finds first; if that ends, so does the connection. */
#define FIRST_TIMEOUT 60.0

struct filter_client *
export_client (struct export *ex)
{
  struct filter_client *lost = ex->client;

  if (filter_is_connected (ex->client))
    return ex->client;
  ex->client = NULL;
  filter_close (lost);
  ex->client = filter_connect (ex->daemon->loop, ex->control);
  return ex->client;
}

static void
hello_answered (void *opaque, int error, const struct wire_reply *reply,
                int fd)
{
  struct export *ex = opaque;

  if (error == 0 && strcmp (reply->u.hello.export_name, ex->name) == 0) {
    ex->hello = reply->u.hello;
    ex->hello_known = true;
    if (ex->listen_fd == -1) {
      ex->listen_fd = fd;
      fd = -1;
    }
    service_ready (&ex->nbdkit);
  }
  else if (ex->client && ex->nbdkit.state == SERVICE_STARTING) {
    struct filter_client *client = ex->client;

    if (error != ECONNRESET)
      log_warning (&ex->daemon->log, "%s: the filter at %s says: %s",
                   ex->name, ex->control,
                   error ? strerror (error) : "the name of another export");
    ex->client = NULL;
    filter_close (client);
  }
  if (fd != -1)
    close (fd);
}

void
export_probe_filter (struct service *s)
{
  struct export *ex = s->owner;
  struct wire_request request;

  if (ex->client)
    return;                     /* it has been asked */
  ex->client = filter_connect (ex->daemon->loop, ex->control);
  if (!ex->client)
    return;
  wire_request_init (&request, WIRE_HELLO, 0);
  filter_call (ex->client, &request, NULL, 0, FIRST_TIMEOUT, hello_answered,
               ex);
}

void
export_disconnect (struct export *ex)
{
  struct filter_client *client = ex->client;

  ex->client = NULL;
  ex->hello_known = false;
  filter_close (client);
}

static void
ignore_answer (void *opaque, int error, const struct wire_reply *reply, int fd)
{
  (void) opaque;
  (void) error;
  (void) reply;
  if (fd != -1)
    close (fd);
}

void
export_hang_up (struct export *ex)
{
  struct filter_client *client = export_client (ex);
  struct wire_request request;

  if (!client)
    return;
  wire_request_init (&request, WIRE_HANG_UP, 0);
  filter_call (client, &request, NULL, 0, ANSWER_TIMEOUT, ignore_answer, NULL);
}

static bool
is_known (const struct export *ex, const uint8_t uuid[16])
{
  const struct snapshot *s;

  TAILQ_FOREACH (s, &ex->snapshots, entry)
    if (s->map.fixed && memcmp (s->map.fixed->uuid, uuid, 16) == 0)
      return true;
  return false;
}

/* A begin that an earlier daemon had sent just before it died may have come
 * true after we looked: a snapshot whose files are gone. */
static void
list_answered (void *opaque, int error, const struct wire_reply *reply,
               int fd)
{
  struct export *ex = opaque;
  struct wire_request request;
  uint32_t i;

  if (fd != -1)
    close (fd);
  for (i = 0; error == 0 && i < reply->u.list.nr
       && i < WIRE_SNAPSHOTS_MAX; i++) {
    if (is_known (ex, reply->u.list.uuids[i]))
      continue;
    log_warning (&ex->daemon->log, "%s: ending a snapshot that nobody knows",
                 ex->name);
    wire_request_init (&request, WIRE_END, 0);
    memcpy (request.uuid, reply->u.list.uuids[i], sizeof request.uuid);
    filter_call (ex->client, &request, NULL, 0, 0, ignore_answer, NULL);
  }
}

void
export_end_unknown (struct export *ex)
{
  struct wire_request request;

  wire_request_init (&request, WIRE_LIST, 0);
  filter_call (ex->client, &request, NULL, 0, ANSWER_TIMEOUT, list_answered,
               ex);
}
