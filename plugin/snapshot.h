/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Opening the snapshots of a state directory. */

#ifndef NBDFLEECE_SNAPSHOT_H
#define NBDFLEECE_SNAPSHOT_H

#include "bmfile.h"
#include "reader.h"
#include "statedir.h"

/* A snapshot opened for reading.  Set once by snapshot_open; after that any
 * number of threads may read through `reader'. */
struct snapshot {
  struct bmfile map;
  struct reader reader;         /* of map, and of what it owns: */
  char name[FULL_NAME_SIZE];    /* EXPORT@SNAPSHOT */
};

/* Why something could not be opened, for people. */
struct why {
  char text[512];
};

/* Opens the snapshot `name' of the state directory open as state_dir.  Nothing is
 * opened for writing and no link below the directory is followed.  Returns 0,
 * or -1 and errno, with *why set: EINVAL for a bad name, ENOENT if there is
 * none, or it has ended or not begun. */
extern int snapshot_open (int state_dir, const char *name, struct snapshot *s,
                          struct why *why);

/* Closes what snapshot_open opened. */
extern void snapshot_close (struct snapshot *s);

#endif /* NBDFLEECE_SNAPSHOT_H */
