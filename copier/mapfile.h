/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A snapshot's map and scratch, as the copier has them open. */

#ifndef NBDFLEECE_MAPFILE_H
#define NBDFLEECE_MAPFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "map.h"
#include "message.h"

/* Set once by mapfile_open. */
struct mapfile {
  struct bmfile map;
  int scratch;                  /* descriptor */
};

/* Opens the map at path and the scratch it names, for releasing too if
 * writable.  The snapshot must exist (map state ACTIVE).  Returns 0, or -1
 * with a message that begins with path. */
extern int mapfile_open (struct mapfile *m, const char *path, bool writable,
                         struct message *why);

extern void mapfile_close (struct mapfile *m);

/* Punches what the scratch has of clusters [first, end) (L3 of map.h), which
 * have been released, and takes it off the map's count of scratch bytes.
 * Blocks.  0, or -1 and errno; the clusters are released all the same. */
extern int mapfile_punch (struct mapfile *m, uint64_t first, uint64_t end);

#endif /* NBDFLEECE_MAPFILE_H */
