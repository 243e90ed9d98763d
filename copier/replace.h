/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Files that are replaced as a whole: what is at the path is always complete. */

#ifndef NBDFLEECE_REPLACE_H
#define NBDFLEECE_REPLACE_H

#include <limits.h>
#include <stdio.h>

struct replace {
  FILE *f;                      /* where the new content goes; NULL: none */
  char path[PATH_MAX], tmp[PATH_MAX];
};

/* Begins a new content of path, mode 0600.  0, or -1 and errno. */
extern int replace_begin (struct replace *r, const char *path);

/* Puts what was written to r->f in the place of path and makes that durable.
 * 0, or -1 and errno; then path is as it was, unless only its durability could
 * not be had. */
extern int replace_end (struct replace *r);

/* Leaves path as it is. */
extern void replace_abort (struct replace *r);

/* The same for a text, at once. */
extern int replace_file (const char *path, const char *text);

/* Makes the names in the directory of path durable.  0, or -1 and errno. */
extern int sync_directory (const char *path);

#endif /* NBDFLEECE_REPLACE_H */
