/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The datagrams of systemd's notification protocol. */

#include <config.h>

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "notify.h"

void
notify (const char *state)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  const char *path = getenv ("NOTIFY_SOCKET");
  socklen_t length;
  int sock;

  if (!path || strlen (path) < 2 || strlen (path) > sizeof addr.sun_path
      || (path[0] != '/' && path[0] != '@'))
    return;
  memcpy (addr.sun_path, path, strlen (path));
  length = offsetof (struct sockaddr_un, sun_path) + strlen (path);
  if (path[0] == '@')           /* the abstract name space */
    addr.sun_path[0] = '\0';

  sock = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (sock == -1)
    return;
  sendto (sock, state, strlen (state), MSG_NOSIGNAL,
          (struct sockaddr *) &addr, length);
  close (sock);
}

void
notify_reloading (void)
{
  char text[80];
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  snprintf (text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld",
            ts.tv_sec * 1000000LL + ts.tv_nsec / 1000);
  notify (text);
}
