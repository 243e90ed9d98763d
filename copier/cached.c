/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Reading what is in memory, without waiting for a disk. */

#include <config.h>

#include <errno.h>
#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "cached.h"

static bool
is_tmpfs (int fd)
{
  struct statfs fs;

  return fstatfs (fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* A file system that cannot tell (EOPNOTSUPP) is not asked again; tmpfs is one,
 * and has all of it in memory. */
static void
look_at_files (struct cached *c, const int *fds, unsigned nr)
{
  unsigned i;

  c->in_memory = true;
  for (i = 0; i < nr; i++)
    c->in_memory = c->in_memory && is_tmpfs (fds[i]);
  c->never = !c->in_memory;
}

int
cached_read (struct cached *c, const int *fds, unsigned nr, int fd, void *buf,
             uint64_t count, uint64_t offset)
{
  struct iovec v = { buf, count };
  ssize_t n;

  errno = EAGAIN;
  if (c->never)
    return -1;
  n = preadv2 (fd, &v, 1, offset, c->in_memory ? 0 : RWF_NOWAIT);
  if (n == -1 && errno == EOPNOTSUPP)
    look_at_files (c, fds, nr);
  if (n >= 0 && (uint64_t) n < count) {
    errno = EAGAIN;
    return -1;
  }
  return n == -1 ? -1 : 0;
}
