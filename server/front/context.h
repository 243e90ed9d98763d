/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Metadata contexts: which there are, and which a client has chosen. */

#ifndef NBDFLEECE_CONTEXT_H
#define NBDFLEECE_CONTEXT_H

#include "exports.h"

/* A client may choose so many. */
#define CONTEXTS_MAX 32

#define CONTEXT_BASE "base:allocation"
#define CONTEXT_DEPTH "qemu:allocation-depth"
#define CONTEXT_DIRTY "qemu:dirty-bitmap:" /* and the checkpoint's name */
#define CONTEXT_NAME_SIZE (sizeof CONTEXT_DIRTY + NAME_LENGTH_MAX)

/* Numbers of the contexts of a view, which are also their ids on the wire,
 * less CONTEXT_ID_FIRST. */
enum {
  CONTEXT_NR_BASE = 0,
  CONTEXT_NR_DEPTH = 1,
  CONTEXT_NR_DIRTY = 2,         /* and one for each of view->tracking.maps */
};
#define CONTEXT_ID_FIRST 1u

struct context_set {
  unsigned nr;
  uint16_t chosen[CONTEXTS_MAX]; /* numbers, in the order of the view's */
};

/* How many contexts a view has, whether clients are told of one, and its
 * name. */
extern unsigned context_count (const struct view *v);
extern bool context_is_offered (const struct view *v, unsigned nr);
extern void context_name (const struct view *v, unsigned nr,
                          char name[CONTEXT_NAME_SIZE]);

/* True if the query (bytes, not text) asks for context nr; wildcards: an empty
 * leaf stands for all names that begin so. */
extern bool context_matches (const struct view *v, unsigned nr,
                             const uint8_t *query, size_t len,
                             bool wildcards);

#endif /* NBDFLEECE_CONTEXT_H */
