/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Replies: from the backend to the client. */

/* Data are not gathered here.  The header of a reply is read, the client's
 * header is written in front of the data where they lie in the backend's input
 * buffer, and header and data are sent from there: one copy, into the buffer.
 * What did not fit follows the same way when that has been sent.
 *
 * Between two plain sockets the rest of a long reply goes through a pipe
 * instead (splice), and never comes into this process.  Then just the header
 * is read, and not what is behind it.  Short replies are read many at a time.
 *
 *   HEADER ──data──▶ DATA ─────────▶ HEADER    the client's message begins
 *      │               │ ▲                     (RESUME: the backend broke off)
 *      │               ▼ │
 *      │             RESUME
 *      └ ──extents─▶ STATUS ─────────▶ HEADER  nothing goes to the client
 *
 * The backend is asked not to fragment reads, and nbdkit has all of the data
 * before it begins to reply; so a reply is one chunk with just the piece that
 * was asked for, or an error.  Anything else is no answer of ours.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "nbd.h"
#include "status.h"
#include "transmission.h"

/* At least so many bytes are worth the system calls of a splice. */
#define SPLICE_MIN 8192
#define PIPE_SIZE (1 << 20)

#define DATA_HEADER (NBD_STRUCTURED_REPLY_SIZE + 8)

/* Longest payload of an error chunk: numbers, and a string. */
#define ERROR_MAX (14 + NBD_STRING_MAX)

/* What the front of the backend's input says. */
struct reply {
  uint64_t cookie;
  uint64_t length;              /* of the payload after the header */
  uint32_t error;               /* simple replies */
  uint16_t flags, type;
  bool simple;
};

static void
not_an_answer (struct client *c)
{
  client_fail (c, "the snapshot server speaks another protocol");
}

/* Reads more from the backend.  False: it has to wait, or it is lost. */
static bool
fill (struct client *c, size_t want)
{
  ssize_t n = backend_fill (&c->backend, want);

  if (n > 0) {
    client_moved (c, 0);
    return true;
  }
  if (n == -1 && errno == EAGAIN)
    c->wants |= WANT_BACKEND_READ;
  else
    backend_lost (c);
  return false;
}

/* Makes sure of need bytes of input.  False like fill. */
static bool
have (struct client *c, size_t need)
{
  const struct backend *b = &c->backend;
  bool exactly = c->small == 0 && c->status.slot == NO_SLOT
    && c->ch.can_splice && b->ch.can_splice;

  while (b->len - b->pos < need) {
    size_t want = need > DATA_HEADER ? need : DATA_HEADER;

    if (!fill (c, exactly ? want - (b->len - b->pos) : BACKEND_IN_SIZE))
      return false;
  }
  return true;
}

/* --------------------------------------------------------------------- data */

static void
piece_has_come (struct client *c, uint8_t n, unsigned piece)
{
  struct slot *s = &c->slots.slot[n];

  s->sent &= ~(UINT64_C (1) << piece);
  c->small -= request_is_small (s);
  c->backend.under_way--;
  c->backend_since = 0;
}

/* The slot has nothing more to come: it has been answered, or will be. */
static void
after_piece (struct client *c, uint8_t n)
{
  struct slot *s = &c->slots.slot[n];

  if (s->todo || s->sent)
    return;
  if (s->error || (s->alone && c->header != HEADER_SIMPLE))
    reply_locally (c, n);
  else
    request_ends (c, n);
}

/* Nobody is to ask for the rest of a request that has failed. */
static void
slot_fails (struct client *c, uint8_t n, uint32_t error)
{
  struct slot *s = &c->slots.slot[n];

  s->error = error;
  if (s->todo) {
    s->todo = 0;
    queue_remove (&c->slots, &c->issue, n);
  }
}

/* The client's header for a piece whose data begin at `data'.  Returns where
 * the header begins. */
