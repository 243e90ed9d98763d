/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Target: an export of an NBD server. */

/* Zeroes go as WRITE_ZEROES without NO_HOLE: a hole will do.  The FAST_ZERO
 * flag is not used: it refuses where the server would have to write, and then
 * we would send the zeroes ourselves, which is never less work.
 *
 * Nothing is assumed about what the export holds, so holes are sent too. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "target_nbd.h"

/* Longest WRITE_ZEROES: some servers do it in one go. */
#define ZERO_MAX (1024 * 1024 * 1024)

/* A shorter run of zeroes among data is sent as data: two more requests cost
 * more than its bytes. */
#define ZERO_RUN (16 * 1024)

static void
keep_reason (struct target_nbd *t)
{
  const char *why = conn_why (t->set, &t->base.final);

  if (why[0])
    message_set (&t->base.why, "%s: %s", t->base.name, why);
}

static int
judge (struct target_nbd *t, const struct conn_info *info)
{
  int err = 0;

  if (info->read_only) {
    err = EROFS;
    message_set (&t->base.why, "%s: the target is read-only", t->base.name);
  }
  else if (info->size < t->disk_size) {
    err = ENOSPC;
    message_set (&t->base.why, "%s: the target is smaller than the disk: %llu "
                 "bytes, not %llu", t->base.name,
                 (unsigned long long) info->size,
                 (unsigned long long) t->disk_size);
  }
  else if (info->size != t->disk_size && t->exact) {
    err = EINVAL;
    message_set (&t->base.why, "%s: the target has another size than the disk:"
                 " %llu bytes, not %llu", t->base.name,
                 (unsigned long long) info->size,
                 (unsigned long long) t->disk_size);
  }
  t->base.final = err != 0;
  return err;
}

static void
adopt (struct target_nbd *t, const struct conn_info *info)
{
  struct target *b = &t->base;

  b->size = info->size;
  b->min_block = info->min_block;
  b->max_write = info->max_block;
  b->max_zero = ZERO_MAX;
  b->zero_run = info->min_block > ZERO_RUN ? info->min_block : ZERO_RUN;
  b->can_zero = info->can_zero;
  b->can_flush = info->can_flush;
  b->flush_kind = info->can_flush ? "nbd" : "none";
}

static void
connect_done (struct io *io)
{
  struct target_nbd *t = io->owner;
  struct io *waiting = t->connecting;
  int error = io->error;

  loop_io_free (io);
  t->connecting = NULL;
  if (error)
    keep_reason (t);
  else {
    error = judge (t, conn_info (t->set));
    if (error)
      conn_disconnect (t->set, true);
    else
      adopt (t, conn_info (t->set));
  }
  loop_complete (waiting, error);
}

void
target_nbd_connect (struct target *base, struct io *io)
{
  struct target_nbd *t = (struct target_nbd *) base;
  struct io *inner = loop_io (t->loop, connect_done, t);

  if (!inner) {
    loop_complete (io, ENOMEM);
    return;
  }
  t->connecting = io;
  conn_connect (t->set, inner);
}

void
target_nbd_disconnect (struct target *base)
{
  struct target_nbd *t = (struct target_nbd *) base;

  if (conn_lost (t->set))
    keep_reason (t);
  conn_disconnect (t->set, !conn_lost (t->set));
}

void
target_nbd_write (struct target *base, struct io *io)
{
  conn_write (((struct target_nbd *) base)->set, io);
}

void
target_nbd_zero (struct target *base, struct io *io)
{
  conn_zero (((struct target_nbd *) base)->set, io);
}

void
target_nbd_flush (struct target *base, struct io *io)
{
  conn_flush (((struct target_nbd *) base)->set, io);
}

/* The server keeps what it has flushed whatever we do now. */
static void
nbd_finish (struct target *base, struct io *io)
{
  target_nbd_disconnect (base);
  loop_complete (io, 0);
}

static void
nbd_free (struct target *base)
{
  struct target_nbd *t = (struct target_nbd *) base;

  conn_free (t->set);
  free (t);
}

static const struct target_ops nbd_ops = {
  .connect = target_nbd_connect,
  .disconnect = target_nbd_disconnect,
  .write = target_nbd_write,
  .zero = target_nbd_zero,
  .flush = target_nbd_flush,
  .finish = nbd_finish,
  .free = nbd_free,
};

int
target_nbd_init (struct target_nbd *t, struct loop *l, const char *name,
                 const struct conn_params *conn, uint64_t disk_size)
{
  t->base.name = name;
  t->base.offload = OFFLOAD_NONE;
  t->base.flush_kind = "nbd";
  t->loop = l;
  t->disk_size = disk_size;
  t->set = conn_new (l, conn);
  return t->set ? 0 : -1;
}

struct target *
target_nbd_new (struct loop *l, const char *uri,
                const struct target_params *params)
{
  struct conn_params conn = { .uri = uri, .connections = params->connections };
  struct target_nbd *t = calloc (1, sizeof *t);

  if (!t || target_nbd_init (t, l, uri, &conn, params->size) == -1) {
    free (t);
    return NULL;
  }
  t->exact = params->exact;
  t->base.ops = &nbd_ops;
  return &t->base;
}
