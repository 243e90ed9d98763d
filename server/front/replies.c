/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Replies that we make ourselves: errors, trims, reads of nothing. */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "nbd.h"
#include "transmission.h"

/* A trim goes in parts of so many bytes, so that others have their turn. */
#define TRIM_PART (UINT64_C (16) << 20)

/* No more is put into out while it has so many bytes. */
#define OUT_ENOUGH 4096

size_t
reply_header_size (const struct client *c)
{
  switch (c->header) {
  case HEADER_SIMPLE: return NBD_SIMPLE_REPLY_SIZE;
  case HEADER_STRUCTURED: return NBD_STRUCTURED_REPLY_SIZE;
  case HEADER_EXTENDED: return NBD_EXTENDED_REPLY_SIZE;
  }
  return 0;
}

uint8_t *
put_reply_header (const struct client *c, const struct slot *s, uint8_t *p,
                  uint16_t type, uint16_t flags, uint32_t error,
                  uint64_t payload)
{
  if (c->header == HEADER_SIMPLE) {
    p = put32 (p, NBD_SIMPLE_REPLY_MAGIC);
    p = put32 (p, error);
    return put64 (p, s->cookie);
  }
  p = put32 (p, c->header == HEADER_EXTENDED ? NBD_EXTENDED_REPLY_MAGIC
             : NBD_STRUCTURED_REPLY_MAGIC);
  p = put16 (p, flags);
  p = put16 (p, type);
  p = put64 (p, s->cookie);
  if (c->header == HEADER_STRUCTURED)
    return put32 (p, payload);
  p = put64 (p, s->offset);
  return put64 (p, payload);
}

/* What is said to people about an error. */
static const char *
error_text (const struct slot *s)
{
  switch (s->error) {
  case NBD_ESHUTDOWN:
    return "the snapshot has ended";
  case NBD_EPERM:
    return s->cmd == NBD_CMD_READ || s->cmd == NBD_CMD_CACHE
      ? "part of it was released, or was never in the snapshot"
      : "the snapshot is read-only";
  case NBD_EOVERFLOW:
    return "the request is too long";
  case NBD_EIO:
    return s->cmd == NBD_CMD_BLOCK_STATUS
      ? "this cannot be told (any more)"
      : "part of it cannot be read";
  default:
    return "";
  }
}

static bool
put_reply (struct client *c, const struct slot *s)
{
  const char *text = error_text (s);
  size_t payload = s->error && c->header != HEADER_SIMPLE
    ? 6 + strlen (text) : 0;
  size_t size = reply_header_size (c) + payload;
  uint8_t *p = client_room (c, size, CLIENT_OUT_MAX);

  if (!p)
    return false;
  c->out.len += size;
  p = put_reply_header (c, s, p, s->error ? NBD_REPLY_TYPE_ERROR
                        : NBD_REPLY_TYPE_NONE, NBD_REPLY_FLAG_DONE,
                        s->error, payload);
  if (payload > 0) {
    p = put32 (p, s->error);
    p = put16 (p, strlen (text));
    memcpy (p, text, strlen (text));
  }
  return true;
}

void
reply_locally (struct client *c, uint8_t n)
{
  queue_put (&c->slots, &c->local, n);
}

void
request_ends (struct client *c, uint8_t n)
{
  if (c->slots.slot[n].alone)
    c->alone = false;
  slots_give (&c->slots, n);
}

/* Releases the next part.  The ends of a part are multiples of a cluster, save
 * those of the request, so no cluster is missed between two. */
static void
trim_some (struct client *c, struct slot *s)
{
  uint64_t from = s->offset + s->done, to = s->offset + s->length;

  if (to - from > TRIM_PART)
    to = (from + TRIM_PART) & ~(TRIM_PART - 1);
  if (view_release (&c->view, from, to - from) == -1) {
    s->error = errno == ESHUTDOWN ? NBD_ESHUTDOWN : NBD_EIO;
    if (errno != ESHUTDOWN)
      front_log (c->front, LOG_ERR, "%s: releasing clusters: %s",
                 c->view.name, strerror (errno));
  }
  s->done = to - s->offset;
  client_moved (c, CLIENT_TURN / 8);
}

bool
replies_step (struct client *c)
{
  bool moved = false;
  uint8_t n;

  while (!relay_is_busy (c) && c->budget > 0
         && buffer_size (&c->out) < OUT_ENOUGH
         && (n = queue_get (&c->slots, &c->local)) != NO_SLOT) {
    struct slot *s = &c->slots.slot[n];

    moved = true;
    if (s->cmd == NBD_CMD_TRIM && !s->error && s->done < s->length) {
      trim_some (c, s);
      queue_put (&c->slots, &c->local, n);
      continue;
    }
    if (!put_reply (c, s))
      break;
    request_ends (c, n);
  }
  return moved;
}
