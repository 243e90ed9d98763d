/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Who is connected to the disk, and that one who restores it is alone. */

#ifndef NBDFLEECE_CLIENTS_H
#define NBDFLEECE_CLIENTS_H

#include <pthread.h>

#define CLIENTS_TOKEN_MAX 64

/* By the export name that a client asks for:
 *
 *   NAME, or none          a guest
 *   NAME@live              reads what snapshots do not have; cannot write
 *   NAME@restore-TOKEN     overwrites the disk: refused while there are guests
 *                          or somebody who restores with another TOKEN, and
 *                          keeps both away until its last connection has ended
 *
 * A restore outlives connections, copiers and filters.  While there is a file
 * CLIENTS_RESTORING in the state directory, guests are kept away, and so is
 * everybody who restores with another TOKEN than is in the file.
 */
#define CLIENTS_RESTORING "restoring"
enum client_kind { CLIENT_GUEST = 1, CLIENT_READER, CLIENT_RESTORER };

struct clients {
  const char *state;            /* directory of this export, or NULL; set once */
  pthread_mutex_t lock;         /* protects: */
  unsigned guests, restorers;
  char token[CLIENTS_TOKEN_MAX + 1]; /* of the restorers, if there are any */
};

/* Lets a client in.  Returns what it is; or -1 with errno ENOENT if there is
 * no such export, or EBUSY. */
extern int clients_enter (struct clients *c, const char *export_name,
                          const char *asked);

extern void clients_leave (struct clients *c, enum client_kind kind);

/* How many guests and restorers there are. */
extern unsigned clients_count (struct clients *c);

/* Ends the connections that were accepted on that listening unix socket, each
 * when what it has sent has been answered.  Returns 0, or -1 and errno:
 * ENOTSUP if listener is -1. */
extern int clients_hang_up (int listener);

#endif /* NBDFLEECE_CLIENTS_H */
