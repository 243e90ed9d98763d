/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The first bytes of an NBD connection, to see that a server is up. */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "greeting.h"

/* NBDMAGIC, IHAVEOPT and two bytes of flags. */
#define GREETING_SIZE 18
static const char greeting_magic[16] = {
  'N', 'B', 'D', 'M', 'A', 'G', 'I', 'C',
  'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T',
};

/* Client flags (fixed newstyle, no zeroes), then the option ABORT, so that
 * the server has nothing to complain about. */
static const char farewell[] = {
  0, 0, 0, 3,
  'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 2, 0, 0, 0, 0,
};

void
greeting_probe (struct service *s, const char *socket_path)
{
  char text[GREETING_SIZE];
  ssize_t r;

  if (s->probe_fd == -1)
    s->probe_fd = unix_connect (socket_path, SOCK_STREAM);
  if (s->probe_fd == -1)
    return;
  r = recv (s->probe_fd, text, sizeof text, MSG_PEEK | MSG_DONTWAIT);
  if ((r == -1 && (errno == EAGAIN || errno == EINTR))
      || (r > 0 && r < GREETING_SIZE))
    return;
  if (r == GREETING_SIZE
      && memcmp (text, greeting_magic, sizeof greeting_magic) == 0) {
    if (send (s->probe_fd, farewell, sizeof farewell, MSG_NOSIGNAL) == -1)
      log_debug (s->log, "%s: it greets and hangs up", s->label);
    close (s->probe_fd);
    s->probe_fd = -1;
    service_ready (s);
    return;
  }
  close (s->probe_fd);
  s->probe_fd = -1;
}
