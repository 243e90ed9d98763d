/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Tables that more than one command prints. */

#ifndef NBDFLEECE_LISTS_H
#define NBDFLEECE_LISTS_H

#include <json.h>

/* Snapshot objects of an array, or jobs; arrays may be NULL. */
extern void print_snapshots (json_object *const *arrays, size_t nr_arrays);
extern void print_jobs (json_object *jobs);

/* The clients that read snapshots; nothing if there are none. */
extern void print_readers (json_object *clients);

/* An array of checkpoints. */
extern void print_checkpoints (json_object *checkpoints);

#endif /* NBDFLEECE_LISTS_H */
