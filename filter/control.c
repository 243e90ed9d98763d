/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One thread that serves the control socket and writes the log. */

/* Requests are carried out one after the other, by this thread alone, so the
 * set of snapshots has one writer.  A request that has to wait (for writes in
 * flight, for a grace period) holds up other control clients until its
 * deadline, and never a guest.
 *
 * Whatever a client sends that is not a whole, valid request gets an error and
 * the connection is closed; a client that does not read its replies is closed
 * as well.  The gate belongs to the connection that closed it and is opened
 * when that goes away.  Clients must run as root or as the user of this
 * process; the socket's mode says so already, this is the second lock.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "durable.h"
#include "fleece.h"
#include "snapshot.h"
#include "wire.h"

#define CLIENTS_MAX 16

enum { POLL_EVENT, POLL_LISTENER, POLL_CLIENTS };

struct control {
  /* Set once. */
  struct fleece *f;
  pthread_t thread;
  int event;                    /* eventfd: something to report, or stop */
  int listener;                 /* or -1 */
  _Atomic bool stop;
  /* The thread's own. */
  int clients[CLIENTS_MAX];     /* or -1 */
  int gate_holder;              /* index of a client, or -1 */
};

void
control_poke (struct control *c)
{
  uint64_t one = 1;

  if (c && write (c->event, &one, sizeof one) == -1)
    return;                     /* full: it has been poked */
}

/* Says which snapshots have begun to lose clusters. */
static void
report_losses (struct control *c)
{
  struct snapset *set = atomic_load (&c->f->set);
  unsigned i;

  for (i = 0; i < set->nr; i++) {
    struct snapshot *s = set->snapshots[i];
    int error = atomic_load (&s->first_error);

    if (error && !s->reported) {
      s->reported = true;
      errno = error;
      nbdkit_error ("%s@%s: old clusters cannot be kept and are lost: %m",
                    s->map.fixed->export_name, s->map.fixed->name);
    }
  }
}

static void
report_durable (struct control *c)
{
  struct snapset *set = atomic_load (&c->f->set);
  unsigned i;

  for (i = 0; i < set->nr; i++)
    if (set->snapshots[i]->durable)
      durable_report (set->snapshots[i]->durable);
}

static void
drop_client (struct control *c, int i)
{
  if (c->gate_holder == i) {
    c->gate_holder = -1;
    if (gate_open (&c->f->gate, NULL, NULL) == 0)
      nbdkit_error ("the gate was held by a client that went away: opened");
  }
  close (c->clients[i]);
  c->clients[i] = -1;
}

static void
hello (const struct fleece *f, struct wire_hello *h)
{
  h->disk_size = f->disk_size;
  h->cluster_size = f->cluster_size;
  h->pid = getpid ();
  h->nr_snapshots = atomic_load (&f->set)->nr;
  strncpy (h->nbdkit_version, NBDKIT_VERSION_STRING,
           sizeof h->nbdkit_version - 1);
  strncpy (h->export_name, f->options.export_name,
           sizeof h->export_name - 1);
  strncpy (h->config_id, f->options.id ? f->options.id : "",
           sizeof h->config_id - 1);
}

static uint64_t
get (const _Atomic uint64_t *p)
{
  return atomic_load_explicit (p, memory_order_relaxed);
}

static int
stats (struct fleece *f, const uint8_t uuid[16], struct wire_stats *st)
{
  static const uint8_t none[16];
  struct snapset *set = atomic_load (&f->set);
  struct snapshot *s;
  unsigned i;

  if (memcmp (uuid, none, sizeof none) != 0) {
    s = snapshots_find (f, uuid);
    if (!s) {
      errno = ENOENT;
      return -1;
    }
    snapshot_count (s, st);
    return 0;
  }
  /* All that were, but only the scratch that is. */
  st->copied_clusters = f->ended.copied_clusters;
  st->zero_clusters = f->ended.zero_clusters;
  st->lost_clusters = f->ended.lost_clusters;
  for (i = 0; i < set->nr; i++)
    snapshot_count (set->snapshots[i], st);
  for (i = 0; i < GATE_SLOTS; i++) {
    const struct gate_slot *slot = &f->gate.slots[i];

    st->writes += get (&slot->writes);
    st->written_bytes += get (&slot->written_bytes);
    st->zeroes += get (&slot->zeroes);
    st->trims += get (&slot->trims);
  }
  st->held_requests = get (&f->gate.held);
  st->cow_requests = get (&f->cow_requests);
  st->failed_requests = get (&f->failed_requests);
  st->cow_max_us = get (&f->cow_max_us);
  st->clients = clients_count (&f->clients);
  for (i = 0; i < WIRE_HISTOGRAM; i++)
    st->histogram[i] = get (&f->histogram[i]);
  return 0;
}

