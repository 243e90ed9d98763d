/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Source: a qcow2 image, read through a qemu-nbd of our own. */

/* A qcow2 image has whole sectors; the disk that it is a backup of may end
 * within the last one.  The record beside the image knows.
 *
 * qemu-nbd has the image and its backing files open for reading only, which it
 * refuses if somebody writes to one of them. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "qcow2.h"
#include "qemu.h"
#include "record.h"
#include "source_nbd.h"

struct source_qcow2 {
  struct source_nbd nbd;        /* first */
  struct pool *pool;
  char path[PATH_MAX];          /* absolute */
  struct child child;
  struct io *waiting;           /* whom to tell of a connect */
};

static char *
text (const char *s)
{
  return (char *) (uintptr_t) s; /* argv's are not written to */
}

static int
serve (void *opaque, struct message *why)
{
  struct source_qcow2 *s = opaque;
  char *argv[] = {
    text ("qemu-nbd"), text ("--format=qcow2"), text ("--shared=1"),
    text ("--read-only"), s->path, NULL
  };

  return qemu_serve (&s->child, argv, -1, why);
}

/* The disk's size, if the image has it rounded up. */
static void
find_size (struct source_qcow2 *s)
{
  struct message why;
  struct record r;

  if (record_read (s->path, &r, &why) == 1
      && qcow2_size (r.id.size) == s->nbd.base.size)
    s->nbd.base.size = r.id.size;
}

static int
run_wait (struct io *io)
{
  struct source_qcow2 *s = io->end;
  struct message said;

  /* It has let go of our connection, so it is about to end. */
  if (child_wait (&s->child, &said) == -1)
    message_set (&s->nbd.base.why, "%s: %s", s->nbd.base.name, said.text);
  return 0;
}

static void
failed (struct io *io)
{
  struct source_qcow2 *s = io->owner;
  struct io *waiting = s->waiting;

  loop_io_free (io);
  s->waiting = NULL;
  loop_complete (waiting, EIO);
}

static void
connect_done (struct io *io)
{
  struct source_qcow2 *s = io->owner;
  struct io *waiting = s->waiting;
  int error = io->error;

  if (error && error != ETIMEDOUT && s->child.pid > 0) {
    io->done = failed;
    io->end = s;
    io->run = run_wait;
    pool_submit (s->pool, io);
    return;
  }
  if (!error)
    find_size (s);
  s->nbd.base.tells_lost = true; /* nothing ever is */
  loop_io_free (io);
  s->waiting = NULL;
  loop_complete (waiting, error);
}

static void
qcow2_connect (struct source *base, struct io *io)
{
  struct source_qcow2 *s = (struct source_qcow2 *) base;
  struct io *inner = loop_io (s->nbd.loop, connect_done, s);

  if (!inner) {
    loop_complete (io, ENOMEM);
    return;
  }
  child_stop (&s->child);
  s->waiting = io;
  source_nbd_connect (base, inner);
}

static void
qcow2_free (struct source *base)
{
  struct source_qcow2 *s = (struct source_qcow2 *) base;

  conn_free (s->nbd.set);
  child_stop (&s->child);
  free (s);
}

static const struct source_ops qcow2_ops = {
  .connect = qcow2_connect,
  .disconnect = source_nbd_disconnect,
  .extents = source_nbd_extents,
  .read = source_nbd_read,
  .free = qcow2_free,
};

struct source *
source_qcow2_new (struct loop *l, struct pool *pool, const char *name)
{
  struct source_qcow2 *s = calloc (1, sizeof *s);
  struct conn_params conn = {
    .socket = serve, .opaque = s, .connections = 1, .extents = true,
  };
  struct qcow2_header h;

  if (!s || source_nbd_init (&s->nbd, l, name, &conn) == -1) {
    free (s);
    return NULL;
  }
  s->nbd.base.ops = &qcow2_ops;
  s->pool = pool;
  s->child = (struct child) { 0, -1 };
  if (qemu_absolute (name + sizeof "qcow2:" - 1, s->path, name,
                     &s->nbd.base.why) == 0)
    qcow2_read_header (s->path, &h, &s->nbd.base.why);
  return &s->nbd.base;
}
