/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Files as a power cut may leave them, for the two halves of powercut. */

#ifndef NBDFLEECE_POWERCUT_H
#define NBDFLEECE_POWERCUT_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

#define PAGE RECORD_PAGE
#define FILES_MAX 16
#define VERSIONS_MAX 64

/* A page's contents since it was flushed last, oldest first; [0] is on disk.
 * since: where in the record each was noted. */
struct page {
  unsigned nr;
  uint64_t since[VERSIONS_MAX];
  const char *data[VERSIONS_MAX];
};

struct file {
  uint64_t ino, size;
  char name[256];               /* in STATE-DIR; "": the live disk */
  bool there;                   /* has been seen in the record */
  struct page *pages;
  uint64_t nr_pages;
  char *cut;                    /* content after the cut */

  /* A checkpoint's or a map's. */
  const char **instant;         /* the live disk's pages then, or NULL */
  bool told;                    /* somebody knows that it exists */
};

extern struct file files[FILES_MAX]; /* the first is the live disk */
extern unsigned nr_files;

extern bool has_suffix (const struct file *f, const char *suffix);

/* The bmfile_live of a file with that first page. */
struct bmfile_live;
extern const struct bmfile_live *live_part (const char *header);

/* Makes and removes the directory for what is looked at. */
extern void look_start (void);
extern void look_end (void);

/* Lets the filter take up what the cut has left, and ends the program if that
 * is not as it must be. */
extern void look (uint64_t number);
extern uint64_t states, looked_at, refused;

#endif /* NBDFLEECE_POWERCUT_H */
