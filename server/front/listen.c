/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The sockets clients come through, and how many may come. */

/* A listener is one socket; an address may need several (a name with v4 and v6
 * addresses).  Sockets that were open when we started (LISTEN_FDS) are told
 * apart by what they are bound to: whoever starts us keeps them, so clients
 * can connect, and wait, while we are being restarted.
 *
 * A reload keeps the sockets of addresses that stay, so that no connection in
 * the queue is lost, and prepares everything new before anything old goes.
 *
 * Too many connections, or too many from one client, are closed at once.  If
 * there are no descriptors left, nothing is accepted for a moment; without the
 * pause the loop would spin on the socket that stays ready.
 */

#include <config.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "loop.h"

#define ACCEPTS_PER_TURN 16
#define LOCAL_BUFFER (1 << 19)  /* bytes; the kernel may give less */
#define PAUSE 0.5               /* seconds without descriptors */

struct listener {
  struct listeners *all;
  TAILQ_ENTRY (listener) entry;
  char *text;                   /* of its address */
  char *path;                   /* to be unlinked at the end, or NULL */
  enum tls_mode mode;
  struct tls_context *tls;      /* or NULL */
  int fd;
  ev_io io;
};

TAILQ_HEAD (listener_list, listener);

struct listeners {
  struct ev_loop *loop;
  struct front *front;
  struct listener_list list;
  int *inherited;               /* descriptors not yet matched; -1: used */
  unsigned nr_inherited;
  ev_timer pause;
  bool short_of;                /* descriptors or memory, lately */
};

/* ---------------------------------------------------------------- accepting */

static bool
too_many (const struct front *front, const struct peer *peer)
{
  const struct settings *s = front->settings;
  const struct client *c;
  uint64_t n = 0;

  if (front->nr_clients >= s->max_connections)
    return true;
  TAILQ_FOREACH (c, &front->clients, entry)
    if (c->state != CLIENT_LEAVING && peer_same_client (&c->peer, peer)
        && ++n >= s->max_connections_per_client)
      return true;
  return false;
}

