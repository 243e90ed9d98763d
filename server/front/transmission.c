/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The transmission phase as a whole, and losing the backend in it. */

/* All that is asked of the backend can be asked again: nothing is written.  So
 * when its connection breaks (it was killed, it is being restarted), what was
 * under way is put to the next one, the rest of what was being passed on first,
 * and the client notices nothing.  When there is no next one for
 * some time, or it does not know the snapshot any more, everything under way
 * is answered with an error, and the connection ends in order.
 *
 * That the backend opened the same snapshot that we have open: there is at
 * most one ACTIVE map of a name, and ours still was one after the backend had
 * opened its.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <syslog.h>

#include "nbd.h"
#include "status.h"
#include "transmission.h"

/* How long the backend may be missed, and between two tries; seconds. */
#define PATIENCE 10.0
#define PAUSE 0.05

static bool
wants_base (const struct client *c)
{
  unsigned i;

  for (i = 0; i < c->contexts.nr; i++)
    if (c->contexts.chosen[i] == CONTEXT_NR_BASE)
      return true;
  return false;
}

/* The backend is missed from now on, if it is not yet. */
static void
miss_backend (struct client *c)
{
  if (c->backend_since == 0)
    c->backend_since = c->front->now;
  c->backend_again = c->front->now + PAUSE;
  c->wants |= WANT_BACKEND;
  backend_drop (&c->backend);
}

static bool
patience_is_over (const struct client *c)
{
  return c->backend_since != 0
    && c->front->now - c->backend_since > PATIENCE;
}

/* It did not work this time.  0 to try again, or -1. */
static int
try_later (struct client *c)
{
  int err = errno;

  miss_backend (c);
  errno = err;
  return patience_is_over (c) ? -1 : 0;
}

/* The handshake is done: is that what we have open? */
static int
check_backend (struct client *c)
{
  if (c->backend.size == c->view.map.disk_size && view_is_active (&c->view))
    return 1;
  backend_drop (&c->backend);
  errno = ENOENT;
  return -1;
}

/* 1 if the backend is up, 0 to wait, -1 and errno if that is in vain. */
static int
connect_backend (struct client *c)
{
  struct backend *b = &c->backend;

  if (b->state == BACKEND_DOWN) {
    if (c->front->now < c->backend_again) {
      c->wants |= WANT_BACKEND;
      return 0;
    }
    if (c->front->connect (c->front, &b->ch) == -1)
      return try_later (c);
    if (backend_start (b, wants_base (c)) == -1)
      return try_later (c);
  }
  switch (backend_handshake (b, c->view.name)) {
  case 1:
    return check_backend (c);
  case 0:
    c->wants |= buffer_size (&b->out) > 0 ? WANT_BACKEND_WRITE
      : WANT_BACKEND_READ;
    return 0;
  default:
    if (errno != ENOENT)
      return try_later (c);
    backend_drop (b);
    errno = ENOENT;
    return -1;
  }
}

bool
transmission_begin (struct client *c)
{
  switch (connect_backend (c)) {
  case 0:
    return false;
  case -1:
    if (errno != ENOENT)
      front_log (c->front, LOG_ERR, "the snapshot server at %s: %m",
                 c->front->settings->backend);
    handshake_refused (c);
    return true;
  }
  c->pull = pull_join (c);
  if (!c->pull) {
    client_fail (c, "no memory");
    return true;
  }
  handshake_chosen (c);
  if (client_is_over (c))
    return true;
  c->served = true;
  front_log (c->front, LOG_INFO, "client %llu: %s%s%s reads %s",
             (unsigned long long) c->id, c->peer.address,
             c->pull->identity[0] ? " " : "", c->pull->identity,
             c->view.name);
  client_become (c, CLIENT_REQUESTS);
  return true;
}

/* Puts what was under way to the next connection. */
static void
ask_again (struct client *c)
{
  struct slot *s;
  unsigned n;

  queue_init (&c->issue);
  for (n = 0; n < SLOTS; n++) {
    s = &c->slots.slot[n];
    if (!s->busy || !(s->todo | s->sent))
      continue;
    s->todo = s->error ? 0 : s->todo | s->sent;
    s->sent = 0;
    if (s->todo)
      queue_put (&c->slots, &c->issue, n);
    else
      reply_locally (c, n);
  }
  c->small = 0;
  blockstatus_forget (c);
}

