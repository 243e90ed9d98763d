/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Plain sockets as channels, and buffers. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"

static ssize_t
socket_recv (struct channel *ch, void *buf, size_t size)
{
  ssize_t n;

  do
    n = recv (ch->fd, buf, size, MSG_DONTWAIT);
  while (n == -1 && errno == EINTR);
  return n;
}

static ssize_t
socket_send (struct channel *ch, const void *buf, size_t size, bool more)
{
  ssize_t n;

  do
    n = send (ch->fd, buf, size,
              MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  while (n == -1 && errno == EINTR);
  return n;
}

static void
socket_close (struct channel *ch)
{
  close (ch->fd);
}

static const struct channel_ops socket_ops = {
  .recv = socket_recv,
  .send = socket_send,
  .close = socket_close,
};

void
channel_of_socket (struct channel *ch, int fd)
{
  *ch = (struct channel) { .ops = &socket_ops, .fd = fd, .can_splice = true };
}

void
channel_close (struct channel *ch)
{
  if (ch->ops)
    ch->ops->close (ch);
  *ch = (struct channel) { .fd = -1 };
}

void
buffer_take (struct buffer *b, size_t n)
{
  b->pos += n;
  if (b->pos == b->len)
    b->pos = b->len = 0;
}

uint8_t *
buffer_room (struct buffer *b, size_t n, size_t max)
{
  size_t used = buffer_size (b), cap = b->cap;
  uint8_t *data;

  if (n <= b->cap - b->len)
    return b->data + b->len;
  if (used > max || n > max - used) {
    errno = EMSGSIZE;
    return NULL;
  }
  if (used > 0)
    memmove (b->data, b->data + b->pos, used);
  b->pos = 0;
  b->len = used;
  if (n > cap - used) {
    cap = cap < 256 ? 256 : cap;
    while (cap < used + n)
      cap *= 2;
    if (cap > max)
      cap = max;
    data = realloc (b->data, cap);
    if (!data)
      return NULL;
    b->data = data;
    b->cap = cap;
  }
  return b->data + b->len;
}

void
buffer_free (struct buffer *b)
{
  free (b->data);
  *b = (struct buffer) { 0 };
}
