/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Target: a qcow2 image, written through a qemu-nbd of our own. */

/* qemu-nbd ends by itself when our connection does.  The job has completed
 * only after it has ended well, since only then the image is closed.  Until
 * then there is a lock on the image (flock), which outlives us if we are
 * killed; so a copier that goes on with the job waits for the qemu-nbd of the
 * one before, instead of being told that the image is in use.
 *
 * The image's size is the disk's, rounded up to the 512 bytes that qcow2 knows;
 * what is past the end of the disk reads as zeroes.
 *
 * On top of a backing file, what is zero has to be said: a cluster that is not
 * allocated would show the older backup.  So known_zero is never true there,
 * and QEMU makes a cluster of zeroes of each WRITE_ZEROES, whose space it
 * frees but which stays in the way of the backing file.
 *
 * To compress, QEMU's filter `compress' goes on top of the image.  It wants
 * whole clusters of qcow2 (COMPRESS_BLOCK), so that is the smallest block; and
 * an image of whole clusters, so while it is written the image is longer, and
 * cut when the job has completed.  And it cannot write a compressed cluster a
 * second time, which a copy may have to do that was interrupted or had an
 * error: then each range is zeroed before it is written (rewriting). */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "qcow2.h"
#include "qemu.h"
#include "target_nbd.h"

#define COMPRESS_BLOCK (64 * 1024)

struct target_qcow2 {
  struct target_nbd nbd;        /* first */
  struct pool *pool;
  const struct target_params *params;
  char path[PATH_MAX];          /* absolute */
  struct child child;
  bool claimed, created, wrote, rewriting;
  int lock;                     /* descriptor of the image, locked; -1 when
                                 * the child has it */
  struct io *waiting;           /* whom to tell of a connect */
};

#define LOCK_TRIES 150
#define LOCK_PAUSE_NS (100 * 1000 * 1000)

static char *
text (const char *s)
{
  return (char *) (uintptr_t) s; /* argv's are not written to */
}

/* How long the image is while it is written. */
static uint64_t
working_size (const struct target_qcow2 *t)
{
  uint64_t block = t->params->compress ? COMPRESS_BLOCK : QCOW2_SECTOR;

  return (t->params->size + block - 1) / block * block;
}

static int
claim (struct target_qcow2 *t)
{
  if (t->claimed)
    return 0;
  t->claimed = true;
  return t->params->claim (t->params->opaque, &t->nbd.base.why);
}

static int
create_image (struct target_qcow2 *t)
{
  char size[32], options[64] = "cluster_size=65536";
  char *argv[14] = { text ("qemu-img"), text ("create"), text ("-q"),
                     text ("-f"), text ("qcow2"), text ("-o"), options };
  int n = 7;

  if (claim (t) == -1)
    return -1;
  snprintf (size, sizeof size, "%llu", (unsigned long long) working_size (t));
  if (t->params->compress)
    snprintf (options, sizeof options, "cluster_size=%d,compression_type=%s",
              COMPRESS_BLOCK, t->params->compress);
  if (t->params->backing) {
    argv[n++] = text ("-F");
    argv[n++] = text (t->params->backing_format);
    argv[n++] = text ("-b");
    argv[n++] = text (t->params->backing);
  }
  argv[n++] = t->path;
  argv[n++] = size;
  if (qemu_img (argv, t->nbd.base.name, &t->nbd.base.why) == -1) {
    unlink (t->path);
    return -1;
  }
  t->created = true;
  return 0;
}

/* Makes sure that there is an image that the target may be. */
static int
find_or_create (struct target_qcow2 *t)
{
  struct message *why = &t->nbd.base.why;
  const char *name = t->nbd.base.name, *clash;
  struct stat st;

  if (stat (t->path, &st) == -1) {
    if (errno == ENOENT)
      return create_image (t);
    return message_set (why, "%s: %s", name, strerror (errno));
  }
  clash = target_clash (t->params, &st);
  if (S_ISDIR (st.st_mode))
    clash = "a directory";
  if (clash) {
    errno = EINVAL;
    return message_set (why, "%s: the target is %s", name, clash);
  }
  return 0;
}

/* Before an image that there was is written to: it must be of the disk, and it
 * gets its working size. */
