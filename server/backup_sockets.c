/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The sockets that backup software connects to. */

/* Whoever connects while there is no front waits in the queue of a socket that
 * we hold, and that the next front is given.  A front that reads its options
 * again opens and closes sockets by itself; then ours are exchanged for copies
 * of its own, since a copy that we keep of one that it has closed would still
 * take connections.  Which is which is told by what they are bound to.
 */

#include <config.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backup_options.h"
#include "backup_sockets.h"

#define TCP_BACKLOG 128

/* Sockets on the way from one set to the other. */
struct fitting {
  struct backup_sockets old, new;
  char *why;
  size_t size;
};

static bool
same_address (const struct sockaddr_storage *a, const struct sockaddr *b)
{
  const struct sockaddr_in *a4 = (const void *) a, *b4 = (const void *) b;
  const struct sockaddr_in6 *a6 = (const void *) a, *b6 = (const void *) b;
  const struct sockaddr_un *au = (const void *) a, *bu = (const void *) b;

  if (a->ss_family != b->sa_family)
    return false;
  switch (a->ss_family) {
  case AF_UNIX:
    return strcmp (au->sun_path, bu->sun_path) == 0;
  case AF_INET:
    return a4->sin_port == b4->sin_port
      && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
  case AF_INET6:
    return a6->sin6_port == b6->sin6_port
      && IN6_ARE_ADDR_EQUAL (&a6->sin6_addr, &b6->sin6_addr)
      && a6->sin6_scope_id == b6->sin6_scope_id;
  }
  return false;
}

static bool
is_bound_to (int fd, const struct sockaddr *sa)
{
  struct sockaddr_storage ss;
  socklen_t len = sizeof ss;

  memset (&ss, 0, sizeof ss);
  return getsockname (fd, (struct sockaddr *) &ss, &len) == 0
    && same_address (&ss, sa);
}

static void
remove_one (struct backup_sockets *s, unsigned i)
{
  s->fds[i] = s->fds[--s->nr];
}

/* Takes over fd, which may be -1. */
static int
add_socket (struct backup_sockets *s, int fd)
{
  if (fd == -1)
    return -1;
  if (s->nr == SPAWN_FDS_MAX) {
    close (fd);
    errno = EMFILE;
    return -1;
  }
  s->fds[s->nr++] = fd;
  return 0;
}

/* True if there is an old one, which is new then. */
static bool
keep (struct fitting *f, const struct sockaddr *sa)
{
  unsigned i;

  for (i = 0; i < f->old.nr; i++)
    if (is_bound_to (f->old.fds[i], sa)) {
      int fd = f->old.fds[i];

      remove_one (&f->old, i);
      return add_socket (&f->new, fd) == 0;
    }
  return false;
}

/* A listening socket for one address, or -1 and errno. */
static int
tcp_socket (const struct addrinfo *ai)
{
  const int one = 1;
  int fd = socket (ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC,
                   ai->ai_protocol);
  int err;

  if (fd == -1)
    return -1;
  setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (ai->ai_family == AF_INET6)
    setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (bind (fd, ai->ai_addr, ai->ai_addrlen) == 0
      && listen (fd, TCP_BACKLOG) == 0)
    return fd;
  err = errno;
  close (fd);
  errno = err;
  return -1;
}

static int
fit_unix (struct fitting *f, const struct config *config)
{
  struct sockaddr_un sa = { .sun_family = AF_UNIX };
  char *path = backup_file (config, BACKUP_SOCKET);
  int r = 0;

  snprintf (sa.sun_path, sizeof sa.sun_path, "%s", path);
  /* The file may be another socket's, or gone. */
  if (access (path, F_OK) == -1
      || !keep (f, (const struct sockaddr *) &sa))
    r = add_socket (&f->new, unix_listen (path));
  if (r == -1)
    snprintf (f->why, f->size, "%s: %s", path, strerror (errno));
  free (path);
  return r;
}

/* All addresses that a name has; one is enough. */
static int
fit_tcp (struct fitting *f, const struct config_listen *l)
{
  struct addrinfo hints = {
    .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE,
  }, *all, *ai;
  unsigned before = f->new.nr;
  int r = getaddrinfo (l->host, l->port, &hints, &all);

  if (r != 0) {
    snprintf (f->why, f->size, "%s: %s", l->tcp, gai_strerror (r));
    return -1;
  }
  for (ai = all; ai; ai = ai->ai_next)
    if (!keep (f, ai->ai_addr) && add_socket (&f->new, tcp_socket (ai)) == -1)
      snprintf (f->why, f->size, "cannot listen on %s: %s", l->tcp,
                strerror (errno));
  freeaddrinfo (all);
  return f->new.nr > before ? 0 : -1;
}

int
backup_sockets_fit (struct backup_sockets *s, const struct config *config,
                    char *why, size_t size)
{
  struct fitting f = { .old = *s, .why = why, .size = size };
  size_t i;
  int r = fit_unix (&f, config);

  for (i = 0; r == 0 && i < config->nr_listen; i++)
    r = fit_tcp (&f, &config->listen[i]);
  if (r == -1)
    /* The next attempt finds them here. */
    while (f.old.nr > 0 && add_socket (&f.new, f.old.fds[f.old.nr - 1]) == 0)
      f.old.nr--;
  backup_sockets_close (&f.old);
  *s = f.new;
  return r;
}

void
backup_sockets_take (struct backup_sockets *s, const struct process *front,
                     const struct config *config)
{
  struct sockaddr_un status = { .sun_family = AF_UNIX };
  char *path = backup_file (config, BACKUP_STATUS);
  struct backup_sockets new = { 0 };
  unsigned i;

  snprintf (status.sun_path, sizeof status.sun_path, "%s", path);
  free (path);
  new.nr = process_take_listeners (front, new.fds, SPAWN_FDS_MAX);
  for (i = new.nr; i-- > 0;)
    if (is_bound_to (new.fds[i], (const struct sockaddr *) &status)) {
      close (new.fds[i]);
      remove_one (&new, i);
    }
  if (new.nr == 0)
    return;
  backup_sockets_close (s);
  *s = new;
}

void
backup_sockets_close (struct backup_sockets *s)
{
  while (s->nr > 0)
    close (s->fds[--s->nr]);
}
