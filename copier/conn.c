/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* NBD connections in the loop: from a URI to a set that is up, and its end. */

/* libnbd's rules, as far as they shape this:
 *
 * - a callback runs inside a libnbd call that holds the handle's lock, and may
 *   call nothing of libnbd; so callbacks here write down what they were told,
 *   and conn_check, in the next turn, acts on it;
 * - what the library wants to wait for (its direction) may change with every
 *   call, so conn_arm asks before each sleep;
 * - when both may be done, read goes first and write must not follow it, since
 *   reading may have changed the state.
 *
 * The handshake stops before the export is asked for (opt mode), so that "no
 * such export" can be told from "no server".
 */

#include <config.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "conn_internal.h"

/* A server that accepts and then says nothing counts as unreachable. */
#define CONNECT_SECONDS 30.

/* A host that is gone says nothing.  TCP asks it after so many seconds of
 * silence, and every few seconds from then on; or, if it owes us an
 * acknowledgement, sends again.  After SILENCE_SECONDS in all the connection
 * counts as lost. */
#define SILENCE_SECONDS 45
#define PROBE_SECONDS 5

#define LOCAL_BUFFER (1 << 19)  /* bytes; the kernel may give less */

/* The text of libnbd's error without the name of the function. */
static const char *
nbd_text (void)
{
  const char *s = nbd_get_error (), *p;

  if (!s)
    return "unknown error";
  p = strncmp (s, "nbd_", 4) == 0 ? strstr (s, ": ") : NULL;
  return p ? p + 2 : s;
}

int
conn_nbd_errno (void)
{
  int err = nbd_get_errno ();

  return err ? err : EIO;
}

void
conn_note_error (struct conn *c, const char *what)
{
  c->set->err = conn_nbd_errno ();
  message_set (&c->set->why, "%s%s", what, nbd_text ());
}

static void
io_event (struct ev_loop *ev, ev_io *w, int revents)
{
  struct conn *c = w->data;
  int r = 0;

  (void) ev;
  c->touched = true;
  if (revents & EV_READ)
    r = nbd_aio_notify_read (c->nbd);
  else if (revents & EV_WRITE)
    r = nbd_aio_notify_write (c->nbd);
  if (r == -1)
    conn_note_error (c, "");
}

static void
watch (struct conn *c)
{
  unsigned dir = nbd_aio_get_direction (c->nbd);
  int events = (dir & LIBNBD_AIO_DIRECTION_READ ? EV_READ : 0)
    | (dir & LIBNBD_AIO_DIRECTION_WRITE ? EV_WRITE : 0);
  int fd;

  /* While it connects, the library may replace the socket by another that
   * has the same number. */
  if (c->set->state == CONN_UP && events == c->events)
    return;
  fd = nbd_aio_get_fd (c->nbd);
  ev_io_stop (c->set->loop->ev, &c->watcher);
  c->events = events;
  if (fd == -1 || events == 0)
    return;
  ev_io_set (&c->watcher, fd, events);
  ev_io_start (c->set->loop->ev, &c->watcher);
}

static void
close_one (struct conn *c, bool polite)
{
  struct io *io;

  ev_io_stop (c->set->loop->ev, &c->watcher);
  if (c->nbd) {
    if (polite && nbd_aio_is_ready (c->nbd))
      nbd_aio_disconnect (c->nbd, 0);
    nbd_close (c->nbd);
  }
  c->nbd = NULL;
  /* Only now does nobody use the buffers any more. */
  while ((io = c->flight) != NULL) {
    conn_unlink (c, io);
    loop_complete (io, ENOTCONN);
  }
}

static void
close_all (struct conn_set *set, bool polite)
{
  unsigned i;

  for (i = 0; i < set->nr; i++)
    close_one (&set->conns[i], polite);
  set->nr = 0;
  ev_timer_stop (set->loop->ev, &set->timer);
  set->state = CONN_DOWN;
}

/* Fails on unix sockets, which notice by themselves. */
static void
watch_over (struct conn *c)
{
  static const struct { int level, option, value; } options[] = {
    { SOL_SOCKET, SO_KEEPALIVE, 1 },
    { IPPROTO_TCP, TCP_KEEPIDLE, 2 * PROBE_SECONDS },
    { IPPROTO_TCP, TCP_KEEPINTVL, PROBE_SECONDS },
    { IPPROTO_TCP, TCP_KEEPCNT, SILENCE_SECONDS / PROBE_SECONDS - 2 },
    { IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000 },
  };
  int fd = nbd_aio_get_fd (c->nbd);
  size_t i;

  for (i = 0; fd != -1 && i < sizeof options / sizeof options[0]; i++)
    setsockopt (fd, options[i].level, options[i].option, &options[i].value,
                sizeof options[i].value);
}

