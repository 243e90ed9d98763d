/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A stream of bytes in both directions: a socket, TLS on one, or memory. */

#ifndef NBDFLEECE_CHANNEL_H
#define NBDFLEECE_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct channel;

/* No call ever waits.  recv and send return the bytes moved, at least 1; or
 * -1 and errno, EAGAIN if the other side is not ready.  recv returns 0 at the
 * end of the stream. */
struct channel_ops {
  ssize_t (*recv) (struct channel *ch, void *buf, size_t size);

  /* more: other bytes follow at once, so an incomplete packet may wait for
   * them.  After EAGAIN the next call must begin with the same bytes. */
  ssize_t (*send) (struct channel *ch, const void *buf, size_t size,
                   bool more);

  /* Says goodbye, if the stream has a way to, and lets go of everything. */
  void (*close) (struct channel *ch);
};

struct channel {
  const struct channel_ops *ops; /* NULL: not open */
  int fd;                       /* -1 if there is none */
  bool can_splice;              /* bytes may go through fd past recv, send */
  void *opaque;                 /* the backend's */
};

/* Takes over fd, a connected socket. */
extern void channel_of_socket (struct channel *ch, int fd);

/* Harmless on one that is not open. */
extern void channel_close (struct channel *ch);

/* Bytes that grow at the end and go at the front.  Zeroed is empty. */
struct buffer {
  uint8_t *data;
  size_t pos, len;              /* what is in it: [pos, len) */
  size_t cap;                   /* bytes allocated */
};

static inline size_t
buffer_size (const struct buffer *b)
{
  return b->len - b->pos;
}

static inline uint8_t *
buffer_bytes (const struct buffer *b)
{
  return b->data + b->pos;
}

/* Takes n bytes off the front. */
extern void buffer_take (struct buffer *b, size_t n);

/* Makes room for n more bytes at the end, the buffer being at most max bytes
 * then.  Returns where they go (data + len), or NULL and errno: EMSGSIZE,
 * ENOMEM. */
extern uint8_t *buffer_room (struct buffer *b, size_t n, size_t max);

/* Frees the memory; the buffer is empty. */
extern void buffer_free (struct buffer *b);

#endif /* NBDFLEECE_CHANNEL_H */
