/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Making, validating and mapping bitmap files. */

/* There is one description of the layout, layout(), used to make a file and to
 * judge one: opening computes from disk_size and cluster_size where everything
 * has to be and refuses the file if its header or its length says otherwise.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>
#include <zlib.h>

#include "bmfile.h"
#include "guard.h"

#define ALIGN 4096
#define AUTO_BITMAP_MAX (UINT64_C (64) << 20) /* bytes */

_Static_assert (sizeof (struct bmfile_fixed) <= BMFILE_LIVE_OFFSET,
                "the fixed part runs into the live part");
_Static_assert (sizeof (struct bmfile_live)
                <= BMFILE_HEADER_SIZE - BMFILE_LIVE_OFFSET,
                "the live part runs into the bitmaps");
_Static_assert (ATOMIC_LLONG_LOCK_FREE == 2, "shared atomics need no lock");

uint64_t
bmfile_auto_cluster_size (uint64_t disk_size)
{
  uint64_t cs = BMFILE_CLUSTER_MIN;

  while (cs < BMFILE_CLUSTER_MAX
         && (disk_size + cs - 1) / cs > AUTO_BITMAP_MAX * 8)
    cs *= 2;
  return cs;
}

static unsigned
bitmaps_of (enum bmfile_kind kind)
{
  return kind == BMFILE_MAP ? 3 : 1;
}

/* Fills in the sizes that follow from the disk's.  Returns the bytes from one
 * bitmap to the next. */
static uint64_t
layout (struct bmfile_fixed *f)
{
  uint64_t stride;

  f->header_size = BMFILE_HEADER_SIZE;
  f->nr_clusters = (f->disk_size + f->cluster_size - 1) / f->cluster_size;
  stride = (bm_bytes (f->nr_clusters) + ALIGN - 1) / ALIGN * ALIGN;
  f->file_size = BMFILE_HEADER_SIZE + f->nr_bitmaps * stride;
  return stride;
}

static bool
sizes_ok (enum bmfile_kind kind, uint64_t disk_size, uint64_t cluster_size)
{
  return disk_size > 0 && disk_size <= BMFILE_DISK_MAX
    && cluster_size >= BMFILE_CLUSTER_MIN
    && cluster_size <= (kind == BMFILE_LOG
                        ? BMFILE_DISK_MAX : BMFILE_CLUSTER_MAX)
    && (cluster_size & (cluster_size - 1)) == 0;
}

static uint32_t
checksum (const struct bmfile_fixed *f)
{
  return crc32 (crc32 (0, NULL, 0), (const void *) f,
                offsetof (struct bmfile_fixed, checksum));
}

static int
copy_text (char *to, size_t size, const char *from)
{
  if (!from)
    from = "";
  if (strlen (from) >= size) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (to, from);
  return 0;
}

static int
fill_fixed (struct bmfile_fixed *f, const struct bmfile_params *p)
{
  if (!sizes_ok (p->kind, p->disk_size, p->cluster_size)
      || !name_ok (p->export_name) || !name_ok (p->name)) {
    errno = EINVAL;
    return -1;
  }
  memcpy (f->magic, BMFILE_MAGIC, sizeof f->magic);
  f->version = BMFILE_VERSION;
  f->kind = p->kind;
  f->nr_bitmaps = bitmaps_of (p->kind);
  f->disk_size = p->disk_size;
  f->cluster_size = p->cluster_size;
  layout (f);
  if (copy_text (f->export_name, sizeof f->export_name, p->export_name) == -1
      || copy_text (f->name, sizeof f->name, p->name) == -1
      || copy_text (f->parent, sizeof f->parent, p->parent) == -1
      || copy_text (f->live, sizeof f->live, p->live) == -1
      || copy_text (f->scratch, sizeof f->scratch, p->scratch) == -1
      || getrandom (f->uuid, sizeof f->uuid, 0) != sizeof f->uuid)
    return -1;
  f->checksum = checksum (f);
  return 0;
}

/* Writes a new file to fd: header and allocated, zero bitmaps. */
static int
write_new (int fd, const struct bmfile_fixed *f)
{
  struct bmfile_live live = { .state = BMFILE_PREPARED };
  int err;

  if (bmfile_boot_id (live.boot_id) == -1)
    return -1;
  err = posix_fallocate (fd, 0, f->file_size);
  if (err != 0) {
    errno = err;
    return -1;
  }
  if (pwrite (fd, &live, sizeof live, BMFILE_LIVE_OFFSET) != sizeof live
      || pwrite (fd, f, sizeof *f, 0) != sizeof *f) {
    errno = ENOSPC;
    return -1;
  }
  return 0;
}