static uint8_t *
put_data_header (struct client *c, const struct slot *s, unsigned piece,
                 uint8_t *data, bool last)
{
  size_t size = reply_header_size (c);
  uint64_t offset = piece_offset (s, piece);
  uint64_t length = piece_length (s, piece);
  uint8_t *p;

  if (s->alone && s->begun)     /* goes on with the chunk */
    return data;
  if (s->alone)
    length = s->length;
  if (c->header == HEADER_SIMPLE) {
    put_reply_header (c, s, data - size, 0, 0, 0, 0);
    return data - size;
  }
  p = put_reply_header (c, s, data - 8 - size, NBD_REPLY_TYPE_OFFSET_DATA,
                        last ? NBD_REPLY_FLAG_DONE : 0, 0, 8 + length);
  put64 (p, offset);
  return data - 8 - size;
}

/* BACKEND_HEADROOM is there for the longest of them. */
_Static_assert (NBD_EXTENDED_REPLY_SIZE + 8
                <= DATA_HEADER + BACKEND_HEADROOM, "no room for a header");

static bool
begin_data (struct client *c, uint8_t n, unsigned piece)
{
  struct backend *b = &c->backend;
  struct relay *r = &c->relay;
  struct slot *s = &c->slots.slot[n];
  uint64_t length = piece_length (s, piece);
  uint8_t *data = b->in + b->pos + DATA_HEADER;
  size_t here = b->len - b->pos - DATA_HEADER;

  if (here > length)
    here = length;
  piece_has_come (c, n, piece);
  b->pos += DATA_HEADER + here;
  *r = (struct relay) { .state = RELAY_DATA, .slot = n, .piece = piece,
                        .left = length - here };
  r->last = !s->todo && !s->sent && !s->error && !s->alone;
  r->send = put_data_header (c, s, piece, data, r->last);
  r->nr_send = data + here - r->send;
  s->begun = true;
  if (s->alone && s->todo)
    queue_put (&c->slots, &c->issue, n);
  return true;
}

/* Part of a message is with the client, or its header is to be: the rest has to
 * follow. */
static void
pad_or_fail (struct client *c, uint8_t n, uint64_t missing)
{
  struct relay *r = &c->relay;

  if (c->header == HEADER_SIMPLE || r->last) {
    client_fail (c, "a read failed in the middle of its reply");
    return;
  }
  r->state = RELAY_DATA;
  r->slot = n;
  r->piece = 0;
  r->left = 0;
  r->pad = missing;
}

static void
end_data (struct client *c)
{
  struct relay *r = &c->relay;
  struct slot *s = &c->slots.slot[r->slot];
  uint8_t n = r->slot, piece = r->piece;

  *r = (struct relay) { .state = RELAY_HEADER, .slot = NO_SLOT };
  if (!s->error)
    pull_read (c->pull, piece_offset (s, piece), piece_length (s, piece),
               c->front->now);
  after_piece (c, n);
}

/* The header goes first through the pipe, so that it reaches the client in one
 * piece with data: a client is woken once, and not for the header alone. */
static bool
head_into_pipe (struct client *c)
{
  struct relay *r = &c->relay;

  if (r->nr_send > sizeof r->head || c->backend.in_pipe > 0
      || write (c->backend.pipe[1], r->send, r->nr_send)
      != (ssize_t) r->nr_send)
    return false;
  memcpy (r->head, r->send, r->nr_send);
  r->nr_head = c->backend.in_pipe = r->nr_send;
  r->nr_send = 0;
  return true;
}

