/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What is told of the instant of snapshots. */

#ifndef NBDFLEECE_INSTANT_H
#define NBDFLEECE_INSTANT_H

#include <json.h>

/* How long the daemon may take to begin snapshots, in milliseconds: it waits
 * for hooks, and for others who want the same exports. */
#define INSTANT_TIMEOUT (3600 * 1000)

/* "vda,vdb" as an array. */
extern json_object *split_names (const char *names);

/* How long writes were held, on stdout, if the reply says so. */
extern void print_instant (json_object *result);

/* Hooks that have failed although there is a snapshot, a line each on
 * stderr. */
extern void warn_of_hooks (json_object *result);

#endif /* NBDFLEECE_INSTANT_H */