/* A Unix socket's buffer does not grow by itself.  With room for a whole
 * request of the usual size we and the server are woken less often. */
static void
make_room (struct conn *c)
{
  const int size = LOCAL_BUFFER;
  int fd = nbd_aio_get_fd (c->nbd), domain;
  socklen_t len = sizeof domain;

  if (fd != -1
      && getsockopt (fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0
      && domain == AF_UNIX)
    setsockopt (fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* Ends a connect, for better or worse. */
static void
connected (struct conn_set *set, int error)
{
  struct io *io = set->connecting;

  ev_timer_stop (set->loop->ev, &set->timer);
  set->connecting = NULL;
  if (error)
    close_all (set, false);
  else
    set->state = CONN_UP;
  loop_complete (io, error);
}

static void
timed_out (struct ev_loop *ev, ev_timer *w, int revents)
{
  struct conn_set *set = w->data;

  (void) ev;
  (void) revents;
  message_set (&set->why, "the server does not answer");
  connected (set, ETIMEDOUT);
}

static int
start_socket (struct conn *c)
{
  const struct conn_params *p = &c->set->params;
  int fd, r;

  if (p->uri) {
    r = nbd_aio_connect_uri (c->nbd, p->uri);
    if (r == -1)
      conn_note_error (c, "");
    return r;
  }
  fd = p->socket (p->opaque, &c->set->why);
  if (fd == -1) {
    c->set->err = ECONNREFUSED;
    return -1;
  }
  r = nbd_aio_connect_socket (c->nbd, fd);
  if (r == -1)
    conn_note_error (c, "");
  return r;
}

/* Begins one more connection.  0, or -1 with why. */
static int
open_one (struct conn_set *set)
{
  struct conn *c = &set->conns[set->nr];

  memset (c, 0, sizeof *c);
  c->set = set;
  c->nbd = nbd_create ();
  if (!c->nbd) {
    conn_note_error (c, "");
    return -1;
  }
  set->nr++;
  ev_io_init (&c->watcher, io_event, -1, 0);
  c->watcher.data = c;
  nbd_set_opt_mode (c->nbd, true);
  nbd_set_uri_allow_local_file (c->nbd, true); /* tls-psk-file= */
  nbd_set_pread_initialize (c->nbd, false);
  if (set->params.extents)
    nbd_add_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION);
  return start_socket (c);
}

static int
went (void *opaque, int *error)
{
  struct conn *c = opaque;

  c->gone = true;
  c->go_error = *error;
  return 1;
}

static uint32_t
block_size (struct nbd_handle *nbd, int which, uint32_t otherwise)
{
  int64_t n = nbd_get_block_size (nbd, which);

  return n > 0 && n <= UINT32_MAX ? n : otherwise;
}

static int
learn (struct conn_set *set)
{
  struct nbd_handle *nbd = set->conns[0].nbd;
  int64_t size = nbd_get_size (nbd);

  if (size == -1) {
    conn_note_error (&set->conns[0], "");
    return -1;
  }
  set->info = (struct conn_info) {
    .size = size,
    .min_block = block_size (nbd, LIBNBD_SIZE_MINIMUM, 1),
    .preferred_block = block_size (nbd, LIBNBD_SIZE_PREFERRED, 0),
    .max_block = block_size (nbd, LIBNBD_SIZE_MAXIMUM, 32 * 1024 * 1024),
    .read_only = nbd_is_read_only (nbd) > 0,
    .can_zero = nbd_can_zero (nbd) > 0,
    .can_flush = nbd_can_flush (nbd) > 0,
    .multi_conn = nbd_can_multi_conn (nbd) > 0,
    .can_extents = set->params.extents
      && nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0,
  };
  return 0;
}

static int
refused (struct conn *c)
{
  char *name = nbd_get_export_name (c->nbd);

  c->set->final = true;
  c->set->err = c->go_error;
  message_set (&c->set->why, c->go_error == ENOENT
               ? "the server has no export \"%s\""
               : "the server refuses the export \"%s\": %s",
               name ? name : "", strerror (c->go_error));
  free (name);
  return -1;
}

static int
ask_for_export (struct conn *c)
{
  nbd_completion_callback cb = { .callback = went, .user_data = c };

  c->going = true;
  watch_over (c);
  make_room (c);
  if (nbd_aio_opt_go (c->nbd, cb) == 0)
    return 0;
  conn_note_error (c, "");
  return -1;
}

/* Moves one connection on.  1: it is ready; 0: wait; -1: failed, with why. */
static int
advance (struct conn *c)
{
  for (;;) {
    if (nbd_aio_is_ready (c->nbd) || nbd_aio_is_processing (c->nbd))
      return 1;
    if (nbd_aio_is_dead (c->nbd) || nbd_aio_is_closed (c->nbd)) {
      if (!c->set->why.text[0])
        message_set (&c->set->why, "the server closed the connection");
      return -1;
    }
    if (!nbd_aio_is_negotiating (c->nbd))
      return 0;
    if (c->gone)
      return refused (c);
    if (c->going)
      return 0;
    /* The answer may be there by the time this returns, and then no event
     * will tell of it: look again. */
    if (ask_for_export (c) == -1)
      return -1;
  }
}

static void
check_connecting (struct conn_set *set)
{
  unsigned i, ready = 0, wanted = 1;
  int r;

  for (i = 0; i < set->nr; i++) {
    r = advance (&set->conns[i]);
    if (r == -1) {
      connected (set, set->err ? set->err : ECONNREFUSED);
      return;
    }
    ready += r;
  }
  if (ready < set->nr)
    return;
  if (set->nr == 1 && learn (set) == -1) {
    connected (set, set->err);
    return;
  }
  if (set->info.multi_conn)
    wanted = set->params.connections;
  while (set->nr < wanted)
    if (open_one (set) == -1) {
      connected (set, set->err);
      return;
    }
  if (ready >= wanted)
    connected (set, 0);
}

static void
check_up (struct conn_set *set)
{
  unsigned i;

  for (i = 0; i < set->nr; i++) {
    struct conn *c = &set->conns[i];

    if (!c->touched)
      continue;
    c->touched = false;
    if (nbd_aio_get_direction (c->nbd) == 0) {
      if (!set->why.text[0])
        message_set (&set->why, "the server closed the connection");
      set->state = CONN_LOST;
    }
  }
}

static void
conn_check (struct loop_hook *hook)
{
  struct conn_set *set = (struct conn_set *) hook;

  if (set->state == CONN_CONNECTING && set->connecting)
    check_connecting (set);
  else if (set->state == CONN_UP)
    check_up (set);
}

static void
conn_arm (struct loop_hook *hook)
{
  struct conn_set *set = (struct conn_set *) hook;
  unsigned i;

  for (i = 0; i < set->nr; i++)
    watch (&set->conns[i]);
}

struct conn_set *
conn_new (struct loop *l, const struct conn_params *p)
{
  struct conn_set *set = calloc (1, sizeof *set);

  if (!set)
    return NULL;
  set->hook.check = conn_check;
  set->hook.arm = conn_arm;
  set->loop = l;
  set->params = *p;
  ev_timer_init (&set->timer, timed_out, CONNECT_SECONDS, 0.);
  set->timer.data = set;
  loop_add_hook (l, &set->hook);
  return set;
}

void
conn_free (struct conn_set *set)
{
  if (!set)
    return;
  close_all (set, false);
  loop_remove_hook (set->loop, &set->hook);
  free (set);
}

void
conn_connect (struct conn_set *set, struct io *io)
{
  set->state = CONN_CONNECTING;
  set->connecting = io;
  set->why.text[0] = '\0';
  set->err = 0;
  set->final = false;
  ev_timer_set (&set->timer, CONNECT_SECONDS, 0.);
  ev_timer_start (set->loop->ev, &set->timer);
  if (open_one (set) == -1)
    connected (set, set->err);
}

void
conn_disconnect (struct conn_set *set, bool polite)
{
  struct io *io = set->connecting;

  set->connecting = NULL;
  close_all (set, polite);
  if (io)
    loop_complete (io, ENOTCONN);
}

bool
conn_lost (const struct conn_set *set)
{
  return set->state == CONN_LOST;
}

const struct conn_info *
conn_info (const struct conn_set *set)
{
  return &set->info;
}

const char *
conn_why (const struct conn_set *set, bool *final)
{
  *final = set->final;
  return set->why.text;
}