/* Through the pipe.  False: wait. */
static bool
splice_some (struct client *c)
{
  struct backend *b = &c->backend;
  struct relay *r = &c->relay;
  const unsigned flags = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;
  ssize_t n;

  if (b->in_pipe == r->nr_head) {
    n = splice (b->ch.fd, NULL, b->pipe[1], NULL,
                r->left < PIPE_SIZE ? r->left : PIPE_SIZE, flags);
    if (n == -1 && errno == EAGAIN)
      c->wants |= WANT_BACKEND_READ;
    else if (n <= 0)
      backend_lost (c);
    if (n <= 0)
      return false;
    b->in_pipe += n;
    r->nr_head = 0;
    r->left -= n;
  }
  /* While there is something in the pipe, no more is read. */
  n = splice (b->pipe[0], NULL, c->ch.fd, NULL, b->in_pipe,
              flags | (r->left > 0 ? SPLICE_F_MORE : 0));
  if (n > 0) {
    b->in_pipe -= n;
    client_moved (c, n);
    return true;
  }
  if (n == -1 && errno == EAGAIN)
    c->wants |= WANT_CLIENT_WRITE;
  else
    client_fail (c, "%s", n == 0 ? "it went away" : strerror (errno));
  return false;
}

/* True if the rest of the reply goes through the pipe, which is there. */
static bool
may_splice (struct client *c)
{
  struct backend *b = &c->backend;

  if (b->in_pipe > 0)
    return true;
  if (!c->ch.can_splice || !b->ch.can_splice || c->relay.left < SPLICE_MIN)
    return false;
  if (b->pipe[0] != -1)
    return true;
  if (pipe2 (b->pipe, O_CLOEXEC | O_NONBLOCK) == -1) {
    b->ch.can_splice = false;   /* it goes without */
    return false;
  }
  fcntl (b->pipe[1], F_SETPIPE_SZ, PIPE_SIZE);
  return true;
}

static bool
send_zeroes (struct client *c)
{
  static const uint8_t zeroes[4096];
  struct relay *r = &c->relay;

  r->nr_send = r->pad < sizeof zeroes ? r->pad : sizeof zeroes;
  r->send = zeroes;
  r->pad -= r->nr_send;
  return true;
}

static bool
fetch_more (struct client *c)
{
  struct backend *b = &c->backend;
  struct relay *r = &c->relay;
  size_t n;

  if (b->len == b->pos && !fill (c, BACKEND_IN_SIZE))
    return false;
  n = b->len - b->pos;
  if (n > r->left)
    n = r->left;
  r->send = b->in + b->pos;
  r->nr_send = n;
  r->left -= n;
  b->pos += n;
  return true;
}

static bool
data_step (struct client *c)
{
  struct relay *r = &c->relay;
  size_t n;

  if (r->nr_send > 0 && (r->pad > 0 || !may_splice (c)
                         || !head_into_pipe (c))) {
    n = client_send (c, r->send, r->nr_send, r->left > 0 || r->pad > 0);
    r->send += n;
    r->nr_send -= n;
    return n > 0;
  }
  if (r->pad > 0)
    return send_zeroes (c);
  if (r->left == 0 && c->backend.in_pipe == 0) {
    end_data (c);
    return true;
  }
  return may_splice (c) ? splice_some (c) : fetch_more (c);
}

/* -------------------------------------------------------------------- headers */

/* "Error values": what a client may be told of a read. */
static uint32_t
error_of (uint32_t error)
{
  switch (error) {
  case NBD_EPERM: case NBD_EIO: case NBD_ENOMEM: case NBD_EINVAL:
  case NBD_ESHUTDOWN:
    return error;
  default:
    return NBD_EIO;
  }
}

static void
request_failed (struct client *c, uint8_t n, unsigned piece, uint32_t error)
{
  struct slot *s = &c->slots.slot[n];

  c->relay.last = false;
  piece_has_come (c, n, piece);
  slot_fails (c, n, error);
  if (s->alone && s->begun)
    pad_or_fail (c, n, s->length - piece * PIECE_SIZE);
  else
    after_piece (c, n);
}

/* An error chunk: 32 bits of error, and a text that we pass over.  False: it
 * has to be waited for, or is none. */
static bool
read_error (struct client *c, const struct reply *h, uint32_t *error)
{
  struct backend *b = &c->backend;

  if (h->length < 6 || h->length > ERROR_MAX) {
    not_an_answer (c);
    return false;
  }
  if (!have (c, NBD_STRUCTURED_REPLY_SIZE + h->length))
    return false;
  *error = error_of (get32 (b->in + b->pos + NBD_STRUCTURED_REPLY_SIZE));
  b->pos += NBD_STRUCTURED_REPLY_SIZE + h->length;
  return true;
}

