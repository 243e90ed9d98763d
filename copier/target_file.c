/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Target: a raw file or a block device. */

/* A file that does not exist, or is empty, or is going to be overwritten as a
 * whole, starts as one hole of the disk's size, so zeroes need not be written
 * at all.  A file that holds something is never made longer by a copy: one
 * that is too small is more likely the wrong one.  One that is too long is
 * cut to the disk's size when the job has succeeded.
 *
 * Where two jobs were to write to one file, the second is refused (flock), and
 * a block device that is in use by the kernel, such as a mounted one, too
 * (O_EXCL). */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "offload.h"
#include "replace.h"
#include "scratch.h"
#include "target.h"

#define ZERO_MAX (UINT64_C (16) * 1024 * 1024 * 1024)

struct target_file {
  struct target base;
  struct pool *pool;
  const struct target_params *params;
  int fd;
  bool created, block;
  /* Whether anything was written.  Any thread sets it; free reads it when
   * they have ended. */
  atomic_bool wrote;
  /* How zeroing is done: ways of zero_ways that were refused are passed by.
   * Any thread may raise it, relaxed: at worst a way is refused twice. */
  _Atomic unsigned zero_way;
};

static const int zero_ways[] = {
  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
};
#define NR_ZERO_WAYS (sizeof zero_ways / sizeof zero_ways[0])

int
target_take (struct target_params *params, const char *path, const char *what)
{
  struct stat st;
  struct target_taken *t = &params->taken[params->nr_taken];

  if (stat (path, &st) == -1)
    return -1;
  if (params->nr_taken == TARGET_TAKEN_MAX) {
    errno = E2BIG;
    return -1;
  }
  *t = (struct target_taken) { what, st.st_dev, st.st_ino };
  if (S_ISBLK (st.st_mode))
    *t = (struct target_taken) { what, st.st_rdev, 0 };
  params->nr_taken++;
  return 0;
}

const char *
target_clash (const struct target_params *params, const struct stat *st)
{
  bool block = S_ISBLK (st->st_mode);
  dev_t dev = block ? st->st_rdev : st->st_dev;
  ino_t ino = block ? 0 : st->st_ino;
  unsigned i;

  for (i = 0; i < params->nr_taken; i++)
    if (params->taken[i].dev == dev && params->taken[i].ino == ino)
      return params->taken[i].what;
  return NULL;
}

static int
open_or_create (struct target_file *t, struct stat *st)
{
  const char *path = t->base.name;
  int flags = O_WRONLY | O_CLOEXEC | O_NOCTTY;

  if (stat (path, st) == 0) {
    if (!S_ISREG (st->st_mode) && !S_ISBLK (st->st_mode)) {
      errno = EINVAL;
      return message_set (&t->base.why, "%s: the target is %s", path,
                          S_ISDIR (st->st_mode) ? "a directory"
                          : "neither a file nor a block device");
    }
    t->block = S_ISBLK (st->st_mode);
  }
  else if (errno == ENOENT) {
    flags |= O_CREAT | O_EXCL;
    t->created = true;
  }
  if (t->block)
    flags |= O_EXCL;
  t->fd = open (path, flags, 0600);
  if (t->fd == -1 || fstat (t->fd, st) == -1) {
    t->created = false;
    return message_set (&t->base.why, "%s: the target cannot be written: %s",
                        path, strerror (errno));
  }
  return 0;
}

