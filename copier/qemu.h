/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Images that QEMU's programs read and write for us. */

#ifndef NBDFLEECE_QEMU_H
#define NBDFLEECE_QEMU_H

#include <limits.h>

#include "child.h"
#include "message.h"

/* Makes path absolute: qemu reads a colon in another one as a protocol.
 * Returns 0, or -1 with errno and why, which begins with name. */
extern int qemu_absolute (const char *path, char absolute[PATH_MAX],
                          const char *name, struct message *why);

/* Runs qemu-img with these arguments (argv[0] included) and waits.  Files that
 * it makes have mode 0600.  0, or -1 with errno EIO and why, which begins with
 * name. */
extern int qemu_img (char *const argv[], const char *name,
                     struct message *why);

/* Starts a qemu-nbd with these arguments, which serves one connection and ends
 * with it.  Returns that, a socket and the caller's, or -1 with why.  hold: as
 * of child_start. */
extern int qemu_serve (struct child *c, char *const argv[], int hold,
                       struct message *why);

/* Appends to an option of --image-opts, where commas are doubled; at most
 * size bytes in all. */
extern void qemu_quote (char *option, size_t size, const char *value);

#endif /* NBDFLEECE_QEMU_H */
