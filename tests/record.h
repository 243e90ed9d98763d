/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What record.c notes and powercut.c reads: records, each with its data. */

#ifndef NBDFLEECE_RECORD_H
#define NBDFLEECE_RECORD_H

#include <stdint.h>

#define RECORD_PAGE 4096

enum record_type {
  RECORD_INITIAL = 1,           /* all of a file, on disk, when it is seen
                                 * first; data */
  RECORD_WRITE,                 /* data */
  RECORD_ZERO,                  /* the same, of zeroes; no data */
  RECORD_FLUSH,                 /* what was noted before offset upto of the
                                 * record */
  RECORD_SENT,                  /* a message */
};

struct record {
  uint64_t type, ino, offset, length, upto;
};

#endif /* NBDFLEECE_RECORD_H */