/* On btrfs a block that is allocated may still have nowhere to be rewritten
 * to, unless the file is exempt from copy-on-write.  Elsewhere this fails, and
 * does no harm. */
static void
no_cow (int fd)
{
  int flags;

  if (ioctl (fd, FS_IOC_GETFLAGS, &flags) == 0) {
    flags |= FS_NOCOW_FL;
    ioctl (fd, FS_IOC_SETFLAGS, &flags);
  }
}

int
bmfile_sync_path (const char *path)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  int r = fd == -1 ? -1 : fsync (fd);

  if (fd != -1)
    close (fd);
  return r;
}

static char *
directory_of (const char *path)
{
  const char *slash = strrchr (path, '/');

  return slash ? strndup (path, slash - path + 1) : strdup (".");
}

int
bmfile_sync_directory (const char *path)
{
  char *dir = directory_of (path);
  int r = dir ? bmfile_sync_path (dir) : -1, err = errno;

  free (dir);
  errno = err;
  return r;
}

/* A file without a name in the directory of path. */
static int
open_nameless (const char *path)
{
  char *dir = directory_of (path);
  int fd;

  if (!dir)
    return -1;
  fd = open (dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
  free (dir);
  return fd;
}

static int
give_name (int fd, const char *path)
{
  char self[64];

  snprintf (self, sizeof self, "/proc/self/fd/%d", fd);
  return linkat (AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

/* The file has its name only when it is whole: an nbdkit that starts at this
 * moment must not take it for a damaged one.  Where a file system cannot do
 * that, it may, and then the begin fails. */
int
bmfile_create (const char *path, const struct bmfile_params *params,
               struct bmfile *bf)
{
  struct bmfile_fixed f = { 0 };
  const char *why;
  bool named = false;
  int fd, r = -1, err;

  if (fill_fixed (&f, params) == -1)
    return -1;
  fd = open_nameless (path);
  if (fd == -1) {
    fd = open (path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    named = fd != -1;
  }
  if (fd == -1)
    return -1;
  no_cow (fd);
  if (write_new (fd, &f) == 0 && (!params->durable || fsync (fd) == 0)
      && (named || give_name (fd, path) == 0)) {
    named = true;
    r = params->durable ? bmfile_sync_directory (path) : 0;
  }
  if (r == 0)
    r = bmfile_open_fd (fd, true, params->kind, bf, &why);
  err = errno;
  if (r == -1 && named)
    unlink (path);
  close (fd);
  errno = err;
  return r;
}

int
bmfile_create_in (const char *path, const struct bmfile_params *params,
                  struct bmfile *bf)
{
  int fd = open (path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct bmfile_fixed f = { 0 };
  const char *why;
  int r = -1, err;

  if (fd == -1)
    return -1;
  if (fill_fixed (&f, params) == 0 && ftruncate (fd, 0) == 0) {
    no_cow (fd);
    if (write_new (fd, &f) == 0 && fsync (fd) == 0)
      r = bmfile_open_fd (fd, true, params->kind, bf, &why);
  }
  err = errno;
  close (fd);
  errno = err;
  return r;
}

static bool
terminated (const char *text, size_t size)
{
  return memchr (text, '\0', size) != NULL;
}

/* Judges a header against itself and the size of its file.  Returns NULL, or
 * what is wrong and an errno. */
static const char *
judge (const struct bmfile_fixed *f, uint64_t file_size,
       enum bmfile_kind kind, int *err)
{
  struct bmfile_fixed want = *f;

  *err = EINVAL;
  if (memcmp (f->magic, BMFILE_MAGIC, sizeof f->magic) != 0)
    return "not a bitmap file";
  if (f->version != BMFILE_VERSION) {
    *err = ENOTSUP;
    return "made by another version, which this one does not know";
  }
  if (f->checksum != checksum (f))
    return "the header is damaged";
  if (f->kind != kind || f->nr_bitmaps != bitmaps_of (kind))
    return "a bitmap file of another kind";
  if (!sizes_ok (f->kind, f->disk_size, f->cluster_size))
    return "impossible disk or cluster size";
  layout (&want);
  if (memcmp (&want, f, sizeof want) != 0)
    return "the header contradicts itself";
  if (file_size != f->file_size)
    return "the file is truncated or too long";
  if (!terminated (f->export_name, sizeof f->export_name)
      || !terminated (f->name, sizeof f->name)
      || !terminated (f->parent, sizeof f->parent)
      || !terminated (f->live, sizeof f->live)
      || !terminated (f->scratch, sizeof f->scratch)
      || !name_ok (f->export_name) || !name_ok (f->name))
    return "the header has a bad name";
  return NULL;
}

/* Nothing past the last cluster may be set, or scans would run off. */
static bool
tails_clear (const struct bmfile *bf)
{
  unsigned i;

  for (i = 0; i < bf->nr_bitmaps; i++)
    if (bf->nr_clusters % 64
        && (bf->bits[i][bf->nr_clusters / 64]
            & (UINT64_MAX << (bf->nr_clusters & 63))))
      return false;
  return true;
}

static int
map_file (int fd, const struct bmfile_fixed *f, bool writable,
          struct bmfile *bf)
{
  struct bmfile_fixed copy = *f, *own;
  uint64_t stride = layout (&copy);
  unsigned i;
  char *p = mmap (NULL, f->file_size,
                  PROT_READ | (writable ? PROT_WRITE : 0),
                  MAP_SHARED, fd, 0);

  if (p == MAP_FAILED)
    return -1;
  own = malloc (sizeof *own);
  if (!own || guard_add (p, f->file_size) == -1) {
    free (own);
    munmap (p, f->file_size);
    return -1;
  }
  *own = *f;
  *bf = (struct bmfile) {
    .fixed = own, .base = p,
    .live = (struct bmfile_live *) (p + BMFILE_LIVE_OFFSET),
    .disk_size = f->disk_size,
    .nr_clusters = f->nr_clusters,
    .cluster_bits = __builtin_ctzll (f->cluster_size),
    .nr_bitmaps = f->nr_bitmaps,
    .writable = writable,
    .map_size = f->file_size,
  };
  for (i = 0; i < f->nr_bitmaps; i++)
    bf->bits[i] = (bm_word *) (p + BMFILE_HEADER_SIZE + i * stride);
  return 0;
}

int
bmfile_open_fd (int fd, bool writable, enum bmfile_kind kind,
                struct bmfile *bf, const char **why)
{
  struct bmfile_fixed f;
  struct stat st;
  ssize_t n;
  int err;

  memset (bf, 0, sizeof *bf);
  *why = "cannot be read";
  if (fstat (fd, &st) == -1)
    return -1;
  *why = "not a regular file";
  errno = EINVAL;
  if (!S_ISREG (st.st_mode))
    return -1;
  *why = "too short for a header";
  n = pread (fd, &f, sizeof f, 0);
  if (n != sizeof f || st.st_size < BMFILE_HEADER_SIZE) {
    if (n != -1)
      errno = EINVAL;
    return -1;
  }
  *why = judge (&f, st.st_size, kind, &err);
  if (*why) {
    errno = err;
    return -1;
  }
  *why = "cannot be mapped";
  if (map_file (fd, &f, writable, bf) == -1)
    return -1;
  bf->owner = st.st_uid;
  if (!tails_clear (bf)) {
    *why = "bits are set past the end of the disk";
    bmfile_close (bf);
    errno = EINVAL;
    return -1;
  }
  *why = NULL;
  return 0;
}

int
bmfile_open (const char *path, bool writable, enum bmfile_kind kind,
             struct bmfile *bf, const char **why)
{
  int fd = open (path, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC
                 | O_NONBLOCK);
  int r, err;

  memset (bf, 0, sizeof *bf);
  if (fd == -1) {
    *why = "cannot be opened";
    return -1;
  }
  r = bmfile_open_fd (fd, writable, kind, bf, why);
  err = errno;
  close (fd);
  errno = err;
  return r;
}

void
bmfile_close (struct bmfile *bf)
{
  if (bf->fixed) {
    guard_remove (bf->base);
    munmap (bf->base, bf->map_size);
    free (bf->fixed);
  }
  memset (bf, 0, sizeof *bf);
}

/* A page that could not be written counts as clean afterwards, and the next
 * msync would leave it out and succeed.  A store makes it dirty again.
 * Model: none. */
static void
make_dirty (const struct bmfile *bf)
{
  size_t i;

  for (i = 0; bf->writable && i < bf->map_size; i += ALIGN)
    atomic_fetch_or ((bm_word *) (bf->base + i), 0);
}

int
bmfile_sync (const struct bmfile *bf)
{
  int r = msync (bf->base, bf->map_size, MS_SYNC), err = errno;

  if (r == -1)
    make_dirty (bf);
  errno = err;
  return r;
}

int
bmfile_sync_header (const struct bmfile *bf)
{
  return msync (bf->base, BMFILE_HEADER_SIZE, MS_SYNC);
}

int
bmfile_sync_bits (const struct bmfile *bf, unsigned bitmap, uint64_t first,
                  uint64_t end)
{
  char *from = (char *) &bf->bits[bitmap][first / 64];
  char *to = (char *) &bf->bits[bitmap][(end - 1) / 64 + 1];

  from -= (uintptr_t) from % ALIGN;
  return msync (from, to - from, MS_SYNC);
}
