/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Where the data goes: one vtable, one backend per file. */

/* The rules for calls and errors are those of source.h.  ENOTCONN means that
 * the connection is lost, and with it perhaps everything that was written
 * since the last flush. */

#ifndef NBDFLEECE_TARGET_H
#define NBDFLEECE_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"
#include "message.h"
#include "pool.h"
#include "reader.h"

/* In-kernel copies, best first.  Each is tried until it is refused once. */
enum offload { OFFLOAD_REFLINK, OFFLOAD_COPY_FILE_RANGE, OFFLOAD_NONE };

struct target;

struct target_ops {
  /* Connects or opens, at first and again after a disconnect.  At first it
   * makes sure that the target can take the disk.  An error leaves
   * target->why, and target->final if trying again is no use. */
  void (*connect) (struct target *t, struct io *io);

  /* Drops the connection; what is in flight completes with ENOTCONN.  If it
   * was lost, target->why says how. */
  void (*disconnect) (struct target *t);

  /* Writes io->count bytes at io->offset from io->buf. */
  void (*write) (struct target *t, struct io *io);

  /* Makes the range read as zeroes, with no data sent and, where it can, no
   * space taken.  ENOTSUP: it cannot; write zeroes instead. */
  void (*zero) (struct target *t, struct io *io);

  /* Makes durable what was completed before this call. */
  void (*flush) (struct target *t, struct io *io);

  /* Has the kernel copy the range from `source', by io->method; io->moved
   * gets the bytes that were copied, parts done twice counted twice.  NULL:
   * never possible. */
  void (*move) (struct target *t, const struct reader *source, struct io *io);

  /* After the last flush of a job that succeeded: gives the target its final
   * size, makes its name durable, and lets go of it. */
  void (*finish) (struct target *t, struct io *io);

  /* Also ends what the target has started.  Without a finish before, the
   * target stays as it is, except that a new one in which nothing was written
   * yet is removed. */
  void (*free) (struct target *t);
};

/* A file or device the target must not be. */
struct target_taken {
  const char *what;             /* "the live disk" */
  dev_t dev;                    /* block devices: their number, ino 0 */
  ino_t ino;
};

/* Enough for the files of a long chain of images. */
#define TARGET_TAKEN_MAX 256

struct target_params {
  uint64_t size;                /* bytes of the disk */
  bool whole;                   /* a first, full copy: old content may go */
  bool may_exist;               /* an earlier run may have made the target */
  bool exact;                   /* one that is larger will not do */
  /* qcow2: backing file of a new image and its format, or NULL; compression,
   * "zlib" or "zstd", or NULL. */
  const char *backing, *backing_format, *compress;
  /* Files: called once, when nobody else is at the target and before it
   * changes.  0, or -1 with errno and why. */
  int (*claim) (void *opaque, struct message *why);
  void *opaque;
  unsigned connections;
  struct target_taken taken[TARGET_TAKEN_MAX];
  unsigned nr_taken;
};

/* Embedded as the first member of the backend's own struct. */
struct target {
  const struct target_ops *ops;
  const char *name;             /* as on the command line; the caller's */
  const char *flush_kind;       /* for the report: fdatasync, nbd or none */

  /* Valid once connected. */
  uint64_t size;                /* bytes */
  uint32_t min_block;           /* offsets and lengths are multiples of it */
  uint32_t max_write;           /* longest write, bytes */
  uint64_t max_zero;            /* longest zero, bytes */
  uint32_t zero_run;            /* shortest run of zeroes in data that is worth
                                 * a zero of its own, bytes */
  bool can_zero;
  bool can_flush;               /* else completion is all there is */
  bool known_zero;              /* all of it read as zeroes at connect */
  enum offload offload;         /* the best that may work */

  struct message why;           /* as in source.h */
  bool final;
};

/* NULL and errno ENOMEM.  name and what params points to stay the caller's
 * and must outlive the target. */
extern struct target *target_nbd_new (struct loop *l, const char *uri,
                                      const struct target_params *params);
extern struct target *target_file_new (struct loop *l, struct pool *pool,
                                       const char *path,
                                       const struct target_params *params);
extern struct target *target_qcow2_new (struct loop *l, struct pool *pool,
                                        const char *name,
                                        const struct target_params *params);

/* Describes the file at path for the taken list.  0, or -1 and errno. */
extern int target_take (struct target_params *params, const char *path,
                        const char *what);

struct stat;
/* What of the taken list the file is, or NULL. */
extern const char *target_clash (const struct target_params *params,
                                 const struct stat *st);

#endif /* NBDFLEECE_TARGET_H */
