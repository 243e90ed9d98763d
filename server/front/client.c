/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One client: its states, and what moves it from one to the next. */

/*            flags                GO, EXPORT_NAME            the backend is up
 *   FLAGS ─────────▶ OPTIONS ───────────────────▶ CHOSEN ─────────▶ REQUESTS
 *                     │ ▲ │   ◀──────────────────                     │
 *            STARTTLS │ │ │    it cannot be had                DISC,   │
 *                     ▼ │ │ ABORT                              the end │
 *                     TLS └──────────▶ FLUSHING ◀──────── DRAINING ◀───┘
 *                                         │       all is
 *                                         ▼      answered
 *   any, on a breach of the protocol ▶ LEAVING ─────────▶ CLOSED
 *
 * The machine knows nothing of event loops.  client_run moves bytes from one
 * channel to another as long as that goes without waiting, and then says in
 * c->wants what it waits for; whoever runs it (loop.c, or a test with bytes in
 * memory) calls again when that is there.  A turn is bounded, so that clients
 * share the process evenly.
 *
 * LEAVING.  The client's socket is closed, and what the backend still has to
 * say is read and thrown away, up to its end, however long that takes.  A
 * backend that is cut off while several of its threads reply may not survive
 * it: when one of them fails to send, nbdkit 1.32 closes the connection under
 * the others, which fail an assertion, and with it goes every other client's
 * connection.
 *
 * Back-pressure.  Nothing is read from the client while its last option is not
 * answered and sent, or all slots are taken; nothing is read from the backend
 * while the client has not taken what came before.  So a client that does not
 * read costs its buffers (client.h) and nothing that grows.
 *
 * An error of the client's, of the backend's or of memory ends this client
 * and nothing else.
 */

#include <config.h>

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "client.h"
#include "nbd.h"
#include "status.h"
#include "tls.h"

/* How long a client of a snapshot that has ended may take to ask for something
 * and get the error; seconds. */
#define ENDED_GRACE 5.0

#define BIT(state) (1u << (state))

static const struct {
  const char *name;
  unsigned may_become;
} states[] = {
  [CLIENT_FLAGS] = { "flags", BIT (CLIENT_OPTIONS) | BIT (CLIENT_CLOSED) },
  [CLIENT_OPTIONS] = { "options", BIT (CLIENT_TLS) | BIT (CLIENT_CHOSEN)
                       | BIT (CLIENT_FLUSHING) | BIT (CLIENT_CLOSED) },
  [CLIENT_TLS] = { "tls", BIT (CLIENT_OPTIONS) | BIT (CLIENT_CLOSED) },
  [CLIENT_CHOSEN] = { "chosen", BIT (CLIENT_OPTIONS) | BIT (CLIENT_REQUESTS)
                      | BIT (CLIENT_LEAVING) | BIT (CLIENT_CLOSED) },
  [CLIENT_REQUESTS] = { "requests", BIT (CLIENT_DRAINING)
                        | BIT (CLIENT_LEAVING) | BIT (CLIENT_CLOSED) },
  [CLIENT_DRAINING] = { "draining", BIT (CLIENT_FLUSHING)
                        | BIT (CLIENT_LEAVING) | BIT (CLIENT_CLOSED) },
  [CLIENT_FLUSHING] = { "flushing", BIT (CLIENT_LEAVING)
                        | BIT (CLIENT_CLOSED) },
  [CLIENT_LEAVING] = { "leaving", BIT (CLIENT_CLOSED) },
  [CLIENT_CLOSED] = { "closed", 0 },
};

const char *
client_state_name (enum client_state state)
{
  return states[state].name;
}

void
client_become (struct client *c, enum client_state state)
{
  if (!(states[c->state].may_become & BIT (state)))
    abort ();
  if (c->front->settings->verbose > 1)
    front_log (c->front, LOG_DEBUG, "client %llu: %s -> %s",
               (unsigned long long) c->id, states[c->state].name,
               states[state].name);
  c->state = state;
}

