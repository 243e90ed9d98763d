/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* How a reader gets at the live disk: one vtable, one backend per file. */

#ifndef NBDFLEECE_LIVE_H
#define NBDFLEECE_LIVE_H

#include <stdint.h>

#include "bmfile.h"

struct live;

struct live_ops {
  /* Reads all of [offset, offset + count) or fails.  0, or -1 and errno. */
  int (*pread) (struct live *live, void *buf, uint32_t count, uint64_t offset);

  /* One extent that starts at offset and is at most count bytes: returns its
   * length (> 0) and sets *is_hole (reads as zeroes and is not allocated);
   * -1 and errno on error. */
  int64_t (*extent) (struct live *live, uint64_t offset, uint64_t count,
                     int *is_hole);

  void (*close) (struct live *live);
};

/* Any number of threads may use one at a time.  Embedded as first member in
 * the backend's own struct. */
struct live {
  const struct live_ops *ops;
  uint64_t size;                /* bytes */
  int fd;                       /* a raw file or block device, for in-kernel
                                 * copies; else -1.  Owned by the live. */
};

/* A raw file or block device, opened read-only.  Returns NULL and errno. */
extern struct live *live_file_open (const char *path);

/* The same for the live disk of a map, which must be file:PATH (ENOTSUP) and
 * still be the file that the map was begun with (ESTALE). */
extern struct live *live_file_open_map (const struct bmfile *map);

/* Any NBD server, by URI (plugin/live_nbd.c: this one needs libnbd). */
extern struct live *live_nbd_open (const char *uri);

#endif /* NBDFLEECE_LIVE_H */
