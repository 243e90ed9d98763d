/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The rule for names of exports, snapshots and checkpoints. */

#ifndef NBDFLEECE_NAMES_H
#define NBDFLEECE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* Longest name in bytes, without the terminator. */
#define NAME_LENGTH_MAX 64

/* What a legal name looks like, for error messages. */
#define NAME_RULE "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"

/* True if name matches NAME_RULE.  Such a name is safe as one component of a
 * path: no slash, not empty, no leading dot. */
extern bool name_ok (const char *name);

/* Splits EXPORT@SNAPSHOT.  Both buffers hold NAME_LENGTH_MAX + 1 bytes.
 * Returns 0, or -1 with errno EINVAL if either part breaks the rule. */
extern int name_split (const char *full, char *export_name, char *snapshot);

#endif /* NBDFLEECE_NAMES_H */