static void
list (const struct fleece *f, struct wire_list *l)
{
  const struct snapset *set = atomic_load (&f->set);

  for (; l->nr < set->nr; l->nr++)
    memcpy (l->uuids[l->nr], set->snapshots[l->nr]->map.fixed->uuid, 16);
}

static int
freeze (struct control *c, int i, const struct wire_request *req,
        struct wire_begun *begun)
{
  if (gate_close (&c->f->gate, req->deadline_ms) == -1)
    return -1;
  begun->drain_ns = c->f->gate.drained_at - c->f->gate.closed_at;
  c->gate_holder = i;
  return 0;
}

static int
begin (struct control *c, int i, const struct wire_request *req,
       const int *fds, unsigned nr_fds, struct wire_begun *begun)
{
  if (req->flags & WIRE_BEGIN_FROZEN) {
    if (c->gate_holder != i) {
      errno = ESTALE;
      return -1;
    }
    c->gate_holder = -1;
  }
  return snapshots_begin (c->f, req, fds, nr_fds, c->clients[i], begun);
}

static int
thaw (struct control *c, int i, struct wire_begun *begun)
{
  if (c->gate_holder != i) {
    errno = ESTALE;
    return -1;
  }
  c->gate_holder = -1;
  return gate_open (&c->f->gate, &begun->closed_ns, &begun->drain_ns);
}

static bool
deadline_ok (const struct wire_request *req)
{
  if (req->deadline_ms >= 1 && req->deadline_ms <= WIRE_DEADLINE_MS_MAX)
    return true;
  errno = EINVAL;
  return false;
}

static int
carry_out (struct control *c, int i, const struct wire_request *req,
           const int *fds, unsigned nr_fds, struct wire_reply *reply)
{
  switch (req->op) {
  case WIRE_HELLO:
    hello (c->f, &reply->u.hello);
    return 0;
  case WIRE_FREEZE:
    return deadline_ok (req) ? freeze (c, i, req, &reply->u.begun) : -1;
  case WIRE_THAW:
    return thaw (c, i, &reply->u.begun);
  case WIRE_BEGIN:
    return deadline_ok (req)
      ? begin (c, i, req, fds, nr_fds, &reply->u.begun) : -1;
  case WIRE_END:
    return snapshots_end (c->f, req->uuid);
  case WIRE_STATS:
    return stats (c->f, req->uuid, &reply->u.stats);
  case WIRE_UNTRACK:
    return snapshots_untrack (c->f, req->uuid);
  case WIRE_LIST:
    list (c->f, &reply->u.list);
    return 0;
  case WIRE_HANG_UP:
    return clients_hang_up (c->f->listener);
  }
  errno = ENOTSUP;
  return -1;
}

static int
send_reply (struct control *c, int i, struct wire_reply *reply)
{
  bool with_listener = reply->op == WIRE_HELLO && reply->error == 0
    && c->f->listener != -1;

  reply->nr_files = with_listener;
  return wire_send (c->clients[i], reply, sizeof *reply,
                    &c->f->listener, with_listener);
}

