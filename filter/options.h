/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The filter's parameters. */

#ifndef NBDFLEECE_OPTIONS_H
#define NBDFLEECE_OPTIONS_H

#include "fleece.h"

/* Takes one key=value.  1 if it was ours, 0 if not, -1 with the error
 * logged. */
extern int options_set (struct options *o, const char *key, const char *value);

/* Looks at all of them together.  0, or -1 with the error logged. */
extern int options_complete (const struct options *o);

/* For nbdkit --help. */
extern const char options_help[];

#endif /* NBDFLEECE_OPTIONS_H */
