/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One client's connection to the snapshot server. */

/* The server is our own nbdkit, so this is the client's side of just as much
 * NBD as it takes: fixed newstyle, structured replies (it has to tell block
 * status), one metadata context, one export.  An answer that is not among
 * those expected ends the connection.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "nbd.h"

/* Longest option reply that we wait for, in bytes. */
#define ANSWER_MAX 8192

#define CONTEXT_NAME "base:allocation"

void
backend_init (struct backend *b)
{
  memset (b, 0, sizeof *b);
  b->ch.fd = -1;
  b->pipe[0] = b->pipe[1] = -1;
}

int
backend_start (struct backend *b, bool with_status)
{
  if (!buffer_room (&b->out, BACKEND_OUT_MAX, BACKEND_OUT_MAX))
    return -1;
  b->state = BACKEND_GREETING;
  b->with_status = with_status;
  b->epoch++;
  b->pos = b->len = BACKEND_HEADROOM;
  return 0;
}

void
backend_drop (struct backend *b)
{
  channel_close (&b->ch);
  b->state = BACKEND_DOWN;
  b->under_way = 0;
  b->out.pos = b->out.len = 0;
  b->pos = b->len = BACKEND_HEADROOM;
  if (b->pipe[0] != -1) {
    close (b->pipe[0]);
    close (b->pipe[1]);
    b->pipe[0] = b->pipe[1] = -1;
  }
  b->in_pipe = 0;
}

void
backend_free (struct backend *b)
{
  backend_drop (b);
  buffer_free (&b->out);
  free (b->in);
  b->in = NULL;
}

ssize_t
backend_flush (struct backend *b)
{
  ssize_t n = b->ch.ops->send (&b->ch, buffer_bytes (&b->out),
                               buffer_size (&b->out), false);

  if (n > 0)
    buffer_take (&b->out, n);
  return n;
}

ssize_t
backend_fill (struct backend *b, size_t want)
{
  size_t end = BACKEND_HEADROOM + BACKEND_IN_SIZE, have = b->len - b->pos;
  ssize_t n;

  if (!b->in) {
    b->in = malloc (end);
    if (!b->in)
      return -1;
  }
  /* What is left is part of a header; or nothing. */
  if (have == 0)
    b->pos = b->len = BACKEND_HEADROOM;
  else if (end - b->len < want) {
    memmove (b->in + BACKEND_HEADROOM, b->in + b->pos, have);
    b->pos = BACKEND_HEADROOM;
    b->len = b->pos + have;
  }
  if (want > end - b->len)
    want = end - b->len;
  n = b->ch.ops->recv (&b->ch, b->in + b->len, want);
  if (n > 0)
    b->len += n;
  return n;
}

void
backend_request (struct backend *b, uint16_t cmd, uint16_t flags,
                 uint64_t cookie, uint64_t offset, uint32_t length)
{
  uint8_t *p = buffer_room (&b->out, NBD_REQUEST_SIZE, BACKEND_OUT_MAX);

  if (!p)                       /* the caller counts them */
    abort ();
  p = put32 (p, NBD_REQUEST_MAGIC);
  p = put16 (p, flags);
  p = put16 (p, cmd);
  p = put64 (p, cookie);
  p = put64 (p, offset);
  put32 (p, length);
  b->out.len += NBD_REQUEST_SIZE;
  b->under_way++;
}

/* ---------------------------------------------------------- handshake */

static uint8_t *
put_option (struct backend *b, uint32_t option, uint32_t length)
{
  uint8_t *p = buffer_room (&b->out, NBD_OPTION_SIZE + length,
                            BACKEND_OUT_MAX);

  if (!p)
    return NULL;
  b->out.len += NBD_OPTION_SIZE + length;
  p = put64 (p, NBD_OPTION_MAGIC);
  p = put32 (p, option);
  return put32 (p, length);
}

static uint8_t *
put_text (uint8_t *p, const char *text)
{
  size_t len = strlen (text);

  p = put32 (p, len);
  memcpy (p, text, len);
  return p + len;
}

static int
ask_structured (struct backend *b)
{
  b->state = BACKEND_STRUCTURED;
  return put_option (b, NBD_OPT_STRUCTURED_REPLY, 0) ? 0 : -1;
}

