/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The status socket: who connects gets one JSON document. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "loop.h"
#include "status.h"

#define READERS_MAX 16
#define READER_TIME 10.0        /* seconds to read it in */

struct report {
  struct ev_loop *loop;
  struct front *front;
  char *path;
  ev_io accept;
  LIST_HEAD (reader_list, reader) readers;
  unsigned nr_readers;
};

struct reader {
  struct report *report;
  LIST_ENTRY (reader) entry;
  ev_io io;
  ev_timer limit;
  char *text;
  size_t at, len;
};

static bool
nobody_listens (const struct sockaddr_un *sa)
{
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  bool nobody;

  if (fd == -1)
    return false;
  nobody = connect (fd, (const struct sockaddr *) sa, sizeof *sa) == -1
    && errno == ECONNREFUSED;
  close (fd);
  return nobody;
}

static int
bind_private (int fd, const struct sockaddr_un *sa)
{
  mode_t mask = umask (0177);
  int r = bind (fd, (const struct sockaddr *) sa, sizeof *sa);

  if (r == -1 && errno == EADDRINUSE) {
    if (nobody_listens (sa) && unlink (sa->sun_path) == 0)
      r = bind (fd, (const struct sockaddr *) sa, sizeof *sa);
    else
      errno = EADDRINUSE;
  }
  umask (mask);
  return r;
}

int
unix_socket (const char *path)
{
  struct sockaddr_un sa = { .sun_family = AF_UNIX };
  int fd, err;

  if (strlen (path) >= sizeof sa.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (sa.sun_path, path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd == -1)
    return -1;
  if (bind_private (fd, &sa) == 0 && listen (fd, SOMAXCONN) == 0)
    return fd;
  err = errno;
  close (fd);
  errno = err;
  return -1;
}

static void
reader_free (struct reader *r)
{
  LIST_REMOVE (r, entry);
  r->report->nr_readers--;
  ev_io_stop (r->report->loop, &r->io);
  ev_timer_stop (r->report->loop, &r->limit);
  close (r->io.fd);
  free (r->text);
  free (r);
}

static void
write_some (struct ev_loop *loop, ev_io *io, int revents)
{
  struct reader *r = io->data;
  ssize_t n = send (io->fd, r->text + r->at, r->len - r->at,
                    MSG_NOSIGNAL | MSG_DONTWAIT);

  (void) loop;
  (void) revents;
  if (n > 0)
    r->at += n;
  if (r->at == r->len || (n == -1 && errno != EAGAIN && errno != EINTR))
    reader_free (r);
}

static void
too_slow (struct ev_loop *loop, ev_timer *t, int revents)
{
  (void) loop;
  (void) revents;
  reader_free (t->data);
}

static void
reader_new (struct report *p, int fd)
{
  struct reader *r = p->nr_readers < READERS_MAX ? calloc (1, sizeof *r)
    : NULL;

  loop_now (p->front);
  if (r)
    r->text = status_text (p->front);
  if (!r || !r->text) {
    free (r);
    close (fd);
    return;
  }
  r->report = p;
  r->len = strlen (r->text);
  LIST_INSERT_HEAD (&p->readers, r, entry);
  p->nr_readers++;
  ev_io_init (&r->io, write_some, fd, EV_WRITE);
  ev_timer_init (&r->limit, too_slow, READER_TIME, 0);
  r->io.data = r->limit.data = r;
  ev_io_start (p->loop, &r->io);
  ev_timer_start (p->loop, &r->limit);
}

static void
accept_reader (struct ev_loop *loop, ev_io *io, int revents)
{
  int fd = accept4 (io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

  (void) loop;
  (void) revents;
  if (fd != -1)
    reader_new (io->data, fd);
}

struct report *
report_new (struct ev_loop *loop, struct front *front, const char *path,
            int fd)
{
  struct report *p = calloc (1, sizeof *p);
  int err;

  if (!p)
    return NULL;
  p->path = strdup (path);
  if (fd == -1)
    fd = p->path ? unix_socket (path) : -1;
  if (fd == -1) {
    err = errno;
    free (p->path);
    free (p);
    errno = err;
    return NULL;
  }
  p->loop = loop;
  p->front = front;
  LIST_INIT (&p->readers);
  ev_io_init (&p->accept, accept_reader, fd, EV_READ);
  p->accept.data = p;
  /* After the clients: who asks when a client has gone is not told of it. */
  ev_set_priority (&p->accept, EV_MINPRI);
  ev_io_start (loop, &p->accept);
  return p;
}

void
report_free (struct report *p)
{
  struct reader *r;

  if (!p)
    return;
  while ((r = LIST_FIRST (&p->readers)) != NULL)
    reader_free (r);
  ev_io_stop (p->loop, &p->accept);
  close (p->accept.fd);
  unlink (p->path);
  free (p->path);
  free (p);
}
