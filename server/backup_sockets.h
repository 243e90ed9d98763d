/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The sockets that backup software connects to. */

#ifndef NBDFLEECE_BACKUP_SOCKETS_H
#define NBDFLEECE_BACKUP_SOCKETS_H

#include "conf.h"
#include "process.h"

struct backup_sockets {
  int fds[SPAWN_FDS_MAX];
  unsigned nr;
};

/* Makes them what the configuration says: keeps those that are bound to one of
 * its addresses, opens those that are missing, closes the rest.  0, or -1 with
 * a message; what was kept and opened until then stays. */
extern int backup_sockets_fit (struct backup_sockets *s,
                               const struct config *config,
                               char *why, size_t size);

/* Exchanges them for copies of those that the front listens at; none, if the
 * kernel allows no copies: then they are left as they are. */
extern void backup_sockets_take (struct backup_sockets *s,
                                 const struct process *front,
                                 const struct config *config);

extern void backup_sockets_close (struct backup_sockets *s);

#endif /* NBDFLEECE_BACKUP_SOCKETS_H */
