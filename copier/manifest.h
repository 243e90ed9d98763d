/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Manifests: what was copied, by digests, to prove a backup without its
 * source. */

#ifndef NBDFLEECE_MANIFEST_H
#define NBDFLEECE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"
#include "record.h"

#define DIGEST_SIZE 32          /* SHA-256 */

/* Longest extent of data, bytes: it has to be read as a whole. */
#define MANIFEST_DATA_MAX (32 * 1024 * 1024)

enum extent_kind {
  EXTENT_DATA,                  /* not all zeroes */
  EXTENT_ZERO,
  EXTENT_LOST,                  /* could not be had */
  EXTENT_LEFT_OUT,              /* dealt with by not copying it; in no
                                 * manifest */
};

struct manifest_extent {
  uint64_t offset, length;      /* bytes; whole clusters, but for the end of
                                 * the disk */
  enum extent_kind kind;
  uint8_t digest[DIGEST_SIZE];  /* of EXTENT_DATA */
};

/* In no order until sorted.  Zeroed is empty. */
struct manifest_list {
  struct manifest_extent *list;
  size_t nr, allocated;
};

/* 0, or -1 and errno ENOMEM. */
extern int manifest_list_add (struct manifest_list *l,
                              const struct manifest_extent *e);
extern void manifest_list_free (struct manifest_list *l);

/* The file.  docs/manifest.md has the format. */
struct manifest {
  bool incomplete;              /* clusters were lost */
  struct identity id;
  struct manifest_list extents;
};

/* The digest of count bytes; kind is set to EXTENT_ZERO, and no digest made,
 * if they are all zero.  0, or -1 and errno. */
extern int manifest_digest (const void *buf, size_t count,
                            struct manifest_extent *e);

/* Sorts the extents, joins those of zeroes, and replaces the file at path.  0,
 * or -1 with why. */
extern int manifest_write (const char *path, struct manifest *m,
                           struct message *why);

/* The extents are in order and do not overlap.  0, or -1 with why. */
extern int manifest_read (const char *path, struct manifest *m,
                          struct message *why);

/* The extent that offset is in, or NULL. */
extern const struct manifest_extent *manifest_find (const struct manifest *m,
                                                    uint64_t offset);

extern void manifest_free (struct manifest *m);

#endif /* NBDFLEECE_MANIFEST_H */
