/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What has to be in place before anything is started. */

#ifndef NBDFLEECE_SETUP_H
#define NBDFLEECE_SETUP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "conf.h"
#include "user.h"
#include "util.h"

/* The programs and modules we start, each from the environment or from where
 * it is installed. */
struct programs {
  const char *nbdkit;           /* $NBDKIT */
  const char *filter;           /* $NBDFLEECE_FILTER */
  const char *plugin;           /* $NBDFLEECE_PLUGIN */
  const char *copy;             /* $NBDFLEECE_COPY */
  const char *front;            /* $NBDFLEECE_FRONT */
  const char *qemu_nbd;         /* $QEMU_NBD */
  char reconnect[4096];         /* the other filter, in the same directory */
  char nbdkit_version[32];
};

/* Finds them.  Fails if one is missing or nbdkit is not of the version that
 * the filter was compiled against.  0, or -1 with *failure. */
extern int programs_find (struct programs *programs,
                          const struct config *config,
                          struct failure *failure);

/* One daemon per run directory and per state directory. */
struct run_lock {
  int fds[2];                   /* -1: not held */
  char *paths[2];
};

/* Makes the directories and takes the locks.  0, or -1 with *failure. */
extern int run_lock_take (struct run_lock *lock, const struct config *config,
                          struct failure *failure);
extern void run_lock_release (struct run_lock *lock);

/* The file or block device behind a disk, if the configuration tells; else
 * NULL. */
extern const char *disk_path (const struct config_disk *disk);

/* Which file or block device a path leads to, for finding out that two are
 * one. */
struct disk_identity {
  bool known;
  bool block;
  dev_t dev;                    /* of a block device: its own */
  ino_t ino;
};

extern struct disk_identity disk_identify (const char *path);
extern bool same_disk (const struct disk_identity *a,
                       const struct disk_identity *b);

/* Checks what the configuration says against the system: disks are there,
 * can be used, by the user, too, and are used once; directories exist.  Changes
 * nothing.  0, or -1 with *failure, whose message starts with the place in the file. */
extern int setup_check (const struct config *config, const struct user *user,
                        struct failure *failure);

/* The same for the backup endpoint: asks the front, which reads certificates
 * and keys. */
extern int setup_check_backup (const struct config *config,
                               const struct programs *programs,
                               const struct user *user,
                               struct failure *failure);

#endif /* NBDFLEECE_SETUP_H */
