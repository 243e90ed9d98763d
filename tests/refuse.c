/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into the copier: a kernel that refuses what it need not offer. */

/* NBDFLEECE_REFUSE names what is refused with EOPNOTSUPP: any of fallocate,
 * copy_file_range, reflink.  With one of them followed by =N, only from the
 * call number N + 1 on. */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>

static bool
refused (const char *what, atomic_int *calls)
{
  const char *s = getenv ("NBDFLEECE_REFUSE"), *p = s ? strstr (s, what) : NULL;

  if (!p)
    return false;
  p += strlen (what);
  return atomic_fetch_add (calls, 1) >= (*p == '=' ? atoi (p + 1) : 0);
}

int
fallocate (int fd, int mode, off_t offset, off_t count)
{
  static atomic_int calls;
  int (*real) (int, int, off_t, off_t) = dlsym (RTLD_NEXT, "fallocate");

  if (refused ("fallocate", &calls)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return real (fd, mode, offset, count);
}

int
fallocate64 (int fd, int mode, off64_t offset, off64_t count)
{
  return fallocate (fd, mode, offset, count);
}

ssize_t
copy_file_range (int from, off64_t *a, int to, off64_t *b, size_t count,
                 unsigned flags)
{
  static atomic_int calls;
  ssize_t (*real) (int, off64_t *, int, off64_t *, size_t, unsigned)
    = dlsym (RTLD_NEXT, "copy_file_range");

  if (refused ("copy_file_range", &calls)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return real (from, a, to, b, count, flags);
}

int
ioctl (int fd, unsigned long request, ...)
{
  static atomic_int calls;
  int (*real) (int, unsigned long, void *) = dlsym (RTLD_NEXT, "ioctl");
  va_list ap;
  void *arg;

  va_start (ap, request);
  arg = va_arg (ap, void *);
  va_end (ap);
  if (request == FICLONERANGE && refused ("reflink", &calls)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return real (fd, request, arg);
}