static void
serve (struct control *c, int i)
{
  struct wire_request req;
  struct wire_reply reply = { .magic = WIRE_MAGIC, .version = WIRE_VERSION };
  int fds[WIRE_FILES_MAX];
  unsigned nr_fds = 0, j;
  int64_t n = wire_recv (c->clients[i], &req, sizeof req, fds, &nr_fds);
  bool valid = n == sizeof req && req.magic == WIRE_MAGIC
    && req.version == WIRE_VERSION;

  if (n == -1 && errno == EAGAIN)
    return;
  if (valid) {
    reply.op = req.op;
    reply.cookie = req.cookie;
    if (carry_out (c, i, &req, fds, nr_fds, &reply) == -1)
      reply.error = errno;
  }
  else
    reply.error = EPROTO;
  for (j = 0; n != -1 && j < nr_fds; j++)
    close (fds[j]);
  if (n == 0 || send_reply (c, i, &reply) == -1 || !valid)
    drop_client (c, i);
  snapshots_settle (c->f);
}

static bool
may_connect (int sock)
{
  struct ucred cred;
  socklen_t len = sizeof cred;

  return getsockopt (sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0
    && (cred.uid == 0 || cred.uid == geteuid ());
}

static void
accept_client (struct control *c)
{
  int sock = accept4 (c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  int i;

  if (sock == -1)
    return;
  for (i = 0; i < CLIENTS_MAX && c->clients[i] != -1; i++)
    ;
  if (i == CLIENTS_MAX || !may_connect (sock))
    close (sock);
  else
    c->clients[i] = sock;
}

static void
handle_events (struct control *c, const struct pollfd *p)
{
  uint64_t count;
  int i;

  if (p[POLL_EVENT].revents
      && read (c->event, &count, sizeof count) == sizeof count)
    report_losses (c);
  for (i = 0; i < CLIENTS_MAX; i++)
    if (p[POLL_CLIENTS + i].revents)
      serve (c, i);
  if (p[POLL_LISTENER].revents)
    accept_client (c);
}

static void *
control_thread (void *opaque)
{
  struct control *c = opaque;
  struct pollfd p[POLL_CLIENTS + CLIENTS_MAX] = { 0 };
  int i;

  while (!atomic_load (&c->stop)) {
    report_durable (c);
    p[POLL_EVENT] = (struct pollfd) { .fd = c->event, .events = POLLIN };
    p[POLL_LISTENER] = (struct pollfd) { .fd = c->listener, .events = POLLIN };
    for (i = 0; i < CLIENTS_MAX; i++)
      p[POLL_CLIENTS + i] = (struct pollfd) { .fd = c->clients[i],
                                              .events = POLLIN };
    if (poll (p, POLL_CLIENTS + CLIENTS_MAX, gate_expire (&c->f->gate)) > 0)
      handle_events (c, p);
  }
  return NULL;
}

static int
listen_at (const char *where)
{
  int fd;

  if (strncmp (where, "fd:", 3) != 0)
    return wire_listen (where);
  fd = atoi (where + 3);
  return fcntl (fd, F_SETFD, FD_CLOEXEC) == -1 ? -1 : fd;
}

int
control_start (struct fleece *f)
{
  struct control *c = calloc (1, sizeof *c);
  int i;

  if (!c)
    goto failed;
  c->f = f;
  c->gate_holder = -1;
  c->listener = -1;
  for (i = 0; i < CLIENTS_MAX; i++)
    c->clients[i] = -1;
  c->event = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (c->event == -1)
    goto free_c;
  if (f->options.control) {
    c->listener = listen_at (f->options.control);
    if (c->listener == -1)
      goto close_event;
  }
  f->control = c;
  if (pthread_create (&c->thread, NULL, control_thread, c) == 0)
    return 0;
  f->control = NULL;
  if (c->listener != -1)
    close (c->listener);
 close_event:
  close (c->event);
 free_c:
  free (c);
 failed:
  nbdkit_error ("control socket %s: %m",
                f->options.control ? f->options.control : "");
  return -1;
}

void
control_free (struct control *c)
{
  int i;

  if (!c)
    return;
  atomic_store (&c->stop, true);
  control_poke (c);
  pthread_join (c->thread, NULL);
  for (i = 0; i < CLIENTS_MAX; i++)
    if (c->clients[i] != -1)
      drop_client (c, i);
  if (c->listener != -1)
    close (c->listener);
  close (c->event);
  free (c);
}
