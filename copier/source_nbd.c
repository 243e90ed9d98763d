/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Source: an export of an NBD server. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "source_nbd.h"

/* Longest block status request.  A multiple of every block size, and below
 * the 32 bits of the protocol. */
#define EXTENTS_WINDOW (1024 * 1024 * 1024)

static void
keep_reason (struct source_nbd *s)
{
  const char *why = conn_why (s->set, &s->base.final);

  if (why[0])
    message_set (&s->base.why, "%s: %s", s->base.name, why);
}

static void
connect_done (struct io *io)
{
  struct source_nbd *s = io->owner;
  const struct conn_info *info = conn_info (s->set);
  struct io *waiting = s->connecting;
  int error = io->error;

  loop_io_free (io);
  s->connecting = NULL;
  if (error)
    keep_reason (s);
  else {
    s->base.size = info->size;
    s->base.min_block = info->min_block;
    s->base.preferred_block = info->preferred_block;
    s->base.max_read = info->max_block;
    s->base.can_extents = info->can_extents;
  }
  loop_complete (waiting, error);
}

void
source_nbd_connect (struct source *base, struct io *io)
{
  struct source_nbd *s = (struct source_nbd *) base;
  struct io *inner = loop_io (s->loop, connect_done, s);

  if (!inner) {
    loop_complete (io, ENOMEM);
    return;
  }
  s->connecting = io;
  conn_connect (s->set, inner);
}

void
source_nbd_disconnect (struct source *base)
{
  struct source_nbd *s = (struct source_nbd *) base;

  if (conn_lost (s->set))
    keep_reason (s);
  conn_disconnect (s->set, !conn_lost (s->set));
}

void
source_nbd_extents (struct source *base, struct io *io)
{
  conn_extents (((struct source_nbd *) base)->set, io);
}

void
source_nbd_read (struct source *base, struct io *io)
{
  conn_read (((struct source_nbd *) base)->set, io);
}

static void
nbd_source_free (struct source *base)
{
  struct source_nbd *s = (struct source_nbd *) base;

  conn_free (s->set);
  free (s);
}

static const struct source_ops nbd_ops = {
  .connect = source_nbd_connect,
  .disconnect = source_nbd_disconnect,
  .extents = source_nbd_extents,
  .read = source_nbd_read,
  .free = nbd_source_free,
};

int
source_nbd_init (struct source_nbd *s, struct loop *l, const char *name,
                 const struct conn_params *conn)
{
  s->base.name = name;
  s->base.extents_window = EXTENTS_WINDOW;
  s->loop = l;
  s->set = conn_new (l, conn);
  return s->set ? 0 : -1;
}

struct source *
source_nbd_new (struct loop *l, const char *uri, unsigned connections)
{
  struct conn_params conn = {
    .uri = uri, .connections = connections, .extents = true,
  };
  struct source_nbd *s = calloc (1, sizeof *s);

  if (!s || source_nbd_init (s, l, uri, &conn) == -1) {
    free (s);
    return NULL;
  }
  s->base.ops = &nbd_ops;
  return &s->base;
}
