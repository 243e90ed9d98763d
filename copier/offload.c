/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Reflink and copy_file_range. */

/* To clone a range of a file, the kernel writes its dirty pages out first, and
 * holds off writers of the file from then until the extents are shared.  The
 * source may be the live disk, and its writer the guest.  So we write the
 * pages out before, while nobody is held off, and leave little for the kernel
 * to do; and the job moves OFFLOAD_MAX bytes at a time, which bounds the
 * number of extents one call has to deal with. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "offload.h"
#include "scratch.h"

/* Bytes from which on holes are looked for. */
#define HOLES_FROM (256 * 1024)

struct move {
  const struct reader *source;
  struct io *io;
  int fd;                       /* of the target */
};

static int
copy_data (int from, int to, uint64_t offset, uint64_t count)
{
  off_t a = offset, b = offset;

  while (count > 0) {
    ssize_t n = copy_file_range (from, &a, to, &b, count, 0);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      return -1;
    if (n == 0) {               /* the source ends early */
      errno = EIO;
      return -1;
    }
    count -= n;
  }
  return 0;
}

/* Copies data and punches holes: the kernel would read and write them.  That
 * the holes are still there afterwards is for reader_copy to find out.  In a
 * short range it is not worth to look. */
static int
copy_range (int from, int to, uint64_t offset, uint64_t count)
{
  const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  int64_t n;
  int is_hole;

  if (count < HOLES_FROM)
    return copy_data (from, to, offset, count);
  for (; count > 0; offset += n, count -= n) {
    n = file_extent (from, offset, count, &is_hole);
    if (n == -1)
      return -1;
    if (is_hole && fallocate (to, punch, offset, n) == 0)
      continue;
    if (copy_data (from, to, offset, n) == -1)
      return -1;
  }
  return 0;
}

static int
reflink (const struct move *m, int from, uint64_t offset, uint64_t count)
{
  struct file_clone_range range = {
    .src_fd = from, .src_offset = offset, .src_length = count,
    .dest_offset = offset,
  };

  if (from == m->source->live->fd)
    sync_file_range (from, offset, count, SYNC_FILE_RANGE_WAIT_BEFORE
                     | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  if (ioctl (m->fd, FICLONERANGE, &range) == 0)
    return 0;
  /* The last bytes of an odd disk need not be a block of the file system. */
  if (errno == EINVAL && (offset + count) % 4096 != 0)
    return copy_range (from, m->fd, offset, count);
  return -1;
}

static int
move (void *opaque, int from, uint64_t offset, uint64_t count)
{
  struct move *m = opaque;

  m->io->moved += count;
  if (m->io->method == OFFLOAD_REFLINK)
    return reflink (m, from, offset, count);
  return copy_range (from, m->fd, offset, count);
}

int
offload_copy (const struct reader *source, int fd, struct io *io)
{
  struct move m = { .source = source, .io = io, .fd = fd };

  io->moved = 0;
  return reader_copy (source, io->offset, io->count, move, &m);
}

bool
offload_refused (int err)
{
  switch (err) {
  case EXDEV: case EOPNOTSUPP: case EINVAL: case ENOSYS: case ENOTTY:
  case EBADF: case ETXTBSY: case EISDIR:
    return true;
  }
  return false;
}

const char *
offload_name (enum offload method)
{
  switch (method) {
  case OFFLOAD_REFLINK: return "reflink";
  case OFFLOAD_COPY_FILE_RANGE: return "copy_file_range";
  case OFFLOAD_NONE: break;
  }
  return "none";
}
