/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What a backup is of, in memory and in a small file beside the image. */

#ifndef NBDFLEECE_RECORD_H
#define NBDFLEECE_RECORD_H

#include <stdint.h>

#include "bmfile.h"
#include "message.h"
#include "text.h"

/* One snapshot of one disk.  What is not known is "" or 0. */
struct identity {
  char export_name[NAME_LENGTH_MAX + 1];
  char snapshot[NAME_LENGTH_MAX + 1], uuid[UUID_SIZE];
  int64_t instant_ns;
  uint64_t size;                /* bytes of the disk */
  uint64_t cluster_size;        /* bytes */
  /* The checkpoint that was made at the instant, and the one since which
   * changes were copied. */
  char checkpoint[NAME_LENGTH_MAX + 1], checkpoint_uuid[UUID_SIZE];
  char since[NAME_LENGTH_MAX + 1], since_uuid[UUID_SIZE];
};

enum record_state {
  RECORD_WRITING,               /* a job is at it, or has not ended well */
  RECORD_COMPLETED,
  RECORD_INCOMPLETE,
};

/* The file IMAGE.nbdfleece.  docs/manifest.md has the format. */
struct record {
  enum record_state state;
  struct identity id;
  char format[8];               /* "raw" or "qcow2" */
  char backing[BMFILE_LOCATION_MAX]; /* as in the image's header, or "" */
  char backing_uuid[UUID_SIZE]; /* snapshot that the backing file holds */
};

extern const char *record_state_name (enum record_state state);

/* The record of the image at path.  Returns 1; 0 if there is none; or -1 with
 * why if it cannot be read or makes no sense. */
extern int record_read (const char *image, struct record *r,
                        struct message *why);

/* 0, or -1 with errno and why. */
extern int record_write (const char *image, const struct record *r,
                         struct message *why);

extern void record_remove (const char *image);

/* The members of the identity to and from a JSON object; reading returns 0, or
 * -1 if a member is not what it ought to be. */
struct json_object;
extern void identity_to_json (const struct identity *id,
                              struct json_object *o);
extern int identity_from_json (struct identity *id, struct json_object *o);

/* A member that is a text, shorter than size, or null; 0, or -1. */
extern int json_get_text (struct json_object *o, const char *key, char *text,
                          size_t size);
/* A member that is a number from 0 on; 0, or -1. */
extern int json_get_number (struct json_object *o, const char *key,
                            uint64_t *n);

#endif /* NBDFLEECE_RECORD_H */
