/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Requests on NBD connections. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "conn_internal.h"
#include "extents.h"

static void
conn_link (struct conn *c, struct io *io)
{
  io->end = c;
  io->next = c->flight;
  io->prev = &c->flight;
  if (c->flight)
    c->flight->prev = &io->next;
  c->flight = io;
  c->nr_flight++;
}

void
conn_unlink (struct conn *c, struct io *io)
{
  *io->prev = io->next;
  if (io->next)
    io->next->prev = io->prev;
  io->next = NULL;
  c->nr_flight--;
}

static int
completed (void *opaque, int *error)
{
  struct io *io = opaque;

  conn_unlink (io->end, io);
  loop_complete (io, *error);
  return 1;
}

static struct conn *
least_busy (struct conn_set *set)
{
  struct conn *best = &set->conns[0];
  unsigned i;

  for (i = 1; i < set->nr; i++)
    if (set->conns[i].nr_flight < best->nr_flight)
      best = &set->conns[i];
  return best;
}

/* The connection to use for io, which is on its list then; NULL if the set is
 * not up, and then io has been completed. */
static struct conn *
begin (struct conn_set *set, struct io *io)
{
  struct conn *c;

  if (set->state != CONN_UP) {
    loop_complete (io, ENOTCONN);
    return NULL;
  }
  c = least_busy (set);
  conn_link (c, io);
  return c;
}

/* After the call: if libnbd did not take it, it will not call back. */
static void
submitted (struct conn *c, struct io *io, int64_t cookie)
{
  int err;

  c->touched = true;
  if (cookie != -1)
    return;
  err = conn_nbd_errno ();
  if (nbd_aio_is_dead (c->nbd) || nbd_aio_is_closed (c->nbd)) {
    conn_note_error (c, "");
    err = ENOTCONN;
  }
  conn_unlink (c, io);
  loop_complete (io, err);
}

static nbd_completion_callback
callback (struct io *io)
{
  return (nbd_completion_callback) { .callback = completed, .user_data = io };
}

void
conn_read (struct conn_set *set, struct io *io)
{
  struct conn *c = begin (set, io);

  if (c)
    submitted (c, io, nbd_aio_pread (c->nbd, io->buf, io->count, io->offset,
                                     callback (io), 0));
}

void
conn_write (struct conn_set *set, struct io *io)
{
  struct conn *c = begin (set, io);

  if (c)
    submitted (c, io, nbd_aio_pwrite (c->nbd, io->buf, io->count, io->offset,
                                      callback (io), 0));
}

void
conn_zero (struct conn_set *set, struct io *io)
{
  struct conn *c = begin (set, io);

  if (c)
    submitted (c, io, nbd_aio_zero (c->nbd, io->count, io->offset,
                                    callback (io), 0));
}

void
conn_flush (struct conn_set *set, struct io *io)
{
  struct conn *c = begin (set, io);

  if (c)
    submitted (c, io, nbd_aio_flush (c->nbd, callback (io), 0));
}

/* The type of an extent by its flags.  A hole of unknown content (HOLE without
 * ZERO) has to be read. */
static enum reader_extent
type_of (uint32_t flags)
{
  return flags & LIBNBD_STATE_ZERO ? READER_HOLE : READER_DATA;
}

static int
got_extents (void *opaque, const char *context, uint64_t offset,
             uint32_t *entries, size_t nr_entries, int *error)
{
  struct io *io = opaque;
  struct extent_list *list = io->list;
  size_t i;

  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0
      || offset != list->raw_end)
    return 0;
  for (i = 0; i + 1 < nr_entries; i += 2)
    if (entries[i] == 0
        || extents_add (list, entries[i], type_of (entries[i + 1])) == -1) {
      *error = EPROTO;
      return -1;
    }
  return 0;
}

void
conn_extents (struct conn_set *set, struct io *io)
{
  struct conn *c = begin (set, io);
  struct extent_list *list = io->list;
  nbd_extent_callback cb = { .callback = got_extents, .user_data = io };
  int64_t cookie;

  if (!c)
    return;
  io->offset = list->raw_end;
  cookie = nbd_aio_block_status (c->nbd, io->count, io->offset, cb,
                                 callback (io), 0);
  submitted (c, io, cookie);
}
