/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The daemon's end of the filter's control protocol, in the event loop. */

/* Replies come in the order of the requests, so calls are a queue.  A request
 * is sent when it is made: the socket holds hundreds, and a filter that has
 * left so many unread is as good as gone.  The same is true of one that lets
 * a call time out: a late reply would be taken for that of the next call, so
 * the connection is given up, and all that wait are told.
 *
 * Answers are given from the loop only, from `readable' or `give_up', one at
 * a time; the callee may close the client in any of them, so `busy' keeps the
 * memory until the last frame has returned.
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "filter_client.h"
#include "util.h"

struct call {
  STAILQ_ENTRY (call) entry;
  uint64_t cookie;
  ev_tstamp end;                /* 0: none */
  filter_reply reply;
  void *opaque;
};

struct filter_client {
  struct ev_loop *loop;
  int sock;                     /* -1: lost */
  int error;                    /* why it is lost */
  uint64_t next_cookie;
  STAILQ_HEAD (, call) calls;
  ev_io io;
  ev_timer timer;               /* the first call's end, or now if lost */
  unsigned busy;
  bool closed;
};

static void
free_if_done (struct filter_client *c)
{
  struct call *call;

  if (!c->closed || c->busy > 0)
    return;
  while ((call = STAILQ_FIRST (&c->calls))) {
    STAILQ_REMOVE_HEAD (&c->calls, entry);
    free (call);
  }
  free (c);
}

static void
arm_timer (struct filter_client *c)
{
  struct call *call = STAILQ_FIRST (&c->calls);
  double after;

  ev_timer_stop (c->loop, &c->timer);
  if (!call || c->closed || (c->sock != -1 && call->end == 0))
    return;
  after = c->sock == -1 ? 0 : call->end - ev_now (c->loop);
  ev_timer_set (&c->timer, after > 0 ? after : 0, 0);
  ev_timer_start (c->loop, &c->timer);
}

/* Takes the first call off the queue and answers it. */
static void
answer (struct filter_client *c, int error, const struct wire_reply *reply,
        int fd)
{
  struct call *call = STAILQ_FIRST (&c->calls);

  STAILQ_REMOVE_HEAD (&c->calls, entry);
  call->reply (call->opaque, error, error ? NULL : reply, fd);
  free (call);
}

static void
lose (struct filter_client *c, int error)
{
  if (c->sock == -1)
    return;
  ev_io_stop (c->loop, &c->io);
  close (c->sock);
  c->sock = -1;
  c->error = error;
}

static void
give_up (struct filter_client *c, int error)
{
  lose (c, error);
  c->busy++;
  while (!c->closed && !STAILQ_EMPTY (&c->calls))
    answer (c, c->error, NULL, -1);
  c->busy--;
  free_if_done (c);
}

static void
timed_out (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  give_up (w->data, ETIMEDOUT);
}

/* One packet.  False if the connection is no good any more, with errno. */
static bool
take_reply (struct filter_client *c)
{
  struct wire_reply reply;
  struct call *call = STAILQ_FIRST (&c->calls);
  int fds[WIRE_FILES_MAX], fd = -1, error;
  unsigned nr_fds = 0, i;
  int64_t r;

  r = wire_recv (c->sock, &reply, sizeof reply, fds, &nr_fds);
  if (r == -1)
    return errno == EAGAIN;
  for (i = 0; i < nr_fds; i++) {
    if (i == 0)
      fd = fds[i];
    else
      close (fds[i]);
  }
  error = 0;
  if (r == 0)
    error = ECONNRESET;
  else if (r != sizeof reply || reply.magic != WIRE_MAGIC
           || reply.version != WIRE_VERSION || !call
           || (reply.cookie != call->cookie && reply.error != EPROTO))
    error = EPROTO;
  if (error || reply.error) {
    if (fd != -1)
      close (fd);
    fd = -1;
  }
  if (error) {
    errno = error;
    return false;
  }
  answer (c, reply.error, &reply, fd);
  return true;
}

static void
readable (struct ev_loop *loop, ev_io *w, int revents)
{
  struct filter_client *c = w->data;

  (void) loop;
  (void) revents;
  c->busy++;
  if (take_reply (c))
    arm_timer (c);
  else if (!c->closed)
    give_up (c, errno);
  c->busy--;
  free_if_done (c);
}

struct filter_client *
filter_connect (struct ev_loop *loop, const char *path)
{
  int sock = unix_connect (path, SOCK_SEQPACKET);
  struct filter_client *c;

  if (sock == -1)
    return NULL;
  c = xcalloc (1, sizeof *c);
  c->loop = loop;
  c->sock = sock;
  STAILQ_INIT (&c->calls);
  ev_io_init (&c->io, readable, sock, EV_READ);
  c->io.data = c;
  ev_io_start (loop, &c->io);
  ev_timer_init (&c->timer, timed_out, 0, 0);
  c->timer.data = c;
  return c;
}

void
filter_call (struct filter_client *c, const struct wire_request *request,
             const int *fds, unsigned nr_fds, double timeout,
             filter_reply reply, void *opaque)
{
  struct wire_request packet = *request;
  struct call *call = xcalloc (1, sizeof *call);

  call->cookie = packet.cookie = ++c->next_cookie;
  call->reply = reply;
  call->opaque = opaque;
  if (timeout > 0)
    call->end = ev_now (c->loop) + timeout;
  STAILQ_INSERT_TAIL (&c->calls, call, entry);
  if (c->sock != -1
      && wire_send (c->sock, &packet, sizeof packet, fds, nr_fds) == -1)
    lose (c, errno == EAGAIN ? ETIMEDOUT : ECONNRESET);
  arm_timer (c);
}

bool
filter_is_connected (const struct filter_client *c)
{
  return c && c->sock != -1;
}

void
filter_close (struct filter_client *c)
{
  if (!c || c->closed)
    return;
  lose (c, ECONNRESET);
  c->busy++;
  while (!c->closed && !STAILQ_EMPTY (&c->calls))
    answer (c, ECONNRESET, NULL, -1);
  c->busy--;
  filter_abandon (c);
}

void
filter_abandon (struct filter_client *c)
{
  if (!c || c->closed)
    return;
  lose (c, ECONNRESET);
  ev_timer_stop (c->loop, &c->timer);
  c->closed = true;
  free_if_done (c);
}
