/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Who may be connected to the disk at one time. */

/* A guest has parts of its disk in memory.  Under one that is running, a disk
 * must not become another one, and no guest must start on one that is half
 * restored.  That could be looked at from outside, but would be another thing
 * a moment later; so the decision is here, where each client comes in, under
 * one lock.
 *
 * Whoever restores writes the file before it connects.  So a guest either came
 * in before, and is counted when the restorer does, which is refused; or it
 * finds the file.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clients.h"

#define LIVE "@live"
#define RESTORE "@restore-"

/* What the name means.  token is set for a restorer. */
static int
kind_of (const char *export_name, const char *asked, const char **token)
{
  size_t n = strlen (export_name);

  if (asked[0] == '\0' || strcmp (asked, export_name) == 0)
    return CLIENT_GUEST;
  if (strncmp (asked, export_name, n) == 0) {
    asked += n;
    if (strcmp (asked, LIVE) == 0)
      return CLIENT_READER;
    *token = asked + strlen (RESTORE);
    if (strncmp (asked, RESTORE, strlen (RESTORE)) == 0 && **token
        && strlen (*token) <= CLIENTS_TOKEN_MAX)
      return CLIENT_RESTORER;
  }
  errno = ENOENT;
  return -1;
}

/* Whether a restore that the client is not part of has begun, by the file.
 * One that cannot be read might say so.  token "": a guest. */
static bool
is_restored_by_other (const struct clients *c, const char *token)
{
  char path[PATH_MAX], text[CLIENTS_TOKEN_MAX + 1];
  ssize_t n;
  int fd;

  if (!c->state || snprintf (path, sizeof path, "%s/" CLIENTS_RESTORING,
                             c->state) >= (int) sizeof path)
    return false;
  fd = open (path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd == -1)
    return errno != ENOENT;
  n = read (fd, text, sizeof text - 1);
  close (fd);
  if (n < 0)
    return true;
  text[n] = '\0';
  text[strcspn (text, "\n")] = '\0';
  return !*token || strcmp (text, token) != 0;
}

static int
let_in (struct clients *c, enum client_kind kind, const char *token)
{
  int r = kind;

  if (kind != CLIENT_READER && is_restored_by_other (c, token))
    return -1;
  switch (kind) {
  case CLIENT_GUEST:
    if (c->restorers > 0)
      r = -1;
    else
      c->guests++;
    break;
  case CLIENT_RESTORER:
    if (c->guests > 0
        || (c->restorers > 0 && strcmp (token, c->token) != 0))
      r = -1;
    else {
      strcpy (c->token, token);
      c->restorers++;
    }
    break;
  case CLIENT_READER:
    break;
  }
  return r;
}

int
clients_enter (struct clients *c, const char *export_name, const char *asked)
{
  const char *token = "";
  int kind = kind_of (export_name, asked, &token);

  if (kind == -1)
    return -1;
  pthread_mutex_lock (&c->lock);
  kind = let_in (c, kind, token);
  pthread_mutex_unlock (&c->lock);
  if (kind == -1)
    errno = EBUSY;
  return kind;
}

void
clients_leave (struct clients *c, enum client_kind kind)
{
  pthread_mutex_lock (&c->lock);
  if (kind == CLIENT_GUEST)
    c->guests--;
  else if (kind == CLIENT_RESTORER)
    c->restorers--;
  pthread_mutex_unlock (&c->lock);
}

unsigned
clients_count (struct clients *c)
{
  unsigned n;

  pthread_mutex_lock (&c->lock);
  n = c->guests + c->restorers;
  pthread_mutex_unlock (&c->lock);
  return n;
}

/* Nobody tells a filter which sockets its clients are on, but they have the
 * address of the one that they were accepted on. */
static bool
is_accepted_on (int sock, const struct sockaddr_un *address, socklen_t size)
{
  struct sockaddr_un own;
  socklen_t own_size = sizeof own, len = sizeof (int);
  int listens = 1;

  return getsockname (sock, (struct sockaddr *) &own, &own_size) == 0
    && own_size == size && memcmp (&own, address, size) == 0
    && getsockopt (sock, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0
    && !listens;
}

/* nbdkit reads what was sent before, and then the end, as from a client that
 * has hung up; its answers still go out.  What is looked at is a duplicate,
 * since the number may become that of something else at any time. */
int
clients_hang_up (int listener)
{
  struct sockaddr_un address;
  socklen_t size = sizeof address;
  struct dirent *e;
  DIR *dir;

  if (listener == -1) {
    errno = ENOTSUP;
    return -1;
  }
  if (getsockname (listener, (struct sockaddr *) &address, &size) == -1
      || !(dir = opendir ("/proc/self/fd")))
    return -1;
  while ((e = readdir (dir))) {
    int sock = e->d_name[0] == '.' ? -1
      : fcntl (atoi (e->d_name), F_DUPFD_CLOEXEC, 0);

    if (sock == -1)
      continue;
    if (is_accepted_on (sock, &address, size))
      shutdown (sock, SHUT_RD);
    close (sock);
  }
  closedir (dir);
  return 0;
}
