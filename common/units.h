/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Sizes and times as people write them, in files and on command lines. */

#ifndef NBDFLEECE_UNITS_H
#define NBDFLEECE_UNITS_H

#include <stdint.h>

/* Room for any number that the functions below write. */
#define UNITS_SIZE 32

/* Digits, then maybe one of K M G T, which are powers of 1024.  Nothing else:
 * no sign, fraction or space.  Returns 0, or -1 with errno EINVAL or ERANGE. */
extern int units_parse_size (const char *text, uint64_t *bytes);

/* Digits and one of ms s m h; only 0 needs none.  The same. */
extern int units_parse_time (const char *text, uint64_t *milliseconds);

/* The shortest way to write exactly this value; what the functions above
 * read.  Returns buf. */
extern const char *units_size (uint64_t bytes, char buf[UNITS_SIZE]);
extern const char *units_time (uint64_t milliseconds, char buf[UNITS_SIZE]);

#endif /* NBDFLEECE_UNITS_H */
