/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into the daemon and all that it starts: faults of files and of
 * memory, at will. */

/* The file that NBDFLEECE_FAULT names, as long as it exists, has one line:
 *
 *   PROCESS CALL PATH WHAT
 *
 * PROCESS is a part of the command line of who is to see the fault, CALL is
 * read, write, flush, sync (of a mapping) or malloc (all that allocates, and
 * mmap), PATH is a part of the path of the file, or of the program or library
 * that wants memory (its end, if PATH has a $ at its own), and WHAT is a number for errno, "short" (some of it is done,
 * not all), or "hang" (until the line is gone).  Of malloc WHAT is a number N: one
 * in so many fails.  Libraries that end when there is no memory are not asked to
 * show it. */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct fault { char process[64], call[16], path[128], what[16]; };

/* Of glibc; dlsym would allocate. */
extern void *__libc_malloc (size_t);
extern void *__libc_calloc (size_t, size_t);
extern void *__libc_realloc (void *, size_t);
extern void *__libc_memalign (size_t, size_t);

static bool
is_this_process (const char *part)
{
  char text[4096];
  ssize_t n, i;
  int fd = open ("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);

  if (fd == -1)
    return false;
  n = read (fd, text, sizeof text - 1);
  close (fd);
  for (i = 0; i < n; i++)
    if (!text[i])
      text[i] = ' ';
  text[n > 0 ? n : 0] = '\0';
  return strstr (text, part) != NULL;
}

static bool
is_file (int fd, const char *part)
{
  char link[64], path[4096];
  size_t length;
  ssize_t n;

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, path, sizeof path - 1);
  if (n == -1)
    return false;
  path[n] = '\0';
  length = strlen (part);
  if (length > 0 && part[length - 1] == '$')
    return n >= (ssize_t) --length
      && memcmp (path + n - length, part, length) == 0;
  return strstr (path, part) != NULL;
}

static bool
is_mapped_there (const void *p, const char *part)
{
  FILE *maps = fopen ("/proc/self/maps", "re");
  unsigned long first, end, at = (unsigned long) p;
  char line[4096];
  bool found = false;

  while (maps && !found && fgets (line, sizeof line, maps))
    found = sscanf (line, "%lx-%lx", &first, &end) == 2 && at >= first
      && at < end && strstr (line, part);
  if (maps)
    fclose (maps);
  return found;
}

/* A line for this call, in whatever process and file.  Allocates nothing. */
static bool
read_fault (const char *call, struct fault *f)
{
  const char *file = getenv ("NBDFLEECE_FAULT");
  char line[256];
  ssize_t n;
  int in;

  in = file ? open (file, O_RDONLY | O_CLOEXEC) : -1;
  if (in == -1)
    return false;
  n = read (in, line, sizeof line - 1);
  close (in);
  line[n > 0 ? n : 0] = '\0';
  return sscanf (line, "%63s %15s %127s %15s", f->process, f->call, f->path,
                 f->what) == 4
    && strcmp (f->call, call) == 0;
}

/* fd: of the file; or -1, and it is mapped at p. */
static bool
find_fault (const char *call, int fd, const void *p, struct fault *f)
{
  return read_fault (call, f)
    && (p ? is_mapped_there (p, f->path) : is_file (fd, f->path))
    && is_this_process (f->process);
}

/* How much of count is to be done: -1 and errno for none. */
static ssize_t
allowed_at (const char *call, int fd, const void *p, size_t count)
{
  const struct timespec tick = { .tv_nsec = 5 * 1000000 };
  struct fault f;

  while (find_fault (call, fd, p, &f)) {
    if (strcmp (f.what, "short") == 0)
      return count > 1 ? count / 2 : count;
    if (strcmp (f.what, "hang") != 0) {
      errno = atoi (f.what);
      return -1;
    }
    nanosleep (&tick, NULL);
  }
  return count;
}

static ssize_t
allowed (const char *call, int fd, size_t count)
{
  return allowed_at (call, fd, NULL, count);
}

ssize_t
pread (int fd, void *buf, size_t count, off_t offset)
{
  ssize_t (*real) (int, void *, size_t, off_t) = dlsym (RTLD_NEXT, "pread");
  ssize_t n = allowed ("read", fd, count);

  return n == -1 ? -1 : real (fd, buf, n, offset);
}

ssize_t
pread64 (int fd, void *buf, size_t count, off64_t offset)
{
  return pread (fd, buf, count, offset);
}

