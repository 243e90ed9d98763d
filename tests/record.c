/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into nbdkit and copiers: notes what it writes and flushes, in order. */

/* For powercut.c, which cuts the power at any place in that.  In the file
 * $NBDFLEECE_RECORD, one after the other, of all processes (record.h):
 *
 *   what a file that is mapped shared had at first
 *   what is written to a file, noted before it is done
 *   what is flushed, noted after it is done, with how far it reaches
 *   that a message was sent
 *
 * Stores to mapped files are found by comparing their pages with what they
 * were, each time that anything else is noted: the kernel may write such a
 * page whenever it likes.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/fs.h>

#include "record.h"

#define MAPPINGS_MAX 64
#define PAGE RECORD_PAGE

struct mapping {
  char *at;                     /* NULL: free */
  size_t length;
  uint64_t ino;
  char *shadow;                 /* what was noted last */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping mappings[MAPPINGS_MAX]; /* under lock */
static int record_fd = -1;      /* under lock */

/* Locks other threads out, and other processes. */
static void
begin (void)
{
  const char *path = getenv ("NBDFLEECE_RECORD");

  pthread_mutex_lock (&lock);
  if (record_fd == -1 && path) {
    record_fd = open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (record_fd == -1)
      abort ();
  }
  while (record_fd != -1 && flock (record_fd, LOCK_EX) == -1)
    ;
}

static void
end (void)
{
  if (record_fd != -1)
    flock (record_fd, LOCK_UN);
  pthread_mutex_unlock (&lock);
}

/* All under lock from here on. */

static void
put (const void *data, size_t length)
{
  const char *p = data;

  while (length > 0) {
    long n = syscall (SYS_write, record_fd, p, length);

    if (n <= 0)
      abort ();
    p += n;
    length -= n;
  }
}

static void
note (enum record_type type, uint64_t ino, uint64_t offset, uint64_t length,
      uint64_t upto, const void *data)
{
  struct record r = { type, ino, offset, length, upto };

  if (record_fd == -1)
    return;
  put (&r, sizeof r);
  if (data)
    put (data, length);
}

/* Notes what has been stored to mapped files. */
static void
look (void)
{
  char now[PAGE];
  size_t at;
  int i;

  for (i = 0; i < MAPPINGS_MAX; i++)
    for (at = 0; mappings[i].at && at < mappings[i].length; at += PAGE) {
      memcpy (now, mappings[i].at + at, PAGE);
      if (memcmp (now, mappings[i].shadow + at, PAGE) != 0) {
        memcpy (mappings[i].shadow + at, now, PAGE);
        note (RECORD_WRITE, mappings[i].ino, at, PAGE, 0, now);
      }
    }
}

static bool
is_file (int fd, uint64_t *ino)
{
  struct stat st;

  if (fd == -1 || fstat (fd, &st) == -1 || !S_ISREG (st.st_mode))
    return false;
  *ino = st.st_ino;
  return true;
}

static void
add_mapping (void *at, size_t length, uint64_t ino)
{
  int i, other = -1, unused = -1;

  for (i = 0; i < MAPPINGS_MAX; i++) {
    if (!mappings[i].at)
      unused = i;
    else if (mappings[i].ino == ino)
      other = i;
  }
  if (unused == -1)
    abort ();
  look ();
  length = (length + PAGE - 1) / PAGE * PAGE;
  mappings[unused].shadow = malloc (length);
  memcpy (mappings[unused].shadow, at, length);
  mappings[unused].length = length;
  mappings[unused].ino = ino;
  mappings[unused].at = at;
  if (other == -1)
    note (RECORD_INITIAL, ino, 0, length, 0, mappings[unused].shadow);
}

static struct mapping *
mapping_at (const void *at)
{
  int i;

  for (i = 0; i < MAPPINGS_MAX; i++)
    if (mappings[i].at && (const char *) at >= mappings[i].at
        && (const char *) at < mappings[i].at + mappings[i].length)
      return &mappings[i];
  return NULL;
}

/* The functions that stand in for the C library's. */

