/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A process that is ending and does not get to the end of it. */

/*   linger IMAGE READY FIFO
 *
 * Locks IMAGE so that QEMU cannot write to it, ends its first thread, after
 * which the kernel calls it ending, and makes the file READY.  Ends when nobody
 * has FIFO open for writing any more. */

#include <config.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "testing.h"

/* QEMU, block/file-posix.c: who locks one of these does not share a
 * permission. */
#define QEMU_LOCKS 200
#define QEMU_NR_LOCKS 100

static const char *ready;
static int fifo;

static bool
is_ending (void)
{
  char text[1024], *end;
  unsigned flags = 0;
  ssize_t n;
  int fd;

  fd = open ("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  CHECK (fd != -1);
  n = read (fd, text, sizeof text - 1);
  CHECK (n > 0);
  close (fd);
  text[n] = '\0';
  end = strrchr (text, ')');
  CHECK (end && sscanf (end, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1);
  return flags & 4;
}

static void *
stay (void *unused)
{
  char c;
  int fd;

  (void) unused;
  while (!is_ending ())
    usleep (1000);
  fd = open (ready, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  CHECK (fd != -1);
  while (read (fifo, &c, 1) > 0)
    ;
  _exit (0);
}

int
main (int argc, char *argv[])
{
  struct flock lock = {
    .l_type = F_RDLCK, .l_whence = SEEK_SET,
    .l_start = QEMU_LOCKS, .l_len = QEMU_NR_LOCKS,
  };
  pthread_t thread;
  int fd;

  CHECK (argc == 4);
  ready = argv[2];
  fifo = open (argv[3], O_RDONLY | O_CLOEXEC);
  CHECK (fifo != -1);
  fd = open (argv[1], O_RDWR | O_CLOEXEC);
  CHECK (fd != -1);
  CHECK (fcntl (fd, F_OFD_SETLK, &lock) == 0);
  CHECK (pthread_create (&thread, NULL, stay, NULL) == 0);
  pthread_exit (NULL);
}
