/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Reading what is in memory, without waiting for a disk. */

#ifndef NBDFLEECE_CACHED_H
#define NBDFLEECE_CACHED_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes; to pass a read up to this length to a thread and back takes longer
 * than the read, if it need not wait. */
#define CACHED_MAX (256 * 1024)

/* What is known of a source's files; zeroed at first.  One thread's. */
struct cached {
  bool in_memory, never;
};

/* Reads all of [offset, offset + count), if that is in memory.  0; or -1 and
 * errno, EAGAIN if it is not.  fds: the nr files of the source, all of which
 * are asked if the file system of fd cannot tell what is in memory. */
extern int cached_read (struct cached *c, const int *fds, unsigned nr, int fd,
                        void *buf, uint64_t count, uint64_t offset);

#endif /* NBDFLEECE_CACHED_H */
