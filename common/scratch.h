/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The scratch: a sparse file that keeps old clusters at their own offsets. */

#ifndef NBDFLEECE_SCRATCH_H
#define NBDFLEECE_SCRATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "bmfile.h"

/* Creates path (mode 0600, must not exist), a hole of size bytes.  Returns an
 * open descriptor, the caller's, or -1 and errno; leaves nothing on error. */
extern int scratch_create (const char *path, uint64_t size);

/* Opens the scratch of a map, never through a symbolic link.  It must be the
 * very file that the map was begun with (ESTALE if not): an empty one in its
 * place would read as zeroes.  If somebody else owns the map, he has to own the
 * scratch, too: whoever may write to a map must not lead us to any file.
 * after_boot: the number of its file system may
 * have changed since.  Returns a descriptor, or -1 and errno. */
extern int scratch_open (const struct bmfile *map, bool writable,
                         bool after_boot);

/* Whole reads and writes at an offset; short transfers are gone on with.  A
 * read past the end of the file is EIO.  0, or -1 and errno. */
extern int full_pread (int fd, void *buf, uint64_t count, uint64_t offset);
extern int full_pwrite (int fd, const void *buf, uint64_t count,
                        uint64_t offset);

/* Frees the blocks of [offset, offset + count); it reads as zeroes then.
 * Returns the bytes of data there were, or -1 and errno.  The caller has
 * released the clusters first (map.h, L2 before L3). */
extern int64_t scratch_punch (int fd, uint64_t offset, uint64_t count);

/* L3: punches what is COPIED of [first, end), which has been released
 * (map_settle_release), out of the scratch.  0, or -1 and errno. */
extern int scratch_punch_released (const struct bmfile *map, int fd,
                                   uint64_t first, uint64_t end);

/* Data and holes of a regular file (not only of a scratch): returns the
 * length of what starts at offset, up to count, and sets *is_hole.  A file
 * system that cannot tell has only data.  -1 and errno on error. */
extern int64_t file_extent (int fd, uint64_t offset, uint64_t count,
                            int *is_hole);

/* A range of a file that is known to hold data: start with zeroes. */
struct file_data {
  /* Relaxed, and not always of one range: see file_extent_known. */
  _Atomic uint64_t start, end;  /* bytes, [start, end) */
};

/* The same, but an offset in *known is data and costs nothing; what is found
 * becomes *known.  Any number of threads may share one.  To say data where
 * there is a hole is allowed, so it does no harm if the hole has come since,
 * nor if start and end are of two finds. */
extern int64_t file_extent_known (int fd, struct file_data *known,
                                  uint64_t offset, uint64_t count,
                                  int *is_hole);

/* True if all count bytes at buf are zero. */
extern int is_zero (const void *buf, uint64_t count);

#endif /* NBDFLEECE_SCRATCH_H */