static int
check_image (struct target_qcow2 *t)
{
  struct message *why = &t->nbd.base.why;
  uint64_t final = qcow2_size (t->params->size);
  struct qcow2_header h;
  char size[32];
  char *argv[] = { text ("qemu-img"), text ("resize"), text ("-q"),
                   text ("-f"), text ("qcow2"), t->path, size, NULL };

  if (t->created)
    return 0;
  t->rewriting = true;
  if (qcow2_read_header (t->path, &h, why) == -1)
    return -1;
  if (h.size != final && h.size != working_size (t)) {
    errno = EINVAL;
    return message_set (why, "%s: the image is for another disk: %llu bytes, "
                        "not %llu", t->nbd.base.name,
                        (unsigned long long) h.size,
                        (unsigned long long) t->params->size);
  }
  if (t->params->compress && h.cluster_size != COMPRESS_BLOCK) {
    errno = EINVAL;
    return message_set (why, "%s: its clusters are not of %d bytes, which "
                        "--compress needs", t->nbd.base.name, COMPRESS_BLOCK);
  }
  if (h.size >= working_size (t))
    return 0;
  snprintf (size, sizeof size, "%llu", (unsigned long long) working_size (t));
  return qemu_img (argv, t->nbd.base.name, why);
}

/* conn_params.socket: starts a qemu-nbd. */
static int
serve (void *opaque, struct message *why)
{
  struct target_qcow2 *t = opaque;
  char *argv[] = {
    text ("qemu-nbd"), text ("--format=qcow2"), text ("--shared=1"),
    text ("--discard=unmap"), text ("--cache=writeback"), t->path, NULL
  };
  char options[2 * PATH_MAX + 128] = "driver=compress,file.driver=qcow2,"
    "file.file.driver=file,file.file.filename=";
  int fd;

  if (t->params->compress) {
    qemu_quote (options, sizeof options, t->path);
    argv[1] = text ("--image-opts");
    argv[5] = options;
  }
  fd = qemu_serve (&t->child, argv, t->lock, why);
  close (t->lock);              /* the child's now */
  t->lock = -1;
  return fd;
}

static void
connect_done (struct io *io)
{
  struct target_qcow2 *t = io->owner;
  struct target *base = &t->nbd.base;
  struct io *waiting = t->waiting;
  struct message said;
  int error = io->error;

  loop_io_free (io);
  t->waiting = NULL;
  base->known_zero = t->created && !t->wrote && !t->params->backing;
  if (t->params->compress && base->min_block < COMPRESS_BLOCK)
    base->min_block = COMPRESS_BLOCK;
  if (error && error != ETIMEDOUT && !base->final && t->child.pid > 0
      && child_wait (&t->child, &said) == -1)
    /* It has let go of our connection, so it is about to end. */
    message_set (&base->why, "%s: %s", base->name, said.text);
  else if (!error && claim (t) == -1) {
    /* Not before: somebody else might have had it open. */
    error = errno ? errno : EIO;
    base->final = true;
    target_nbd_disconnect (base);
  }
  loop_complete (waiting, error);
}

static int
run_lock (struct io *io)
{
  const struct timespec pause = { 0, LOCK_PAUSE_NS };
  struct target_qcow2 *t = io->end;
  int tries;

  for (tries = 0; flock (t->lock, LOCK_EX | LOCK_NB) == -1; tries++) {
    if (errno != EWOULDBLOCK)
      return 0;                 /* a file system that has no such locks */
    if (tries == LOCK_TRIES)
      return -1;
    nanosleep (&pause, NULL);
  }
  return 0;
}

static void
locked (struct io *io)
{
  struct target_qcow2 *t = io->owner;
  struct target *base = &t->nbd.base;
  int error = io->error;
  struct io *waiting = t->waiting;

  if (error)
    message_set (&base->why, "%s: the target is in use", base->name);
  else if (check_image (t) == -1)
    error = errno ? errno : EINVAL;
  if (error) {
    loop_io_free (io);
    t->waiting = NULL;
    base->final = true;
    loop_complete (waiting, error);
    return;
  }
  io->done = connect_done;
  target_nbd_connect (base, io);
}

/* Looks at the image, or makes it, and opens it for the lock. */
static int
open_image (struct target_qcow2 *t)
{
  if (find_or_create (t) == -1)
    return -1;
  if (t->lock == -1)
    t->lock = open (t->path, O_RDONLY | O_CLOEXEC);
  if (t->lock == -1)
    return message_set (&t->nbd.base.why, "%s: %s", t->nbd.base.name,
                        strerror (errno));
  return 0;
}

static void
qcow2_connect (struct target *base, struct io *io)
{
  struct target_qcow2 *t = (struct target_qcow2 *) base;
  struct io *inner;

  child_stop (&t->child);
  t->rewriting |= t->wrote;
  if (open_image (t) == -1) {
    base->final = true;
    loop_complete (io, errno ? errno : EINVAL);
    return;
  }
  inner = loop_io (t->nbd.loop, locked, t);
  if (!inner) {
    loop_complete (io, ENOMEM);
    return;
  }
  t->waiting = io;
  inner->end = t;
  inner->run = run_lock;
  pool_submit (t->pool, inner);
}

