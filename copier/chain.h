/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Chains of backups: what may be put on top of what. */

#ifndef NBDFLEECE_CHAIN_H
#define NBDFLEECE_CHAIN_H

#include <limits.h>
#include <stdbool.h>

#include "record.h"
#include "target.h"

/* The image that a new one is put on top of. */
struct chain_backing {
  char path[PATH_MAX];          /* absolute */
  char written[PATH_MAX];       /* as the new image's header is to have it */
  const char *format;           /* "raw" or "qcow2" */
  char uuid[UUID_SIZE];         /* snapshot that it holds, or "" */
};

/* Makes sure that what --backing says (PATH, or qcow2:PATH) is an earlier
 * backup in the same chain as `id', and fills in *b.  image: absolute path of
 * the new image, which need not exist.  Returns 0, or -1 with why. */
extern int chain_check_backing (const struct identity *id, const char *image,
                                const char *backing,
                                const struct target_params *params,
                                struct chain_backing *b, struct message *why);

/* Makes sure that an image that exists is the one that an earlier run of this
 * job made on top of b. */
extern int chain_check_own (const struct identity *id, const char *image,
                            const struct chain_backing *b,
                            struct message *why);

/* Before a part of a disk is copied into an image that exists: what it has a
 * record of must be an earlier backup in the chain, or the same job's. */
extern int chain_check_update (const struct identity *id, const char *image,
                               struct message *why);

/* Replaces the path of an image by that of its backing file, which the image's
 * header calls `backing'; false if that is no file. */
extern bool chain_find_backing (char path[PATH_MAX], const char *backing);

/* Adds an image, PATH or qcow2:PATH, and its backing files to what a target
 * must not be.  0, or -1 with why. */
extern int chain_take (struct target_params *params, const char *image,
                       struct message *why);

#endif /* NBDFLEECE_CHAIN_H */