void
client_fail (struct client *c, const char *fmt, ...)
{
  va_list ap;

  if (client_is_over (c))
    return;
  va_start (ap, fmt);
  vsnprintf (c->why, sizeof c->why, fmt, ap);
  va_end (ap);
  client_end (c);
}

void
client_end (struct client *c)
{
  if (c->pull)
    pull_leave (c->pull, c);
  if (c->state == CLIENT_LEAVING || !transmission_leave (c)) {
    client_become (c, CLIENT_CLOSED);
    return;
  }
  channel_close (&c->ch);
  buffer_free (&c->in);
  buffer_free (&c->out);
  client_become (c, CLIENT_LEAVING);
}

void
client_moved (struct client *c, size_t bytes)
{
  c->budget -= bytes;
  c->active = c->front->now;
}

int
client_fill (struct client *c, size_t need)
{
  size_t room = need > CLIENT_IN_SIZE ? need : CLIENT_IN_SIZE;
  uint8_t *p = buffer_room (&c->in, room - buffer_size (&c->in),
                            CLIENT_IN_MAX);
  ssize_t n;

  if (!p) {
    client_fail (c, "%s", strerror (errno));
    return -1;
  }
  n = c->ch.ops->recv (&c->ch, p, c->in.cap - c->in.len);
  if (n > 0) {
    c->in.len += n;
    client_moved (c, n);
    return 1;
  }
  if (n == 0)
    return -1;
  if (errno != EAGAIN) {
    client_fail (c, "%s", strerror (errno));
    return -1;
  }
  c->wants |= WANT_CLIENT_READ;
  return 0;
}

size_t
client_send (struct client *c, const void *data, size_t size, bool more)
{
  ssize_t n = c->ch.ops->send (&c->ch, data, size, more);

  if (n > 0) {
    client_moved (c, n);
    return n;
  }
  if (errno == EAGAIN)
    c->wants |= WANT_CLIENT_WRITE;
  else
    client_fail (c, "%s", strerror (errno));
  return 0;
}

bool
client_flush (struct client *c)
{
  size_t n;

  while (buffer_size (&c->out) > 0) {
    n = client_send (c, buffer_bytes (&c->out), buffer_size (&c->out), false);
    if (n == 0)
      return false;
    buffer_take (&c->out, n);
  }
  return true;
}

uint8_t *
client_room (struct client *c, size_t size, size_t max)
{
  uint8_t *p = buffer_room (&c->out, size, max);

  if (!p)
    client_fail (c, "output: %s", strerror (errno));
  return p;
}

static bool
tls_step (struct client *c)
{
  int r;

  /* Only now that the reply to STARTTLS has been sent as it is. */
  if (!tls_is_on (&c->ch) && tls_start (&c->ch, c->tls) == -1) {
    client_fail (c, "TLS: %s", strerror (errno));
    return false;
  }
  r = tls_handshake (&c->ch, &c->peer);
  if (r == 1) {
    c->is_tls = true;
    client_become (c, CLIENT_OPTIONS);
    return true;
  }
  if (r == 0)
    c->wants |= tls_wants_write (&c->ch) ? WANT_CLIENT_WRITE
      : WANT_CLIENT_READ;
  else
    client_fail (c, "TLS: %s", tls_error (&c->ch));
  return false;
}

static bool
flushing_step (struct client *c)
{
  if (!client_flush (c))
    return false;
  client_end (c);
  return true;
}

static bool
step (struct client *c)
{
  switch (c->state) {
  case CLIENT_FLAGS:
    return client_flush (c) && handshake_flags (c);
  case CLIENT_OPTIONS:
    return client_flush (c) && handshake_option (c);
  case CLIENT_TLS:
    return client_flush (c) && tls_step (c);
  case CLIENT_CHOSEN:
    return transmission_begin (c);
  case CLIENT_REQUESTS:
  case CLIENT_DRAINING:
    return transmission_step (c);
  case CLIENT_FLUSHING:
    return flushing_step (c);
  case CLIENT_LEAVING:
    return leaving_step (c);
  case CLIENT_CLOSED:
    break;
  }
  return false;
}