static int
ask_context (struct backend *b, const char *name)
{
  uint8_t *p = put_option (b, NBD_OPT_SET_META_CONTEXT, 4 + strlen (name)
                           + 4 + 4 + strlen (CONTEXT_NAME));

  if (!p)
    return -1;
  p = put_text (p, name);
  p = put32 (p, 1);
  put_text (p, CONTEXT_NAME);
  b->state = BACKEND_CONTEXT;
  return 0;
}

static int
ask_go (struct backend *b, const char *name)
{
  uint8_t *p = put_option (b, NBD_OPT_GO, 4 + strlen (name) + 2);

  if (!p)
    return -1;
  p = put_text (p, name);
  put16 (p, 0);
  b->state = BACKEND_GO;
  return 0;
}

static int
refuse (int err)
{
  errno = err;
  return -1;
}

/* The greeting: both magic numbers and the flags. */
static int
take_greeting (struct backend *b)
{
  const uint8_t *p = b->in + b->pos;
  uint16_t flags;
  uint8_t *out;

  if (b->len - b->pos < 18)
    return 0;
  flags = get16 (p + 16);
  if (get64 (p) != NBD_MAGIC || get64 (p + 8) != NBD_OPTION_MAGIC
      || !(flags & NBD_FLAG_FIXED_NEWSTYLE))
    return refuse (EPROTO);
  b->pos += 18;
  out = buffer_room (&b->out, 4, BACKEND_OUT_MAX);
  if (!out)
    return -1;
  put32 (out, NBD_FLAG_FIXED_NEWSTYLE | (flags & NBD_FLAG_NO_ZEROES));
  b->out.len += 4;
  return ask_structured (b) == -1 ? -1 : 1;
}

static void
note_info (struct backend *b, const uint8_t *data, size_t len)
{
  if (len == 12 && get16 (data) == NBD_INFO_EXPORT)
    b->size = get64 (data + 2);
}

/* A positive end of what was asked last. */
static int
take_ack (struct backend *b, const char *name)
{
  switch (b->state) {
  case BACKEND_STRUCTURED:
    return b->with_status ? ask_context (b, name) : ask_go (b, name);
  case BACKEND_CONTEXT:
    return ask_go (b, name);
  case BACKEND_GO:
    b->state = BACKEND_UP;
    return 0;
  default:
    return refuse (EPROTO);
  }
}

static int
take_answer (struct backend *b, const char *name)
{
  static const uint32_t asked[] = {
    [BACKEND_STRUCTURED] = NBD_OPT_STRUCTURED_REPLY,
    [BACKEND_CONTEXT] = NBD_OPT_SET_META_CONTEXT,
    [BACKEND_GO] = NBD_OPT_GO,
  };
  const uint8_t *p = b->in + b->pos;
  uint32_t type, len;

  if (b->len - b->pos < NBD_OPTION_REPLY_SIZE)
    return 0;
  type = get32 (p + 12);
  len = get32 (p + 16);
  if (get64 (p) != NBD_OPTION_REPLY_MAGIC || get32 (p + 8) != asked[b->state]
      || len > ANSWER_MAX)
    return refuse (EPROTO);
  if (b->len - b->pos < NBD_OPTION_REPLY_SIZE + len)
    return 0;
  b->pos += NBD_OPTION_REPLY_SIZE + len;
  if (type == NBD_REP_ACK)
    return take_ack (b, name) == -1 ? -1 : 1;
  if (type == NBD_REP_INFO && b->state == BACKEND_GO)
    note_info (b, p + NBD_OPTION_REPLY_SIZE, len);
  else if (type & NBD_REP_ERR (0))
    return refuse (b->state == BACKEND_STRUCTURED ? EPROTO : ENOENT);
  return 1;
}

int
backend_handshake (struct backend *b, const char *name)
{
  ssize_t n;
  int r;

  for (;;) {
    if (b->state == BACKEND_UP)
      return 1;
    while (buffer_size (&b->out) > 0)
      if (backend_flush (b) == -1)
        return errno == EAGAIN ? 0 : -1;
    r = b->len == b->pos ? 0
      : b->state == BACKEND_GREETING ? take_greeting (b)
      : take_answer (b, name);
    if (r == -1)
      return -1;
    if (r == 1)
      continue;
    n = backend_fill (b, ANSWER_MAX + NBD_OPTION_REPLY_SIZE);
    if (n == 0)
      return refuse (ECONNRESET);
    if (n == -1)
      return errno == EAGAIN ? 0 : -1;
  }
}
