/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Telling systemd how far we are. */

#ifndef NBDFLEECE_NOTIFY_H
#define NBDFLEECE_NOTIFY_H

/* Sends a datagram as sd_notify(3) describes ("READY=1", lines parted by
 * newlines) to $NOTIFY_SOCKET; does nothing where that is not set.  Never
 * waits and never fails: whoever listens there is not worth a guest's I/O. */
extern void notify (const char *state);

/* The same with RELOADING=1 and the time that systemd wants with it. */
extern void notify_reloading (void);

#endif /* NBDFLEECE_NOTIFY_H */
