/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What a daemon was about to begin when it died. */

#ifndef NBDFLEECE_UNFINISHED_H
#define NBDFLEECE_UNFINISHED_H

#include "checkpoint.h"
#include "daemon.h"
#include "snapshot.h"

/* The text of a record, which grows by one file at a time. */
extern void unfinished_add (char **text, const struct export *ex,
                            const struct bmfile *file);

/* Writes the record; as long as it exists, a daemon that starts discards all
 * that is listed.  Its path is the caller's to remove and to free.  NULL with
 * *failure. */
extern char *unfinished_write (const struct daemon *d, const char *text,
                               struct failure *failure);

/* Removes the record at path, and makes sure of it. */
extern void unfinished_remove (const char *path);

/* At start, when the exports are up: discards what the records list. */
extern void unfinished_discard (struct daemon *d);

#endif /* NBDFLEECE_UNFINISHED_H */
