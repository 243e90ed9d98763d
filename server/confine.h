/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What a process that we start may not do. */

#ifndef NBDFLEECE_CONFINE_H
#define NBDFLEECE_CONFINE_H

#include <stdbool.h>

#include "util.h"

/* What a confined process may still change. */
struct confined {
  struct strings files;         /* may be written to: files, or directories
                                 * that have them, at any depth; those that are
                                 * not there are passed over */
  struct strings directories;   /* besides, files may be made, renamed and
                                 * removed in them */
};

/* This process, and whatever it executes, gains no rights by execve.  0, or -1
 * and errno. */
extern int confine_rights (void);

/* From now on it cannot open a file for writing, nor make, remove or rename
 * one (EACCES), but for those that are named; nor send signals to others than
 * itself and what it has started.  What it has open stays as it is.
 * confine_rights has been called.  0, or -1 and errno.  Does nothing where the
 * kernel cannot do it, and in a build with a sanitizer or for coverage, whose
 * reports are files. */
extern int confine_writes (const struct confined *to);

extern void confined_free (struct confined *c);

/* Whether the kernel can do that, and which version of it there is (0: none). */
extern int confine_version (void);

#endif /* NBDFLEECE_CONFINE_H */
