/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A live disk that is a raw file or a block device, read directly. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "live.h"
#include "scratch.h"

struct live_file {
  struct live base;
  struct file_data data;
};

static int
file_live_pread (struct live *live, void *buf, uint32_t count, uint64_t offset)
{
  return full_pread (live->fd, buf, count, offset);
}

static int64_t
file_live_extent (struct live *live, uint64_t offset, uint64_t count,
                  int *is_hole)
{
  return file_extent_known (live->fd, &((struct live_file *) live)->data,
                            offset, count, is_hole);
}

static void
file_live_close (struct live *live)
{
  close (live->fd);
  free (live);
}

static const struct live_ops file_live_ops = {
  .pread = file_live_pread,
  .extent = file_live_extent,
  .close = file_live_close,
};

struct live *
live_file_open (const char *path)
{
  struct live_file *file = calloc (1, sizeof *file);
  struct live *live = &file->base;
  struct stat st;
  off_t size;
  int err;

  if (!file)
    return NULL;
  live->ops = &file_live_ops;
  /* O_NONBLOCK: a fifo in the disk's place must not hang us. */
  live->fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (live->fd == -1 || fstat (live->fd, &st) == -1)
    goto failed;
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode)) {
    errno = S_ISDIR (st.st_mode) ? EISDIR : EINVAL;
    goto failed;
  }
  size = lseek (live->fd, 0, SEEK_END);
  if (size == -1)
    goto failed;
  live->size = size;
  return live;

 failed:
  err = errno;
  if (live->fd != -1)
    close (live->fd);
  free (live);
  errno = err;
  return NULL;
}

struct live *
live_file_open_map (const struct bmfile *map)
{
  const char *path = bmfile_live_path (map);
  const struct bmfile_identity *id = &map->live->identity;
  struct live *live;
  struct stat st;
  bool same;

  if (!path) {
    errno = ENOTSUP;
    return NULL;
  }
  live = live_file_open (path);
  if (!live)
    return NULL;
  if (fstat (live->fd, &st) == 0) {
    same = S_ISBLK (st.st_mode) ? st.st_rdev == id->dev
      : st.st_dev == id->dev && st.st_ino == id->ino;
    if (same && live->size >= map->disk_size)
      return live;
  }
  file_live_close (live);
  errno = ESTALE;
  return NULL;
}
