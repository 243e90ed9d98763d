/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The header of qcow2 images. */

/* Only what the checks before a job need; everything else, and all writing, is
 * QEMU's.  (qemu-img info would tell the same, but not of an image that is
 * open for writing, and it follows the backing files of one that may come from
 * anywhere.) */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qcow2.h"
#include "scratch.h"

#define MAGIC 0x514649fbu
#define INCOMPATIBLE_CORRUPT 2

struct on_disk {                /* big-endian */
  uint32_t magic;
  uint32_t version;
  uint64_t backing_offset;
  uint32_t backing_length;
  uint32_t cluster_bits;
  uint64_t size;
  uint32_t crypt, l1_size;
  uint64_t l1_offset, refcount_offset;
  uint32_t refcount_clusters, nr_snapshots;
  uint64_t snapshots_offset;
  uint64_t incompatible;        /* from here on: version 3 */
};

static int
invalid (const char *path, const char *what, struct message *why)
{
  errno = EINVAL;
  return message_set (why, "%s: %s", path, what);
}

static int
read_backing (int fd, const char *path, uint64_t offset, uint32_t length,
              struct qcow2_header *h, struct message *why)
{
  h->backing[0] = '\0';
  if (offset == 0)
    return 0;
  if (length > QCOW2_BACKING_MAX
      || full_pread (fd, h->backing, length, offset) == -1)
    return invalid (path, "its qcow2 header is damaged", why);
  h->backing[length] = '\0';
  return 0;
}

static int
read_fd (int fd, const char *path, struct qcow2_header *h,
         struct message *why)
{
  struct on_disk d = { 0 };
  uint32_t bits;

  if (full_pread (fd, &d, sizeof d, 0) == -1 || be32toh (d.magic) != MAGIC)
    return invalid (path, "not a qcow2 image", why);
  bits = be32toh (d.cluster_bits);
  if (be32toh (d.version) < 2 || be32toh (d.version) > 3 || bits < 9
      || bits > 21)
    return invalid (path, "a qcow2 image of a kind that is not known", why);
  h->size = be64toh (d.size);
  h->cluster_size = UINT64_C (1) << bits;
  h->corrupt = be32toh (d.version) >= 3
    && (be64toh (d.incompatible) & INCOMPATIBLE_CORRUPT) != 0;
  return read_backing (fd, path, be64toh (d.backing_offset),
                       be32toh (d.backing_length), h, why);
}

int
qcow2_read_header (const char *path, struct qcow2_header *h,
                   struct message *why)
{
  struct stat st;
  int fd, r, err;

  fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd == -1 || fstat (fd, &st) == -1) {
    err = errno;
    if (fd != -1)
      close (fd);
    errno = err;
    return message_set (why, "%s: %s", path, strerror (errno));
  }
  if (S_ISREG (st.st_mode) || S_ISBLK (st.st_mode))
    r = read_fd (fd, path, h, why);
  else
    r = invalid (path, "neither a file nor a block device", why);
  err = errno;
  close (fd);
  errno = err;
  return r;
}

uint64_t
qcow2_size (uint64_t disk_size)
{
  return (disk_size + QCOW2_SECTOR - 1) / QCOW2_SECTOR * QCOW2_SECTOR;
}
