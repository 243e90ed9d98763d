/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What is read from: what its name stands for, and whether it is a backup. */

#ifndef NBDFLEECE_IMAGE_H
#define NBDFLEECE_IMAGE_H

#include <limits.h>
#include <stdbool.h>

#include "loop.h"
#include "message.h"
#include "pool.h"

enum image_kind {
  IMAGE_MAP,                    /* map:FILE */
  IMAGE_NBD,                    /* a URI */
  IMAGE_RAW,                    /* raw:PATH */
  IMAGE_QCOW2,                  /* qcow2:PATH */
};

struct image {
  enum image_kind kind;
  char name[PATH_MAX + 8];      /* qcow2:PATH, or the path of a raw file, both
                                 * absolute; else as it was given */
  const char *path;             /* of a file; in name */
};

/* Finds out what the name stands for.  A path without anything before it is
 * what the record beside it says, or raw.  0, or -1 with why. */
extern int image_resolve (struct image *im, const char *name,
                          struct message *why);

/* Makes sure that an image and its backing files are what their records say:
 * complete backups, each on top of the right one.  What has no record is not
 * judged.  0, or -1 with why. */
extern int image_check (const struct image *im, bool allow_incomplete,
                        struct message *why);

/* A source to read it, but for a map.  NULL and errno ENOMEM. */
extern struct source *image_source (const struct image *im, struct loop *l,
                                    struct pool *pool, unsigned connections);

#endif /* NBDFLEECE_IMAGE_H */