/* Whoever reads so without waiting reads once more by the one above. */
ssize_t
preadv2 (int fd, const struct iovec *v, int nr, off_t offset, int flags)
{
  ssize_t (*real) (int, const struct iovec *, int, off_t, int)
    = dlsym (RTLD_NEXT, "preadv2");
  struct fault f;

  if (find_fault ("read", fd, NULL, &f)) {
    errno = EAGAIN;
    return -1;
  }
  return real (fd, v, nr, offset, flags);
}

ssize_t
preadv64v2 (int fd, const struct iovec *v, int nr, off64_t offset, int flags)
{
  return preadv2 (fd, v, nr, offset, flags);
}

ssize_t
pwrite (int fd, const void *buf, size_t count, off_t offset)
{
  ssize_t (*real) (int, const void *, size_t, off_t)
    = dlsym (RTLD_NEXT, "pwrite");
  ssize_t n = allowed ("write", fd, count);

  return n == -1 ? -1 : real (fd, buf, n, offset);
}

ssize_t
pwrite64 (int fd, const void *buf, size_t count, off64_t offset)
{
  return pwrite (fd, buf, count, offset);
}

ssize_t
copy_file_range (int from, off64_t *a, int to, off64_t *b, size_t count,
                 unsigned flags)
{
  ssize_t (*real) (int, off64_t *, int, off64_t *, size_t, unsigned)
    = dlsym (RTLD_NEXT, "copy_file_range");
  ssize_t n = allowed ("read", from, count);

  if (n != -1)
    n = allowed ("write", to, n);
  return n == -1 ? -1 : real (from, a, to, b, n, flags);
}

int
fdatasync (int fd)
{
  int (*real) (int) = dlsym (RTLD_NEXT, "fdatasync");

  return allowed ("flush", fd, 1) == -1 ? -1 : real (fd);
}

int
fsync (int fd)
{
  int (*real) (int) = dlsym (RTLD_NEXT, "fsync");

  return allowed ("flush", fd, 1) == -1 ? -1 : real (fd);
}

int
msync (void *p, size_t length, int flags)
{
  int (*real) (void *, size_t, int) = dlsym (RTLD_NEXT, "msync");

  return allowed_at ("sync", -1, p, 1) == -1 ? -1 : real (p, length, flags);
}

/* ------------------------------------------------------------------ memory */

static bool
no_memory_for (const void *caller)
{
  static _Atomic unsigned calls;
  struct fault f;
  Dl_info info;
  int err = errno, n;
  bool none;

  none = read_fault ("malloc", &f) && dladdr (caller, &info)
    && strstr (info.dli_fname, f.path) && is_this_process (f.process)
    && (n = atoi (f.what)) > 0 && calls++ % n == n - 1u;
  errno = none ? ENOMEM : err;
  return none;
}
#define NO_MEMORY no_memory_for (__builtin_return_address (0))

void *
malloc (size_t size)
{
  return NO_MEMORY ? NULL : __libc_malloc (size);
}

void *
calloc (size_t count, size_t size)
{
  return NO_MEMORY ? NULL : __libc_calloc (count, size);
}

void *
realloc (void *p, size_t size)
{
  return NO_MEMORY ? NULL : __libc_realloc (p, size);
}

void *
reallocarray (void *p, size_t count, size_t size)
{
  size_t bytes;

  if (NO_MEMORY || __builtin_mul_overflow (count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return __libc_realloc (p, bytes);
}

void *
aligned_alloc (size_t alignment, size_t size)
{
  return NO_MEMORY ? NULL : __libc_memalign (alignment, size);
}

char *
strndup (const char *s, size_t max)
{
  size_t length = strnlen (s, max);
  char *copy = NO_MEMORY ? NULL : __libc_malloc (length + 1);

  if (copy) {
    memcpy (copy, s, length);
    copy[length] = '\0';
  }
  return copy;
}

char *
strdup (const char *s)
{
  size_t size = strlen (s) + 1;
  char *copy = NO_MEMORY ? NULL : __libc_malloc (size);

  return copy ? memcpy (copy, s, size) : NULL;
}

void *
mmap (void *p, size_t length, int prot, int flags, int fd, off_t offset)
{
  return NO_MEMORY ? MAP_FAILED
    : (void *) syscall (SYS_mmap, p, length, prot, flags, fd, offset);
}

void *
mmap64 (void *p, size_t length, int prot, int flags, int fd, off64_t offset)
{
  return NO_MEMORY ? MAP_FAILED
    : (void *) syscall (SYS_mmap, p, length, prot, flags, fd, offset);
}
