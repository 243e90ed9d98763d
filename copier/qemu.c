/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Starting qemu-img and qemu-nbd. */

/* qemu-nbd is given its listening socket the way systemd would, with our one
 * connection already in its queue; the socket's name and directory are gone
 * before it even starts.  So nobody else can connect, and nothing is left
 * behind whenever either process is killed. */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "qemu.h"

int
qemu_absolute (const char *path, char absolute[PATH_MAX], const char *name,
               struct message *why)
{
  char cwd[PATH_MAX];
  int n;

  if (path[0] == '/')
    n = snprintf (absolute, PATH_MAX, "%s", path);
  else if (getcwd (cwd, sizeof cwd))
    n = snprintf (absolute, PATH_MAX, "%s/%s", cwd, path);
  else
    return message_set (why, "%s: %s", name, strerror (errno));
  if (n >= PATH_MAX || path[0] == '\0') {
    errno = path[0] ? ENAMETOOLONG : EINVAL;
    return message_set (why, "%s: %s", name, strerror (errno));
  }
  return 0;
}

int
qemu_img (char *const argv[], const char *name, struct message *why)
{
  struct child child;
  struct message said;
  mode_t mask = umask (0077);
  int r = child_start (&child, argv, -1, -1, why);

  umask (mask);
  if (r == -1)
    return -1;
  if (child_wait (&child, &said) == 0)
    return 0;
  errno = EIO;
  return message_set (why, "%s: %s", name, said.text);
}

/* A listening socket with one connection to it waiting.  Returns the client's
 * end and sets *listener; or -1 and errno. */
static int
socket_pair (int *listener)
{
  const char *dir = getenv ("TMPDIR");
  struct sockaddr_un a = { .sun_family = AF_UNIX };
  char path[sizeof a.sun_path - 8];
  int fd = -1, err, n;

  n = snprintf (path, sizeof path, "%s/nbdfleece.XXXXXX", dir ? dir : "/tmp");
  if (n >= (int) sizeof path)
    strcpy (path, "/tmp/nbdfleece.XXXXXX");
  if (!mkdtemp (path))
    return -1;
  snprintf (a.sun_path, sizeof a.sun_path, "%s/s", path);
  *listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (*listener != -1
      && bind (*listener, (struct sockaddr *) &a, sizeof a) == 0
      && listen (*listener, 1) == 0) {
    fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd != -1 && connect (fd, (struct sockaddr *) &a, sizeof a) == -1) {
      err = errno;
      close (fd);
      fd = -1;
      errno = err;
    }
  }
  err = errno;
  unlink (a.sun_path);
  rmdir (path);
  if (fd == -1 && *listener != -1)
    close (*listener);
  errno = err;
  return fd;
}

int
qemu_serve (struct child *c, char *const argv[], int hold,
            struct message *why)
{
  int listener, r, fd = socket_pair (&listener);

  if (fd == -1)
    return message_set (why, "socket for qemu-nbd: %s", strerror (errno));
  r = child_start (c, argv, listener, hold, why);
  close (listener);
  if (r == 0)
    return fd;
  close (fd);
  return -1;
}

void
qemu_quote (char *option, size_t size, const char *value)
{
  size_t n = strlen (option);

  for (; *value && n + 2 < size; value++) {
    option[n++] = *value;
    if (*value == ',')
      option[n++] = ',';
  }
  option[n] = '\0';
}
