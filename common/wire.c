/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Packets with descriptors over SOCK_SEQPACKET. */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

/* More room than WIRE_FILES_MAX, so that too many are seen and closed. */
#define FDS_ROOM 16

int
wire_send (int sock, const void *packet, uint32_t size,
           const int *fds, unsigned nr_fds)
{
  union {
    char room[CMSG_SPACE (sizeof (int) * WIRE_FILES_MAX)];
    struct cmsghdr align;
  } control = { 0 };
  struct iovec iov = { .iov_base = (void *) packet, .iov_len = size };
  struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
  ssize_t r;

  if (nr_fds > WIRE_FILES_MAX) {
    errno = EINVAL;
    return -1;
  }
  if (nr_fds > 0) {
    struct cmsghdr *c;

    msg.msg_control = control.room;
    msg.msg_controllen = CMSG_SPACE (sizeof (int) * nr_fds);
    c = CMSG_FIRSTHDR (&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN (sizeof (int) * nr_fds);
    memcpy (CMSG_DATA (c), fds, sizeof (int) * nr_fds);
  }
  do
    r = sendmsg (sock, &msg, MSG_NOSIGNAL);
  while (r == -1 && errno == EINTR);
  return r == -1 ? -1 : 0;
}

/* Takes the descriptors out of a message, at most FDS_ROOM. */
static unsigned
take_fds (struct msghdr *msg, int *fds)
{
  struct cmsghdr *c;
  unsigned n = 0, count;

  for (c = CMSG_FIRSTHDR (msg); c; c = CMSG_NXTHDR (msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
      continue;
    count = (c->cmsg_len - CMSG_LEN (0)) / sizeof (int);
    if (count > FDS_ROOM - n)
      count = FDS_ROOM - n;
    memcpy (fds + n, CMSG_DATA (c), count * sizeof (int));
    n += count;
  }
  return n;
}

int64_t
wire_recv (int sock, void *packet, uint32_t size,
           int fds[WIRE_FILES_MAX], unsigned *nr_fds)
{
  union {
    char room[CMSG_SPACE (sizeof (int) * FDS_ROOM)];
    struct cmsghdr align;
  } control;
  struct iovec iov = { .iov_base = packet, .iov_len = size };
  struct msghdr msg = {
    .msg_iov = &iov, .msg_iovlen = 1,
    .msg_control = control.room, .msg_controllen = sizeof control.room,
  };
  int all[FDS_ROOM];
  unsigned n, i;
  ssize_t r;

  do
    r = recvmsg (sock, &msg, MSG_CMSG_CLOEXEC);
  while (r == -1 && errno == EINTR);
  if (r == -1)
    return -1;
  n = take_fds (&msg, all);
  if (n > WIRE_FILES_MAX || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
    for (i = 0; i < n; i++)
      close (all[i]);
    errno = EPROTO;
    return -1;
  }
  memcpy (fds, all, n * sizeof (int));
  *nr_fds = n;
  return r;
}

static int
unix_socket (const char *path, struct sockaddr_un *addr)
{
  *addr = (struct sockaddr_un) { .sun_family = AF_UNIX };
  if (strlen (path) >= sizeof addr->sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (addr->sun_path, path);
  return socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
}

int
wire_connect (const char *path)
{
  struct sockaddr_un addr;
  int sock = unix_socket (path, &addr), err;

  if (sock == -1)
    return -1;
  if (connect (sock, (struct sockaddr *) &addr, sizeof addr) == -1) {
    err = errno;
    close (sock);
    errno = err;
    return -1;
  }
  return sock;
}

/* The mode is set between bind and listen: until then nobody can connect. */
int
wire_listen (const char *path)
{
  struct sockaddr_un addr;
  int sock = unix_socket (path, &addr), err;

  if (sock == -1)
    return -1;
  if (unlink (path) == -1 && errno != ENOENT)
    goto failed;
  if (bind (sock, (struct sockaddr *) &addr, sizeof addr) == -1
      || chmod (path, 0600) == -1 || listen (sock, 64) == -1)
    goto failed;
  return sock;

 failed:
  err = errno;
  close (sock);
  errno = err;
  return -1;
}

void
wire_request_init (struct wire_request *req, enum wire_op op, uint64_t cookie)
{
  *req = (struct wire_request) {
    .magic = WIRE_MAGIC, .version = WIRE_VERSION, .op = op, .cookie = cookie,
  };
}

int
wire_call (int sock, const struct wire_request *req,
           const int *fds, unsigned nr_fds, struct wire_reply *reply, int *fd)
{
  int got[WIRE_FILES_MAX];
  unsigned n = 0, i;
  int64_t r;

  if (fd)
    *fd = -1;
  if (wire_send (sock, req, sizeof *req, fds, nr_fds) == -1)
    return -1;
  r = wire_recv (sock, reply, sizeof *reply, got, &n);
  if (r == -1)
    return -1;
  for (i = 0; i < n; i++) {
    if (fd && i == 0)
      *fd = got[i];
    else
      close (got[i]);
  }
  if (r == 0) {
    errno = ECONNRESET;
    return -1;
  }
  if (r != sizeof *reply || reply->magic != WIRE_MAGIC
      || reply->cookie != req->cookie) {
    errno = EPROTO;
    return -1;
  }
  if (reply->error) {
    errno = reply->error;
    return -1;
  }
  return 0;
}

unsigned
wire_bucket (uint64_t us)
{
  unsigned log, bucket;

  if (us < 4)
    return us;
  log = 63 - __builtin_clzll (us);
  bucket = (log - 1) * 4 + (us >> (log - 2) & 3);
  return bucket < WIRE_HISTOGRAM ? bucket : WIRE_HISTOGRAM - 1;
}

uint64_t
wire_bucket_start (unsigned bucket)
{
  if (bucket < 4)
    return bucket;
  return (uint64_t) (4 + bucket % 4) << (bucket / 4 - 1);
}

uint64_t
wire_quantile (const uint64_t histogram[WIRE_HISTOGRAM], double q)
{
  uint64_t sum = 0, target;
  unsigned i;

  for (i = 0; i < WIRE_HISTOGRAM; i++)
    sum += histogram[i];
  if (sum == 0)
    return 0;
  target = q * (sum - 1);
  for (i = 0; i < WIRE_HISTOGRAM - 1; i++) {
    if (histogram[i] > target)
      break;
    target -= histogram[i];
  }
  return wire_bucket_start (i);
}
