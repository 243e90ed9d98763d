/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Finding the snapshots of a state directory. */

/* The directory is the only list of snapshots: exports/EXPORT/SNAPSHOT.map is
 * one while its state is ACTIVE.  Nothing is remembered between two questions,
 * so whoever asks gets what exists at that time, whatever process made or
 * ended it.  No symbolic link below the directory is followed.
 */

#ifndef NBDFLEECE_STATEDIR_H
#define NBDFLEECE_STATEDIR_H

#include <stdbool.h>

#include "bmfile.h"
#include "names.h"

/* EXPORT@SNAPSHOT and its terminator. */
#define FULL_NAME_SIZE (2 * NAME_LENGTH_MAX + 2)

/* RFC 3339, UTC, to the millisecond, and its terminator. */
#define STATEDIR_INSTANT_SIZE 32

/* The directory of the maps and tracking bitmaps of one export; export_name
 * is name_ok.  A descriptor, or -1 and errno. */
extern int statedir_open_export (int state_dir, const char *export_name);

/* Opens the map of one snapshot, both names being name_ok, if it is an ACTIVE
 * map of just that one.  Returns 0; or -1 and errno, with *why a static phrase:
 * ENOENT if there is none, or it has ended or not begun. */
extern int statedir_open_map (int state_dir, const char *export_name,
                              const char *snapshot, bool writable,
                              struct bmfile *map, const char **why);

/* Calls found for each snapshot there is, in no order, with its map, which is
 * closed after; a result other than 0 ends the search and is returned.  Files
 * that are no good are passed over.  Returns 0, or -1 and errno. */
typedef int (*statedir_found) (void *opaque, const struct bmfile *map);
extern int statedir_list (int state_dir, statedir_found found, void *opaque);

/* EXPORT@SNAPSHOT of a map. */
extern void statedir_name (const struct bmfile *map,
                           char name[FULL_NAME_SIZE]);

/* The instant that a map shows. */
extern void statedir_instant (const struct bmfile *map,
                              char text[STATEDIR_INSTANT_SIZE]);

#endif /* NBDFLEECE_STATEDIR_H */
