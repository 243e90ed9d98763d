/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Targets and images as people write them. */

#ifndef NBDFLEECE_TARGET_H
#define NBDFLEECE_TARGET_H

#include <stdbool.h>

/* The daemon has a working directory of its own: paths, also those after
 * qcow2: or raw:, become absolute.  Returns an allocated string, or NULL and
 * errno. */
extern char *absolute_target (const char *target);

/* A bare word, which as the place to restore to means an export. */
extern bool is_name (const char *target);

#endif /* NBDFLEECE_TARGET_H */
