/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Requests: from the client into slots, and on to the backend. */

/* Everything that the protocol says of requests is checked here, so that the
 * backend only ever sees reads, cache hints and block status of ranges that
 * exist.  A request that is wrong but whole gets an error; bytes that are no
 * request, or more payload than anybody has a use for, end the connection.
 *
 * Payload is thrown away: nothing can be written here.  (The one exception, a
 * list of contexts, is a few bytes and is waited for.)
 *
 * Simple replies, and those that must not be fragmented, hold the client's
 * stream from their first byte to the last.  When such a reply takes several
 * pieces, anything else that the backend sent in between could neither be
 * passed on nor kept.  So a long request of this kind is alone: it is not taken
 * before all others are answered, and nothing else is taken until it is.
 */

#include <config.h>

#include "nbd.h"
#include "transmission.h"

/* Reads up to so many bytes are read from the backend several at a time. */
#define SMALL_READ 16384

struct request {
  uint64_t cookie, offset, length;
  uint64_t payload;             /* bytes that follow */
  uint16_t cmd, flags;
  uint32_t contexts;            /* block status: those wanted */
};

uint64_t
requests_cookie (const struct client *c, uint8_t slot, unsigned piece)
{
  return (uint64_t) c->backend.epoch << 16 | piece << 8 | slot;
}

bool
request_is_small (const struct slot *s)
{
  return s->cmd != NBD_CMD_READ || s->length <= SMALL_READ;
}

/* ----------------------------------------------------------------- parsing */

static size_t
header_size (const struct client *c)
{
  return c->header == HEADER_EXTENDED ? NBD_EXTENDED_REQUEST_SIZE
    : NBD_REQUEST_SIZE;
}

/* "Request message".  False if it is none. */
static bool
parse (const struct client *c, const uint8_t *p, struct request *r)
{
  bool extended = c->header == HEADER_EXTENDED;

  if (get32 (p) != (extended ? NBD_EXTENDED_REQUEST_MAGIC
                    : NBD_REQUEST_MAGIC))
    return false;
  *r = (struct request) {
    .flags = get16 (p + 4), .cmd = get16 (p + 6),
    .cookie = get64 (p + 8), .offset = get64 (p + 16),
    .length = extended ? get64 (p + 24) : get32 (p + 24),
  };
  if (extended ? r->flags & NBD_CMD_FLAG_PAYLOAD_LEN
      : r->cmd == NBD_CMD_WRITE)
    r->payload = r->length;
  r->contexts = (UINT64_C (1) << c->contexts.nr) - 1;
  return true;
}

static bool
has_context_list (const struct client *c, const struct request *r)
{
  return r->cmd == NBD_CMD_BLOCK_STATUS && r->payload >= 8
    && r->payload <= 8 + 4 * CONTEXTS_MAX && r->payload % 4 == 0
    && c->contexts.nr > 0;
}

/* The payload of block status: the effect length, and ids of contexts.  False
 * if one is not known or comes twice. */
static bool
parse_context_list (const struct client *c, const uint8_t *p,
                    struct request *r)
{
  uint64_t at;
  unsigned i;

  r->length = get64 (p);
  r->contexts = 0;
  for (at = 8; at < r->payload; at += 4) {
    for (i = 0; i < c->contexts.nr; i++)
      if (get32 (p + at) == c->contexts.chosen[i] + CONTEXT_ID_FIRST)
        break;
    if (i == c->contexts.nr || r->contexts >> i & 1)
      return false;
    r->contexts |= UINT32_C (1) << i;
  }
  return r->contexts != 0;
}

/* ---------------------------------------------------------------- checking */

static bool
in_range (const struct client *c, const struct request *r)
{
  uint64_t size = c->view.map.disk_size;

  return r->offset <= size && r->length <= size - r->offset;
}

static uint32_t
check_read (const struct client *c, const struct request *r)
{
  uint16_t allowed = c->header == HEADER_SIMPLE ? 0 : NBD_CMD_FLAG_DF;

  if ((r->flags & ~allowed) || !in_range (c, r))
    return NBD_EINVAL;
  if (r->length > c->front->settings->max_request)
    return c->header == HEADER_SIMPLE ? NBD_EINVAL : NBD_EOVERFLOW;
  return 0;
}

static uint32_t
check_block_status (const struct client *c, const struct request *r)
{
  uint16_t allowed = NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN;

  return (r->flags & ~allowed) || c->header == HEADER_SIMPLE
    || c->contexts.nr == 0 || r->contexts == 0
    || r->length == 0 || !in_range (c, r) ? NBD_EINVAL : 0;
}

/* The error that the request gets at once, or 0. */
static uint32_t
check (const struct client *c, const struct request *r)
{
  uint32_t wrong = r->flags || !in_range (c, r) ? NBD_EINVAL : 0;

  switch (r->cmd) {
  case NBD_CMD_READ:
    return check_read (c, r);
  case NBD_CMD_BLOCK_STATUS:
    return check_block_status (c, r);
  case NBD_CMD_WRITE:
  case NBD_CMD_WRITE_ZEROES:
    return NBD_EPERM;
  case NBD_CMD_TRIM:
    return view_can_release (&c->view) ? wrong : NBD_EPERM;
  case NBD_CMD_CACHE:
    return wrong ? wrong : r->length > REQUEST_MAX ? NBD_EOVERFLOW : 0;
  default:                      /* FLUSH was not offered */
    return NBD_EINVAL;
  }
}