/* A write that compresses has failed: some of its clusters may be there. */
static void
write_done (struct io *io)
{
  struct io *outer = io->owner;
  struct target_qcow2 *t = io->list;

  if (io->error)
    t->rewriting = true;
  loop_complete (outer, io->error);
  loop_io_free (io);
}

static void
cleared (struct io *io)
{
  struct target_qcow2 *t = io->list;

  if (io->error) {
    write_done (io);
    return;
  }
  io->done = write_done;
  target_nbd_write (&t->nbd.base, io);
}

static void
qcow2_write (struct target *base, struct io *io)
{
  struct target_qcow2 *t = (struct target_qcow2 *) base;
  struct io *inner;

  t->wrote = true;
  if (!t->params->compress) {
    target_nbd_write (base, io);
    return;
  }
  inner = loop_io (t->nbd.loop, t->rewriting ? cleared : write_done, io);
  if (!inner) {
    loop_complete (io, ENOMEM);
    return;
  }
  inner->buf = io->buf;
  inner->offset = io->offset;
  inner->count = io->count;
  inner->list = t;
  if (t->rewriting)
    target_nbd_zero (base, inner);
  else
    target_nbd_write (base, inner);
}

static void
qcow2_zero (struct target *base, struct io *io)
{
  ((struct target_qcow2 *) base)->wrote = true;
  target_nbd_zero (base, io);
}

static int
run_wait (struct io *io)
{
  struct target_qcow2 *t = io->end;
  struct message said;

  if (child_wait (&t->child, &said) == 0)
    return 0;
  errno = EIO;
  return message_set (&t->nbd.base.why, "%s: %s", t->nbd.base.name, said.text);
}

/* The image is closed: cuts it to its final size if need be. */
static void
closed (struct io *io)
{
  struct target_qcow2 *t = io->list;
  uint64_t final = qcow2_size (t->params->size);
  struct io *outer = io->owner;
  char size[32];
  char *argv[] = { text ("qemu-img"), text ("resize"), text ("-q"),
                   text ("--shrink"), text ("-f"), text ("qcow2"), t->path,
                   size, NULL };
  int error = io->error;

  loop_io_free (io);
  snprintf (size, sizeof size, "%llu", (unsigned long long) final);
  if (!error && final < working_size (t)
      && qemu_img (argv, t->nbd.base.name, &t->nbd.base.why) == -1)
    error = EIO;
  loop_complete (outer, error);
}

static void
qcow2_finish (struct target *base, struct io *io)
{
  struct target_qcow2 *t = (struct target_qcow2 *) base;
  struct io *inner = loop_io (t->nbd.loop, closed, io);

  if (!inner) {
    loop_complete (io, ENOMEM);
    return;
  }
  t->wrote = true;
  target_nbd_disconnect (base);
  inner->end = inner->list = t;
  inner->run = run_wait;
  pool_submit (t->pool, inner);
}

static void
qcow2_free (struct target *base)
{
  struct target_qcow2 *t = (struct target_qcow2 *) base;

  conn_free (t->nbd.set);
  child_stop (&t->child);
  if (t->lock != -1)
    close (t->lock);
  if (t->created && !t->wrote)
    unlink (t->path);
  free (t);
}

static const struct target_ops qcow2_ops = {
  .connect = qcow2_connect,
  .disconnect = target_nbd_disconnect,
  .write = qcow2_write,
  .zero = qcow2_zero,
  .flush = target_nbd_flush,
  .finish = qcow2_finish,
  .free = qcow2_free,
};

struct target *
target_qcow2_new (struct loop *l, struct pool *pool, const char *name,
                  const struct target_params *params)
{
  struct target_qcow2 *t = calloc (1, sizeof *t);
  struct conn_params conn = { .socket = serve, .opaque = t, .connections = 1 };

  if (!t || target_nbd_init (&t->nbd, l, name, &conn, params->size) == -1) {
    free (t);
    return NULL;
  }
  t->nbd.base.ops = &qcow2_ops;
  t->pool = pool;
  t->params = params;
  t->child = (struct child) { 0, -1 };
  t->lock = -1;
  if (qemu_absolute (strchr (name, ':') + 1, t->path, name,
                     &t->nbd.base.why) == -1)
    t->nbd.base.final = true;
  return &t->nbd.base;
}
