/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copies within the kernel, from a snapshot's files to a target file. */

#ifndef NBDFLEECE_OFFLOAD_H
#define NBDFLEECE_OFFLOAD_H

#include <stdbool.h>

#include "loop.h"
#include "reader.h"
#include "target.h"

/* Copies [io->offset, io->offset + io->count) to the same place of the file
 * fd, by io->method.  Blocks.  0, or -1 and errno: the reader's, or the
 * kernel's.  Parts may have been copied then. */
extern int offload_copy (const struct reader *source, int fd, struct io *io);

/* True if err says that the kernel or the file systems cannot do it, and not
 * that something went wrong. */
extern bool offload_refused (int err);

/* "reflink", "copy_file_range", "none". */
extern const char *offload_name (enum offload method);

#endif /* NBDFLEECE_OFFLOAD_H */
