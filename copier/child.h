/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Programs that the copier runs: qemu-img and qemu-nbd. */

#ifndef NBDFLEECE_CHILD_H
#define NBDFLEECE_CHILD_H

#include <sys/types.h>

#include "message.h"

struct child {
  pid_t pid;                    /* of its guard; 0: none */
  int err_fd;                   /* what it says on stderr; -1: none */
};

/* Starts argv[0], found in PATH, with stdin and stdout on /dev/null.  It is
 * ended when the calling thread ends, however that comes: first with SIGTERM,
 * after some seconds with SIGKILL.  It is out of reach of the terminal's
 * signals.  If socket is not -1, it is passed the way
 * systemd passes a listening socket.  If hold is not -1, a copy of it stays
 * open until the program has ended, whether or not the copier lives so long.
 * Both stay the caller's.  Returns 0, or -1 with why. */
extern int child_start (struct child *c, char *const argv[], int socket,
                        int hold, struct message *why);

/* Waits for the child to end.  Blocks.  Returns 0 if it ended with status 0;
 * else -1, with why set to its first line on stderr or to how it ended. */
extern int child_wait (struct child *c, struct message *why);

/* Asks a child that may be there to end, and waits for it: first with
 * SIGTERM, after some seconds with SIGKILL. */
extern void child_stop (struct child *c);

#endif /* NBDFLEECE_CHILD_H */
