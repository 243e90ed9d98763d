/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Mappings of files that somebody else may make shorter. */

/* A load from a mapping whose file has lost that part, or whose disk cannot
 * deliver it, is answered with SIGBUS, which ends the process.  A process that
 * may write to a file can make it shorter, and the filter has to write to its
 * maps.  So whoever looks into the files of a process that it does not trust
 * installs the guard: then the mapping becomes one of zeroes, all of it at
 * once, and the process goes on.
 *
 * What zeroes mean is for the user of the mapping to know.  Of a bitmap file
 * they are no state that anybody relies on (PREPARED); so who looks at the
 * state last, as all readers do, sees it.  The filter itself must not have
 * the guard: a map of zeroes would make it copy new content over old.
 */

#ifndef NBDFLEECE_GUARD_H
#define NBDFLEECE_GUARD_H

#include <stddef.h>

/* From now on, in this process.  Harmless to call twice. */
extern void guard_install (void);

/* Notes a mapping, and forgets it, before it is unmapped.  0, or -1 and errno
 * (ENOMEM). */
extern int guard_add (void *base, size_t size);
extern void guard_remove (void *base);

#endif /* NBDFLEECE_GUARD_H */