static void *
map (void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
  void *p = (void *) syscall (SYS_mmap, addr, length, prot, flags, fd, offset);
  uint64_t ino;

  if (p != MAP_FAILED && (flags & MAP_SHARED) && (prot & PROT_WRITE)
      && offset == 0 && is_file (fd, &ino)) {
    begin ();
    add_mapping (p, length, ino);
    end ();
  }
  return p;
}

void *
mmap (void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
  return map (addr, length, prot, flags, fd, offset);
}

void *
mmap64 (void *addr, size_t length, int prot, int flags, int fd, off64_t offset)
{
  return map (addr, length, prot, flags, fd, offset);
}

int
munmap (void *addr, size_t length)
{
  struct mapping *m;

  begin ();
  m = mapping_at (addr);
  if (m && m->at == addr) {
    look ();
    free (m->shadow);
    m->at = NULL;
  }
  end ();
  return syscall (SYS_munmap, addr, length);
}

static uint64_t
before (void)
{
  uint64_t upto;

  begin ();
  look ();
  upto = record_fd == -1 ? 0 : lseek (record_fd, 0, SEEK_END);
  end ();
  return upto;
}

static void
flushed (uint64_t ino, uint64_t offset, uint64_t length, uint64_t upto)
{
  begin ();
  look ();
  note (RECORD_FLUSH, ino, offset, length, upto, NULL);
  end ();
}

int
msync (void *addr, size_t length, int flags)
{
  uint64_t upto = before (), ino = 0, offset = 0;
  int r = syscall (SYS_msync, addr, length, flags);
  struct mapping *m;

  begin ();
  m = mapping_at (addr);
  if (m) {
    ino = m->ino;
    offset = (char *) addr - m->at;
  }
  end ();
  if (r == 0 && ino != 0)
    flushed (ino, offset, length, upto);
  return r;
}

static int
sync_fd (long number, int fd)
{
  uint64_t upto = before (), ino;
  int r = syscall (number, fd);

  if (r == 0 && is_file (fd, &ino))
    flushed (ino, 0, UINT64_MAX / 2, upto);
  return r;
}

int fsync (int fd) { return sync_fd (SYS_fsync, fd); }
int fdatasync (int fd) { return sync_fd (SYS_fdatasync, fd); }

static void
writing (int fd, const void *buf, uint64_t count, uint64_t offset)
{
  uint64_t ino;

  if (!is_file (fd, &ino))
    return;
  begin ();
  look ();
  note (buf ? RECORD_WRITE : RECORD_ZERO, ino, offset, count, 0, buf);
  end ();
}

ssize_t
pwrite (int fd, const void *buf, size_t count, off_t offset)
{
  writing (fd, buf, count, offset);
  return syscall (SYS_pwrite64, fd, buf, count, offset);
}

ssize_t
pwrite64 (int fd, const void *buf, size_t count, off64_t offset)
{
  return pwrite (fd, buf, count, offset);
}

int
fallocate (int fd, int mode, off_t offset, off_t length)
{
  if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
    writing (fd, NULL, length, offset);
  return syscall (SYS_fallocate, fd, mode, offset, length);
}

int
fallocate64 (int fd, int mode, off64_t offset, off64_t length)
{
  return fallocate (fd, mode, offset, length);
}

/* What the kernel would copy by itself is not known here. */
ssize_t
copy_file_range (int from, off64_t *a, int to, off64_t *b, size_t count,
                 unsigned flags)
{
  (void) from, (void) a, (void) to, (void) b, (void) count, (void) flags;
  errno = EXDEV;
  return -1;
}

int
ioctl (int fd, unsigned long request, ...)
{
  va_list args;
  void *arg;

  va_start (args, request);
  arg = va_arg (args, void *);
  va_end (args);
  if (request == FICLONERANGE) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return syscall (SYS_ioctl, fd, request, arg);
}

ssize_t
sendmsg (int sock, const struct msghdr *msg, int flags)
{
  begin ();
  look ();
  note (RECORD_SENT, 0, 0, 0, 0, NULL);
  end ();
  return syscall (SYS_sendmsg, sock, msg, flags);
}