static int
judge (struct target_file *t, const struct stat *st, uint64_t *size)
{
  const char *clash = target_clash (t->params, st);
  off_t end = lseek (t->fd, 0, SEEK_END);

  if (clash) {
    errno = EINVAL;
    return message_set (&t->base.why, "%s: the target is %s", t->base.name,
                        clash);
  }
  if (flock (t->fd, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK)
    return message_set (&t->base.why, "%s: the target is in use",
                        t->base.name);
  if (end == -1)
    return message_set (&t->base.why, "%s: %s", t->base.name,
                        strerror (errno));
  *size = end;
  if (*size < t->params->size && (t->block || *size > 0)) {
    errno = ENOSPC;
    return message_set (&t->base.why, "%s: the target is smaller than the "
                        "disk: %llu bytes, not %llu", t->base.name,
                        (unsigned long long) *size,
                        (unsigned long long) t->params->size);
  }
  if (*size > t->params->size && t->params->exact) {
    errno = EINVAL;
    return message_set (&t->base.why, "%s: the target has another size than "
                        "the disk: %llu bytes, not %llu", t->base.name,
                        (unsigned long long) *size,
                        (unsigned long long) t->params->size);
  }
  return 0;
}

static int
prepare (struct target_file *t, uint64_t size)
{
  int sector = 512;

  t->base.min_block = 1;
  t->base.zero_run = 4096;
  if (t->block) {
    t->base.size = size;
    if (ioctl (t->fd, BLKSSZGET, &sector) == 0 && sector > 0)
      t->base.min_block = sector;
    t->base.zero_run = 64 * 1024;
    return 0;
  }
  t->base.size = t->params->size;
  t->base.known_zero = size == 0 || t->params->whole;
  if ((t->base.known_zero && ftruncate (t->fd, 0) == -1)
      || (size < t->params->size || t->base.known_zero ?
          ftruncate (t->fd, t->params->size) : 0) == -1)
    return message_set (&t->base.why, "%s: cannot be made %llu bytes long: %s",
                        t->base.name, (unsigned long long) t->params->size,
                        strerror (errno));
  return 0;
}

static void
file_connect (struct target *base, struct io *io)
{
  struct target_file *t = (struct target_file *) base;
  struct stat st;
  uint64_t size = 0;
  int err = 0;

  if (t->fd == -1
      && (open_or_create (t, &st) == -1 || judge (t, &st, &size) == -1
          || t->params->claim (t->params->opaque, &base->why) == -1
          || prepare (t, size) == -1)) {
    err = errno;
    base->final = true;
  }
  base->can_flush = true;
  base->can_zero = true;
  base->max_zero = ZERO_MAX;
  base->max_write = 32 * 1024 * 1024;
  loop_complete (io, err);
}

static void
file_disconnect (struct target *base)
{
  (void) base;
}

static void
submit (struct target *base, struct io *io, int (*run) (struct io *))
{
  io->end = base;
  io->run = run;
  pool_submit (((struct target_file *) base)->pool, io);
}

static int
run_write (struct io *io)
{
  struct target_file *t = io->end;

  atomic_store_explicit (&t->wrote, true, memory_order_relaxed);
  return full_pwrite (t->fd, io->buf, io->count, io->offset);
}

static int
run_zero (struct io *io)
{
  struct target_file *t = io->end;
  unsigned way;

  atomic_store_explicit (&t->wrote, true, memory_order_relaxed);
  while ((way = atomic_load_explicit (&t->zero_way, memory_order_relaxed))
         < NR_ZERO_WAYS) {
    if (fallocate (t->fd, zero_ways[way], io->offset, io->count) == 0)
      return 0;
    if (errno == EINTR)
      continue;
    if (errno != EOPNOTSUPP && errno != ENOSYS && errno != ENODEV)
      return -1;
    atomic_store_explicit (&t->zero_way, way + 1, memory_order_relaxed);
  }
  errno = ENOTSUP;
  return -1;
}

static int
run_flush (struct io *io)
{
  struct target_file *t = io->end;

  return fdatasync (t->fd);
}

static int
run_move (struct io *io)
{
  struct target_file *t = io->end;

  atomic_store_explicit (&t->wrote, true, memory_order_relaxed);
  return offload_copy (io->from, t->fd, io);
}

static int
run_finish (struct io *io)
{
  struct target_file *t = io->end;

  atomic_store_explicit (&t->wrote, true, memory_order_relaxed);
  if (!t->block && ftruncate (t->fd, t->params->size) == -1)
    return -1;
  if (fsync (t->fd) == -1)
    return -1;
  return t->created ? sync_directory (t->base.name) : 0;
}

static void
file_write (struct target *base, struct io *io)
{
  submit (base, io, run_write);
}

static void
file_zero (struct target *base, struct io *io)
{
  submit (base, io, run_zero);
}

static void
file_flush (struct target *base, struct io *io)
{
  submit (base, io, run_flush);
}

static void
file_move (struct target *base, const struct reader *source, struct io *io)
{
  io->from = source;
  submit (base, io, run_move);
}

static void
file_finish (struct target *base, struct io *io)
{
  submit (base, io, run_finish);
}

static void
file_free (struct target *base)
{
  struct target_file *t = (struct target_file *) base;

  if (t->created && !atomic_load (&t->wrote))
    unlink (base->name);
  if (t->fd != -1)
    close (t->fd);
  free (t);
}

static const struct target_ops file_ops = {
  .connect = file_connect,
  .disconnect = file_disconnect,
  .write = file_write,
  .zero = file_zero,
  .flush = file_flush,
  .move = file_move,
  .finish = file_finish,
  .free = file_free,
};

struct target *
target_file_new (struct loop *l, struct pool *pool, const char *path,
                 const struct target_params *params)
{
  struct target_file *t = calloc (1, sizeof *t);

  (void) l;
  if (!t)
    return NULL;
  t->base.ops = &file_ops;
  t->base.name = path;
  t->base.flush_kind = "fdatasync";
  t->base.offload = OFFLOAD_REFLINK;
  t->pool = pool;
  t->params = params;
  t->fd = -1;
  return &t->base;
}
