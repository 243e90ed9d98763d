/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The reader: a snapshot's content, without a lock. */

#ifndef NBDFLEECE_READER_H
#define NBDFLEECE_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "live.h"
#include "map.h"
#include "scratch.h"

/* Set once; any number of threads may read through one at a time.  The
 * members are the caller's to open and close. */
struct reader {
  struct bmfile *map;           /* kind BMFILE_MAP; read-only will do */
  struct live *live;
  int scratch;                  /* descriptor, may be read-only */

  struct file_data scratch_data; /* what reader_extent has found there */
};

/* Errors of all calls below, besides what the live disk or the scratch say:
 *
 *   EPERM      a cluster is released or was never in scope
 *   ENODATA    a cluster is lost
 *   ESHUTDOWN  the snapshot has ended
 *   EINVAL     the range passes the end of the disk
 *
 * After any error the content of buf is undefined. */

/* Reads [offset, offset + count) as it was at the snapshot's instant. */
extern int reader_pread (const struct reader *r, void *buf,
                         uint32_t count, uint64_t offset);

enum reader_extent {
  READER_DATA,
  READER_HOLE,                  /* reads as zeroes */
  READER_FORBIDDEN,             /* reading it is EPERM */
  READER_LOST,                  /* reading it is ENODATA */
};

/* What lies at offset: returns the length of the extent that starts there,
 * 1 to count, and sets *type; neighbours of one type may come as several.
 * Never fails for lost or released clusters.  -1 and errno on error. */
extern int64_t reader_extent (struct reader *r, uint64_t offset,
                              uint64_t count, enum reader_extent *type);

/* Has the kernel copy [offset, offset + count), from where its parts are.
 * move is called with a descriptor and a range of it that has the same
 * offset as in the snapshot; it must move all of it or return -1 and errno,
 * which ends the call.  A part that changes hands meanwhile is moved once
 * more, from the scratch, so the target must tolerate being written twice.
 * ENOTSUP if the live disk has no descriptor. */
typedef int (*reader_move) (void *opaque, int fd,
                            uint64_t offset, uint64_t count);
extern int reader_copy (const struct reader *r, uint64_t offset,
                        uint64_t count, reader_move move, void *opaque);

#endif /* NBDFLEECE_READER_H */