static bool
has_to_be_alone (const struct client *c, const struct request *r)
{
  return r->cmd == NBD_CMD_READ && r->length > PIECE_SIZE
    && (c->header == HEADER_SIMPLE || (r->flags & NBD_CMD_FLAG_DF));
}

/* -------------------------------------------------------------------- slots */

static void
put_into_slot (struct client *c, const struct request *r, uint32_t error)
{
  uint8_t n = slots_take (&c->slots);
  struct slot *s = &c->slots.slot[n];

  s->cookie = r->cookie;
  s->offset = r->offset;
  s->length = r->length;
  s->cmd = r->cmd;
  s->flags = r->flags;
  s->contexts = r->contexts;
  s->error = error;
  s->alone = !error && has_to_be_alone (c, r);
  c->alone = s->alone;
  if (!error && !view_is_active (&c->view))
    s->error = NBD_ESHUTDOWN;
  if (s->error || s->length == 0 || s->cmd == NBD_CMD_TRIM)
    reply_locally (c, n);
  else if (s->cmd == NBD_CMD_BLOCK_STATUS)
    queue_put (&c->slots, &c->statuses, n);
  else {
    s->todo = s->cmd == NBD_CMD_READ ? slot_pieces (s->length) : 1;
    queue_put (&c->slots, &c->issue, n);
  }
}

/* Reads more, need bytes in all.  A client that has gone, or has only said all
 * it wants to say, is still owed what it asked for. */
static bool
fill (struct client *c, size_t need)
{
  int r = client_fill (c, need);

  if (r == -1 && c->state == CLIENT_REQUESTS)
    client_become (c, CLIENT_DRAINING);
  return r != 0;
}

/* Takes the request at the front of the input, whose header is there.  False:
 * it has to wait. */
static bool
take_request (struct client *c)
{
  const uint8_t *p = buffer_bytes (&c->in);
  size_t size = header_size (c);
  struct request r;
  bool list;
  uint32_t error = 0;

  if (!parse (c, p, &r)) {
    client_fail (c, "a request without its magic number");
    return false;
  }
  list = has_context_list (c, &r);
  if (has_to_be_alone (c, &r) && c->slots.nr_busy > 0)
    return false;
  if (list && buffer_size (&c->in) < size + r.payload)
    return fill (c, size + r.payload);
  if (r.payload > c->front->settings->max_request) {
    client_fail (c, "a payload of %llu bytes",
                 (unsigned long long) r.payload);
    return false;
  }
  if (r.cmd == NBD_CMD_DISC) {
    client_become (c, CLIENT_DRAINING);
    return true;
  }
  if (r.cmd == NBD_CMD_BLOCK_STATUS && r.payload > 0
      && (!list || !parse_context_list (c, p + size, &r)))
    error = NBD_EINVAL;
  buffer_take (&c->in, size);
  c->payload = r.payload;
  put_into_slot (c, &r, error ? error : check (c, &r));
  client_moved (c, size);
  return true;
}

/* Throws away payload.  False if there is none there now. */
static bool
pass_over (struct client *c)
{
  size_t n = buffer_size (&c->in);

  if (n == 0)
    return fill (c, 1);
  if (n > c->payload)
    n = c->payload;
  buffer_take (&c->in, n);
  c->payload -= n;
  return true;
}

static bool
read_one (struct client *c)
{
  if (c->payload > 0)
    return pass_over (c);
  if (c->alone || c->slots.nr_busy == SLOTS)
    return false;
  if (buffer_size (&c->in) < header_size (c))
    return fill (c, header_size (c));
  return take_request (c);
}

bool
requests_read_step (struct client *c)
{
  bool moved = false;

  while (c->state == CLIENT_REQUESTS && c->budget > 0 && read_one (c))
    moved = true;
  return moved;
}

/* ------------------------------------------------------------------ backend */

/* The rest of a piece goes first, and alone. */
static bool
issue_rest (struct client *c)
{
  struct relay *r = &c->relay;
  const struct slot *s = &c->slots.slot[r->slot];

  if (c->backend.state != BACKEND_UP || r->asked)
    return false;
  r->asked = true;
  backend_request (&c->backend, NBD_CMD_READ, NBD_CMD_FLAG_DF,
                   requests_cookie (c, r->slot, PIECE_REST),
                   piece_offset (s, r->piece) + piece_length (s, r->piece)
                   - r->left, r->left);
  return true;
}

bool
requests_issue_step (struct client *c)
{
  struct backend *b = &c->backend;
  bool moved = false;
  uint8_t n;

  if (c->relay.state == RELAY_RESUME)
    return issue_rest (c);
  while (b->state == BACKEND_UP && b->under_way < BACKEND_UNDER_WAY_MAX
         && (n = queue_get (&c->slots, &c->issue)) != NO_SLOT) {
    struct slot *s = &c->slots.slot[n];
    unsigned piece = __builtin_ctzll (s->todo);
    uint64_t bit = UINT64_C (1) << piece;
    bool read = s->cmd == NBD_CMD_READ;

    s->todo &= ~bit;
    s->sent |= bit;
    backend_request (b, s->cmd, read ? NBD_CMD_FLAG_DF : 0,
                     requests_cookie (c, n, piece),
                     piece_offset (s, piece),
                     read ? piece_length (s, piece) : s->length);
    c->small += request_is_small (s);
    /* In its turn; or, if it is alone, when this one comes. */
    if (s->todo && !s->alone)
      queue_put (&c->slots, &c->issue, n);
    moved = true;
  }
  return moved;
}