static void
set_tcp_options (int fd)
{
  const int one = 1, idle = 60, interval = 15, count = 4;

  setsockopt (fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

/* A unix socket's buffer does not grow by itself.  With room for a whole
 * request of the usual size, client and backend are woken less often. */
static void
set_unix_options (int fd)
{
  const int size = LOCAL_BUFFER;

  setsockopt (fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void
take_client (struct listener *l, int fd)
{
  struct front *front = l->all->front;
  struct channel ch;
  struct client *c;
  struct peer peer;

  loop_now (front);
  if (peer_of_socket (&peer, fd) == -1 || too_many (front, &peer)) {
    front->refused++;
    close (fd);
    return;
  }
  if (peer.local)
    set_unix_options (fd);
  else
    set_tcp_options (fd);
  channel_of_socket (&ch, fd);
  c = client_new (front, &ch, &peer, l->mode, l->tls);
  if (!c)
    close (fd);
  else if (loop_add (l->all->loop, c) == -1)
    client_free (c);
}

static void
pause_all (struct listeners *ls)
{
  struct listener *l;

  if (!ls->short_of)            /* said once, until somebody gets in */
    front_log (ls->front, LOG_WARNING, "accept: %m; new clients wait");
  ls->short_of = true;
  TAILQ_FOREACH (l, &ls->list, entry)
    ev_io_stop (ls->loop, &l->io);
  ev_timer_set (&ls->pause, PAUSE, 0);
  ev_timer_start (ls->loop, &ls->pause);
}

static void
go_on (struct ev_loop *loop, ev_timer *t, int revents)
{
  struct listeners *ls = t->data;
  struct listener *l;

  (void) revents;
  TAILQ_FOREACH (l, &ls->list, entry)
    ev_io_start (loop, &l->io);
}

static void
accept_some (struct ev_loop *loop, ev_io *io, int revents)
{
  struct listener *l = io->data;
  int i, fd;

  (void) loop;
  (void) revents;
  for (i = 0; i < ACCEPTS_PER_TURN; i++) {
    fd = accept4 (l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd != -1) {
      l->all->short_of = false;
      take_client (l, fd);
    }
    else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS
             || errno == ENOMEM) {
      pause_all (l->all);
      return;
    }
    else if (errno != ECONNABORTED && errno != EINTR)
      return;
  }
}

/* ----------------------------------------------------------------- listeners */

static void
listener_free (struct listener *l)
{
  if (l->all)
    ev_io_stop (l->all->loop, &l->io);
  if (l->fd != -1)
    close (l->fd);
  if (l->path)
    unlink (l->path);
  tls_context_unref (l->tls);
  free (l->path);
  free (l->text);
  free (l);
}

static void
free_list (struct listener_list *list)
{
  struct listener *l;

  while ((l = TAILQ_FIRST (list)) != NULL) {
    TAILQ_REMOVE (list, l, entry);
    listener_free (l);
  }
}

/* Takes over fd. */
static struct listener *
listener_new (struct listeners *ls, struct listener_list *list, int fd,
              const struct address *a)
{
  struct listener *l = calloc (1, sizeof *l);

  if (l)
    l->text = strdup (a->text);
  if (!l || !l->text) {
    free (l);
    close (fd);
    errno = ENOMEM;
    return NULL;
  }
  l->all = ls;
  l->fd = fd;
  l->mode = a->tls;
  ev_io_init (&l->io, accept_some, fd, EV_READ);
  l->io.data = l;
  TAILQ_INSERT_TAIL (list, l, entry);
  return l;
}

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
      && IN6_ARE_ADDR_EQUAL (&a6->sin6_addr, &b6->sin6_addr);
  }
  return false;
}

/* An inherited socket bound there, which is used up by that; or -1. */
static int
inherited (struct listeners *ls, const struct sockaddr *sa)
{
  struct sockaddr_storage ss;
  unsigned i;
  int fd;

  for (i = 0; i < ls->nr_inherited; i++) {
    socklen_t len = sizeof ss;

    memset (&ss, 0, sizeof ss);
    fd = ls->inherited[i];
    if (fd != -1 && getsockname (fd, (struct sockaddr *) &ss, &len) == 0
        && same_address (&ss, sa)) {
      ls->inherited[i] = -1;
      return fd;
    }
  }
  return -1;
}

static int
tcp_socket (const struct addrinfo *ai)
{
  const int one = 1;
  int fd = socket (ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC
                   | SOCK_NONBLOCK, ai->ai_protocol);
  int err;

  if (fd == -1)
    return -1;
  setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (ai->ai_family == AF_INET6)
    setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  if (bind (fd, ai->ai_addr, ai->ai_addrlen) == 0
      && listen (fd, SOMAXCONN) == 0)
    return fd;
  err = errno;
  close (fd);
  errno = err;
  return -1;
}

static int
open_unix (struct listeners *ls, const struct address *a,
           struct listener_list *list)
{
  struct sockaddr_un sa = { .sun_family = AF_UNIX };
  struct listener *l;
  int fd;

  strcpy (sa.sun_path, a->path);
  fd = inherited (ls, (struct sockaddr *) &sa);
  if (fd != -1)
    return listener_new (ls, list, fd, a) ? 0 : -1;
  fd = unix_socket (a->path);
  l = fd == -1 ? NULL : listener_new (ls, list, fd, a);
  if (!l)
    return -1;
  l->path = strdup (a->path);
  return 0;
}

/* All addresses that a name has; one is enough. */
static int
open_tcp (struct listeners *ls, const struct address *a,
          struct listener_list *list)
{
  struct addrinfo hints = {
    .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE,
  }, *all, *ai;
  bool any = false;
  int fd, err = EADDRNOTAVAIL;

  if (getaddrinfo (a->host, a->port, &hints, &all) != 0) {
    errno = EADDRNOTAVAIL;
    return -1;
  }
  for (ai = all; ai; ai = ai->ai_next) {
    fd = inherited (ls, ai->ai_addr);
    if (fd == -1)
      fd = tcp_socket (ai);
    if (fd != -1 && listener_new (ls, list, fd, a))
      any = true;
    else
      err = errno;
  }
  freeaddrinfo (all);
  errno = err;
  return any ? 0 : -1;
}

static bool
has_text (const struct listener_list *list, const char *text)
{
  const struct listener *l;

  TAILQ_FOREACH (l, list, entry)
    if (strcmp (l->text, text) == 0)
      return true;
  return false;
}

/* What one address will have: new sockets, if it has none; and TLS. */
struct plan {
  struct listener_list fresh;
  struct tls_context **tls;     /* one for each address, or NULL */
};

static int
plan_one (struct listeners *ls, const struct address *a, struct plan *plan,
          struct tls_context **tls, char *why, size_t size)
{
  if (a->tls != TLS_OFF) {
    *tls = tls_context_new (a->certificates, a->psk, why, size);
    if (!*tls)
      return -1;
  }
  if (has_text (&ls->list, a->text))
    return 0;
  if ((a->path ? open_unix (ls, a, &plan->fresh)
       : open_tcp (ls, a, &plan->fresh)) == 0)
    return 0;
  snprintf (why, size, "%s: %s", a->text, strerror (errno));
  return -1;
}

static void
plan_free (struct plan *plan, size_t nr)
{
  free_list (&plan->fresh);
  while (plan->tls && nr-- > 0)
    tls_context_unref (plan->tls[nr]);
  free (plan->tls);
}

static const struct address *
find_address (const struct settings *s, const char *text, size_t *i)
{
  for (*i = 0; *i < s->nr_listen; (*i)++)
    if (strcmp (s->listen[*i].text, text) == 0)
      return &s->listen[*i];
  return NULL;
}

/* Cannot fail. */
static void
carry_out (struct listeners *ls, const struct settings *s, struct plan *plan)
{
  struct listener *l, *next;
  size_t i;

  while ((l = TAILQ_FIRST (&plan->fresh)) != NULL) {
    TAILQ_REMOVE (&plan->fresh, l, entry);
    TAILQ_INSERT_TAIL (&ls->list, l, entry);
    if (!ev_is_active (&ls->pause))
      ev_io_start (ls->loop, &l->io);
  }
  for (l = TAILQ_FIRST (&ls->list); l; l = next) {
    const struct address *a = find_address (s, l->text, &i);

    next = TAILQ_NEXT (l, entry);
    if (!a) {
      TAILQ_REMOVE (&ls->list, l, entry);
      listener_free (l);
      continue;
    }
    l->mode = a->tls;
    tls_context_unref (l->tls);
    l->tls = plan->tls[i] ? tls_context_ref (plan->tls[i]) : NULL;
  }
}

int
listeners_configure (struct listeners *ls, const struct settings *s,
                     char *why, size_t size)
{
  struct plan plan = { .tls = calloc (s->nr_listen, sizeof *plan.tls) };
  size_t i;
  int r = plan.tls ? 0 : -1;

  TAILQ_INIT (&plan.fresh);
  if (r == -1)
    snprintf (why, size, "no memory");
  for (i = 0; r == 0 && i < s->nr_listen; i++)
    r = plan_one (ls, &s->listen[i], &plan, &plan.tls[i], why, size);
  if (r == 0)
    carry_out (ls, s, &plan);
  plan_free (&plan, s->nr_listen);
  return r;
}

struct listeners *
listeners_new (struct ev_loop *loop, struct front *front, int first_fd,
               unsigned nr_fds)
{
  struct listeners *ls = calloc (1, sizeof *ls);
  unsigned i;

  if (!ls)
    return NULL;
  ls->loop = loop;
  ls->front = front;
  TAILQ_INIT (&ls->list);
  ev_timer_init (&ls->pause, go_on, 0, 0);
  ls->pause.data = ls;
  ls->inherited = calloc (nr_fds + 1, sizeof *ls->inherited);
  if (!ls->inherited) {
    free (ls);
    return NULL;
  }
  for (i = 0; i < nr_fds; i++)
    ls->inherited[ls->nr_inherited++] = first_fd + i;
  return ls;
}

void
listeners_free (struct listeners *ls)
{
  unsigned i;

  if (!ls)
    return;
  ev_timer_stop (ls->loop, &ls->pause);
  free_list (&ls->list);
  for (i = 0; i < ls->nr_inherited; i++)
    if (ls->inherited[i] != -1)
      close (ls->inherited[i]);
  free (ls->inherited);
  free (ls);
}
