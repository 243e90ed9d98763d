/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What a process that we start may not do. */

#ifndef NBDFLEECE_CONFINE_H
#define NBDFLEECE_CONFINE_H

#include <stdbool.h>

/* This process, and whatever it executes, gains no rights by execve.  0, or -1
 * and errno. */
extern int confine_rights (void);

/* From now on it cannot open a file for writing, nor make, remove or rename
 * one (EACCES); what it has open stays as it is.  confine_rights has been
 * called.  0, or -1 and errno.  Does nothing where the kernel cannot do it, and
 * in a build with a sanitizer, whose reports are files. */
extern int confine_read_only (void);

/* Whether the kernel can do that. */
extern bool confine_can_read_only (void);

#endif /* NBDFLEECE_CONFINE_H */