bool
client_run (struct client *c)
{
  c->budget = CLIENT_TURN;
  do
    c->wants = 0;
  while (step (c) && c->state != CLIENT_CLOSED && c->budget > 0);
  return c->state != CLIENT_CLOSED && c->budget <= 0;
}

/* "Newstyle negotiation": what the server says first. */
static int
greet (struct client *c)
{
  uint8_t *p = buffer_room (&c->out, 18, CLIENT_OUT_MAX);

  if (!p)
    return -1;
  p = put64 (p, NBD_MAGIC);
  p = put64 (p, NBD_OPTION_MAGIC);
  put16 (p, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
  c->out.len += 18;
  return 0;
}

struct client *
client_new (struct front *front, struct channel *ch, const struct peer *peer,
            enum tls_mode mode, struct tls_context *tls)
{
  struct client *c = calloc (1, sizeof *c);

  if (!c)
    return NULL;
  *c = (struct client) {
    .front = front, .id = ++front->last_id, .peer = *peer,
    .tls_mode = mode, .ch = *ch, .view.scratch = -1,
    .since = front->now, .active = front->now,
    .relay.slot = NO_SLOT, .status.slot = NO_SLOT,
  };
  if (greet (c) == -1) {
    free (c);
    return NULL;
  }
  c->tls = tls ? tls_context_ref (tls) : NULL;
  backend_init (&c->backend);
  slots_init (&c->slots);
  queue_init (&c->issue);
  queue_init (&c->local);
  queue_init (&c->statuses);
  TAILQ_INSERT_TAIL (&front->clients, c, entry);
  front->nr_clients++;
  front->connected++;
  return c;
}

void
client_free (struct client *c)
{
  TAILQ_REMOVE (&c->front->clients, c, entry);
  c->front->nr_clients--;
  transmission_free (c);
  view_close (&c->view);
  channel_close (&c->ch);
  buffer_free (&c->in);
  buffer_free (&c->out);
  peer_clear (&c->peer);
  tls_context_unref (c->tls);
  free (c);
}

double
client_deadline (const struct client *c)
{
  const struct settings *s = c->front->settings;

  switch (c->state) {
  case CLIENT_REQUESTS:
  case CLIENT_DRAINING:
    if (c->backend.state != BACKEND_UP)
      return c->backend_since + s->handshake_timeout;
    return s->idle_timeout ? c->active + s->idle_timeout : INFINITY;
  case CLIENT_FLUSHING:
    return c->active + s->handshake_timeout;
  case CLIENT_LEAVING:
    return INFINITY;
  default:
    return c->since + s->handshake_timeout;
  }
}

void
client_timed_out (struct client *c)
{
  if (c->state != CLIENT_REQUESTS && c->state != CLIENT_DRAINING)
    client_fail (c, "it took too long to %s", c->state == CLIENT_FLUSHING
                 ? "read the last reply" : "make itself known");
  else if (c->backend.state != BACKEND_UP)
    client_fail (c, "the snapshot server does not answer");
  else
    client_fail (c, "it was idle for too long");
}

void
client_tick (struct client *c)
{
  if (c->state == CLIENT_REQUESTS && !view_is_active (&c->view)
      && c->slots.nr_busy == 0
      && c->front->now - c->active > ENDED_GRACE)
    client_become (c, CLIENT_DRAINING);
}

void
client_shut_down (struct client *c)
{
  if (c->state == CLIENT_REQUESTS)
    client_become (c, CLIENT_DRAINING);
  else if (c->state < CLIENT_REQUESTS && c->state != CLIENT_OPTIONS)
    client_fail (c, "shutting down");
}
