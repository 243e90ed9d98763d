/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Sparse files: whole transfers, extents, holes. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broken.h"
#include "map.h"
#include "scratch.h"

int
scratch_create (const char *path, uint64_t size)
{
  int fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                 0600);

  if (fd == -1)
    return -1;
  if (ftruncate (fd, size) == -1) {
    int err = errno;

    close (fd);
    unlink (path);
    errno = err;
    return -1;
  }
  return fd;
}

int
scratch_open (const struct bmfile *map, bool writable, bool after_boot)
{
  struct stat st;
  int fd = open (map->fixed->scratch, (writable ? O_RDWR : O_RDONLY)
                 | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  int err;

  if (fd == -1)
    return -1;
  if (fstat (fd, &st) == -1)
    err = errno;
  else if (!S_ISREG (st.st_mode)
           || (map->owner != geteuid () && st.st_uid != map->owner)
           || (uint64_t) st.st_size != map->disk_size
           || st.st_ino != map->live->scratch_ino
           || (!after_boot && st.st_dev != map->live->scratch_dev))
    err = ESTALE;
  else
    return fd;
  close (fd);
  errno = err;
  return -1;
}

int
full_pread (int fd, void *buf, uint64_t count, uint64_t offset)
{
  while (count > 0) {
    ssize_t r = pread (fd, buf, count, offset);

    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1)
      return -1;
    if (r == 0) {
      errno = EIO;
      return -1;
    }
    buf = (char *) buf + r;
    count -= r;
    offset += r;
  }
  return 0;
}

int
full_pwrite (int fd, const void *buf, uint64_t count, uint64_t offset)
{
  while (count > 0) {
    ssize_t r = pwrite (fd, buf, count, offset);

    if (r == -1 && errno == EINTR)
      continue;
    if (r == -1)
      return -1;
    buf = (const char *) buf + r;
    count -= r;
    offset += r;
  }
  return 0;
}

int64_t
file_extent (int fd, uint64_t offset, uint64_t count, int *is_hole)
{
  struct file_data nothing = { .start = 0 };

  return file_extent_known (fd, &nothing, offset, count, is_hole);
}

/* The end of data is looked for up to the end of the file, however little was
 * asked for: on tmpfs that goes through every page.  So what was found is
 * worth keeping.  Model: none; a hint. */
int64_t
file_extent_known (int fd, struct file_data *known, uint64_t offset,
                   uint64_t count, int *is_hole)
{
  uint64_t end = atomic_load_explicit (&known->end, memory_order_relaxed);
  off_t data, hole;

  *is_hole = 0;
  if (offset < end && offset >= atomic_load_explicit (&known->start,
                                                      memory_order_relaxed))
    return end - offset < count ? end - offset : count;
  data = lseek (fd, offset, SEEK_DATA);
  if (data == -1 && errno != ENXIO)
    return count;               /* a block device, or a simple file system */
  if (data == -1 || (uint64_t) data >= offset + count) {
    /* ENXIO: a hole up to the end of the file. */
    *is_hole = 1;
    return count;
  }
  if ((uint64_t) data > offset) {
    *is_hole = 1;
    return data - offset;
  }
  hole = lseek (fd, offset, SEEK_HOLE);
  if (hole == -1 || (uint64_t) hole <= offset)
    return count;
  atomic_store_explicit (&known->start, offset, memory_order_relaxed);
  atomic_store_explicit (&known->end, hole, memory_order_relaxed);
  return (uint64_t) hole - offset < count ? (uint64_t) hole - offset : count;
}

/* A block that the end of the file cuts is freed only if the hole goes on
 * past it. */
static uint64_t
to_end_of_block (int fd, uint64_t offset, uint64_t count)
{
  struct stat st;

  if (fstat (fd, &st) == 0 && (uint64_t) st.st_size == offset + count)
    count += st.st_blksize;
  return count;
}

int64_t
scratch_punch (int fd, uint64_t offset, uint64_t count)
{
  uint64_t pos, data = 0;

  for (pos = offset; pos < offset + count;) {
    int is_hole;
    int64_t n = file_extent (fd, pos, offset + count - pos, &is_hole);

    if (n == -1)
      return -1;
    if (!is_hole)
      data += n;
    pos += n;
  }
  if (data > 0
      && fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    offset, to_end_of_block (fd, offset, count)) == -1)
    return -1;
  return data;
}

/* The fence of map_settle_release is before this.  Partner: the one between W3
 * and W5 in the filter.  A cluster that is copied right now is seen here, or
 * punched there. */
int
scratch_punch_released (const struct bmfile *map, int fd, uint64_t first,
                        uint64_t end)
{
  const bm_word *copied = map->bits[MAP_COPIED_BITS];
  uint64_t a, b;
  int r = 0;

  FAILPOINT ("L3");
  for (a = bm_next_set (copied, first, end); a < end;
       a = bm_next_set (copied, b, end)) {
    int64_t n;

    b = bm_next_clear (copied, a, end);
    n = scratch_punch (fd, map_offset (map, a), map_length (map, a, b));
    if (n == -1)
      r = -1;
    else
      map_scratch_freed (map, n);
  }
  FAILPOINT ("L3+");
  return r;
}

/* Once 16 bytes are known to be zero, comparing the buffer with itself moved
 * by 16 is a memcmp at full speed. */
int
is_zero (const void *buf, uint64_t count)
{
  const unsigned char *p = buf;
  uint64_t i;

  for (i = 0; i < 16; i++) {
    if (i == count)
      return 1;
    if (p[i])
      return 0;
  }
  return memcmp (p, p + 16, count - 16) == 0;
}