static bool
take_error (struct client *c, const struct reply *h, uint8_t n,
            unsigned piece)
{
  uint32_t error;

  if (!read_error (c, h, &error))
    return false;
  if (piece == PIECE_STATUS)
    blockstatus_failed (c, error);
  else
    request_failed (c, n, piece, error);
  return true;
}

static bool
take_data (struct client *c, const struct reply *h, uint8_t n, unsigned piece)
{
  const struct slot *s = &c->slots.slot[n];
  const uint8_t *p;

  if (s->cmd != NBD_CMD_READ || h->type != NBD_REPLY_TYPE_OFFSET_DATA
      || h->length != 8 + piece_length (s, piece)) {
    not_an_answer (c);
    return false;
  }
  if (!have (c, DATA_HEADER))
    return false;
  p = c->backend.in + c->backend.pos;
  if (get64 (p + NBD_STRUCTURED_REPLY_SIZE) != piece_offset (s, piece)) {
    not_an_answer (c);
    return false;
  }
  return begin_data (c, n, piece);
}

static bool
take_status (struct client *c, const struct reply *h)
{
  if (h->type != NBD_REPLY_TYPE_BLOCK_STATUS || h->length < 12
      || h->length % 8 != 4) {
    not_an_answer (c);
    return false;
  }
  if (!have (c, NBD_STRUCTURED_REPLY_SIZE + 4))
    return false;
  c->backend.pos += NBD_STRUCTURED_REPLY_SIZE + 4;
  c->relay = (struct relay) { .state = RELAY_STATUS, .slot = NO_SLOT,
                              .left = h->length - 4 };
  return true;
}

/* A simple reply, or a chunk without content: what cache hints get. */
static bool
take_done (struct client *c, const struct reply *h, uint8_t n, unsigned piece)
{
  if (c->slots.slot[n].cmd == NBD_CMD_READ || piece == PIECE_STATUS
      || h->length != 0) {
    not_an_answer (c);
    return false;
  }
  c->backend.pos += h->simple ? NBD_SIMPLE_REPLY_SIZE
    : NBD_STRUCTURED_REPLY_SIZE;
  piece_has_come (c, n, piece);
  c->slots.slot[n].error = h->error ? error_of (h->error) : 0;
  reply_locally (c, n);
  return true;
}

/* Reads the header at the front.  False: it has not come, or is none. */
static bool
read_header (struct client *c, struct reply *h)
{
  const uint8_t *p;

  if (!have (c, NBD_SIMPLE_REPLY_SIZE))
    return false;
  p = c->backend.in + c->backend.pos;
  if (get32 (p) == NBD_SIMPLE_REPLY_MAGIC) {
    *h = (struct reply) { .simple = true, .error = get32 (p + 4),
                          .cookie = get64 (p + 8) };
    return true;
  }
  if (get32 (p) != NBD_STRUCTURED_REPLY_MAGIC) {
    not_an_answer (c);
    return false;
  }
  if (!have (c, NBD_STRUCTURED_REPLY_SIZE))
    return false;
  p = c->backend.in + c->backend.pos;
  *h = (struct reply) { .flags = get16 (p + 4), .type = get16 (p + 6),
                        .cookie = get64 (p + 8), .length = get32 (p + 16) };
  return true;
}

/* Whose reply that is.  False if it is nobody's. */
static bool
find_slot (const struct client *c, const struct reply *h, uint8_t *n,
           unsigned *piece)
{
  const struct slot *s;

  *n = h->cookie & 0xff;
  *piece = h->cookie >> 8 & 0xff;
  if (h->cookie >> 16 != c->backend.epoch || *n >= SLOTS
      || (!h->simple && !(h->flags & NBD_REPLY_FLAG_DONE)))
    return false;
  s = &c->slots.slot[*n];
  if (*piece == PIECE_STATUS)
    return c->status.slot == *n && c->status.asked;
  return s->busy && *piece < PIECES_MAX && (s->sent >> *piece & 1);
}