void
backend_lost (struct client *c)
{
  relay_lost (c);
  ask_again (c);
  miss_backend (c);
}

/* It is not coming back: everything is answered, and that was it. */
static void
give_up (struct client *c)
{
  uint32_t error = view_is_active (&c->view) ? NBD_EIO : NBD_ESHUTDOWN;
  uint8_t n;

  if (c->state == CLIENT_REQUESTS)
    client_become (c, CLIENT_DRAINING);
  if (relay_is_busy (c)) {
    client_fail (c, "the snapshot server is gone, in the middle of a reply");
    return;
  }
  while ((n = queue_get (&c->slots, &c->issue)) != NO_SLOT) {
    struct slot *s = &c->slots.slot[n];

    s->todo = 0;
    s->error = error;
    if (s->alone && s->begun) {
      client_fail (c, "the snapshot server is gone, in the middle of a reply");
      return;
    }
    reply_locally (c, n);
  }
  if (c->status.slot != NO_SLOT) {
    queue_put (&c->slots, &c->statuses, c->status.slot);
    c->status.slot = NO_SLOT;
  }
  while ((n = queue_get (&c->slots, &c->statuses)) != NO_SLOT) {
    c->slots.slot[n].error = error;
    reply_locally (c, n);
  }
}

static bool
backend_step (struct client *c)
{
  struct backend *b = &c->backend;

  if (b->state != BACKEND_UP) {
    if (c->state == CLIENT_DRAINING && c->slots.nr_busy == 0)
      return false;
    switch (connect_backend (c)) {
    case 1: return true;
    case -1: give_up (c);       /* fall through */
    default: return false;
    }
  }
  if (buffer_size (&b->out) == 0)
    return false;
  if (backend_flush (b) > 0)
    return true;
  if (errno == EAGAIN)
    c->wants |= WANT_BACKEND_WRITE;
  else                          /* relay.c finds the end, after what came */
    buffer_take (&b->out, buffer_size (&b->out));
  return false;
}

static bool
flush_step (struct client *c)
{
  size_t before = buffer_size (&c->out);

  if (before == 0)
    return false;
  client_flush (c);
  return buffer_size (&c->out) < before;
}

/* Everything has been answered, and sent. */
static bool
is_drained (const struct client *c)
{
  return c->slots.nr_busy == 0 && !relay_is_busy (c)
    && buffer_size (&c->out) == 0;
}

bool
transmission_step (struct client *c)
{
  static bool (*const steps[]) (struct client *c) = {
    flush_step, requests_read_step, requests_issue_step, backend_step,
    relay_step, blockstatus_step, replies_step, flush_step,
  };
  bool moved = false;
  size_t i;

  for (i = 0; i < sizeof steps / sizeof steps[0]; i++) {
    moved |= steps[i] (c);
    if (client_is_over (c))
      return true;
  }
  if (c->state == CLIENT_DRAINING && is_drained (c)) {
    client_become (c, CLIENT_FLUSHING);
    return true;
  }
  return moved;
}

bool
transmission_leave (struct client *c)
{
  struct backend *b = &c->backend;

  if (b->state != BACKEND_UP)
    return false;
  backend_request (b, NBD_CMD_DISC, 0, 0, 0, 0);
  return true;
}

bool
leaving_step (struct client *c)
{
  struct backend *b = &c->backend;
  ssize_t n;

  if (buffer_size (&b->out) > 0 && backend_flush (b) == -1) {
    if (errno != EAGAIN)
      client_end (c);
    else
      c->wants |= WANT_BACKEND_WRITE;
  }
  b->pos = b->len;
  n = c->state == CLIENT_LEAVING ? backend_fill (b, BACKEND_IN_SIZE) : 0;
  if (n > 0) {
    client_moved (c, n);
    return true;
  }
  if (n == -1 && errno == EAGAIN)
    c->wants |= WANT_BACKEND_READ;
  else if (c->state == CLIENT_LEAVING)
    client_end (c);
  return false;
}

void
transmission_free (struct client *c)
{
  backend_free (&c->backend);
  free (c->status.extents);
  free (c->status.runs);
}
