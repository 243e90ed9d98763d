/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Preloaded into nbdkit: writes to a scratch hang while a file exists. */

#include <config.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int
is_scratch (int fd)
{
  char link[64], path[4096];
  ssize_t n;

  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = readlink (link, path, sizeof path - 1);
  if (n == -1)
    return 0;
  path[n] = '\0';
  return strstr (path, ".scratch") != NULL;
}

ssize_t
pwrite (int fd, const void *buf, size_t count, off_t offset)
{
  const struct timespec tick = { .tv_nsec = 10 * 1000000 };
  const char *hang = getenv ("NBDFLEECE_HANG");
  ssize_t (*real) (int, const void *, size_t, off_t)
    = dlsym (RTLD_NEXT, "pwrite");

  while (hang && is_scratch (fd) && access (hang, F_OK) == 0)
    nanosleep (&tick, NULL);
  return real (fd, buf, count, offset);
}

ssize_t
pwrite64 (int fd, const void *buf, size_t count, off_t offset)
{
  return pwrite (fd, buf, count, offset);
}