/* The rest cannot be had: of this piece, and of the chunk it is in. */
static bool
resume_fails (struct client *c, const struct reply *h)
{
  const struct relay *r = &c->relay;
  const struct slot *s = &c->slots.slot[r->slot];
  uint64_t piece_end = piece_offset (s, r->piece) + piece_length (s, r->piece);
  uint64_t end = s->alone ? s->offset + s->length : piece_end;
  uint32_t error;

  if (!read_error (c, h, &error))
    return false;
  c->backend.under_way--;
  slot_fails (c, r->slot, error);
  pad_or_fail (c, r->slot, end - piece_end + r->left);
  return true;
}

/* The reply to the one request for the rest of a piece. */
static bool
resume_step (struct client *c)
{
  struct relay *r = &c->relay;
  uint8_t n = r->slot;
  struct reply h;

  if (!r->asked || !read_header (c, &h))
    return false;
  if (h.simple || h.cookie != requests_cookie (c, n, PIECE_REST)) {
    not_an_answer (c);
    return false;
  }
  if (NBD_REPLY_TYPE_IS_ERROR (h.type))
    return resume_fails (c, &h);
  if (h.type != NBD_REPLY_TYPE_OFFSET_DATA || h.length != 8 + r->left) {
    not_an_answer (c);
    return false;
  }
  if (!have (c, DATA_HEADER))
    return false;
  c->backend.pos += DATA_HEADER;
  c->backend.under_way--;
  c->backend_since = 0;
  r->state = RELAY_DATA;
  return true;
}

static bool
header_step (struct client *c)
{
  struct reply h;
  unsigned piece;
  uint8_t n;

  /* Whatever comes of it has to go to the client first. */
  if (buffer_size (&c->out) > 0 || !read_header (c, &h))
    return false;
  if (!find_slot (c, &h, &n, &piece)) {
    not_an_answer (c);
    return false;
  }
  if (h.simple || h.type == NBD_REPLY_TYPE_NONE)
    return take_done (c, &h, n, piece);
  if (NBD_REPLY_TYPE_IS_ERROR (h.type))
    return take_error (c, &h, n, piece);
  if (piece == PIECE_STATUS)
    return take_status (c, &h);
  return take_data (c, &h, n, piece);
}

/* Descriptors, as many whole ones as are there. */
static bool
status_step (struct client *c)
{
  struct backend *b = &c->backend;
  struct relay *r = &c->relay;
  size_t n;

  if (!have (c, 8))
    return false;
  n = b->len - b->pos;
  if (n > r->left)
    n = r->left;
  n -= n % 8;
  blockstatus_take (c, b->in + b->pos, n);
  b->pos += n;
  r->left -= n;
  client_moved (c, n);
  if (r->left == 0) {
    r->state = RELAY_HEADER;
    blockstatus_taken (c);
  }
  return true;
}

void
relay_lost (struct client *c)
{
  struct relay *r = &c->relay;

  if (!relay_is_busy (c)) {
    *r = (struct relay) { .state = RELAY_HEADER, .slot = NO_SLOT };
    return;
  }
  r->state = RELAY_RESUME;
  r->asked = false;
  if (r->nr_head > 0) {
    r->send = r->head;
    r->nr_send = r->nr_head;
    r->nr_head = 0;
  }
}

bool
relay_step (struct client *c)
{
  bool moved = false, more = true;

  while (more && c->budget > 0 && c->backend.state == BACKEND_UP
         && !client_is_over (c)) {
    switch (c->relay.state) {
    case RELAY_HEADER: more = header_step (c); break;
    case RELAY_DATA: more = data_step (c); break;
    case RELAY_STATUS: more = status_step (c); break;
    case RELAY_RESUME: more = resume_step (c); break;
    }
    moved |= more;
  }
  return moved;
}
