/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Where the data comes from: one vtable, one backend per file. */

/* All calls are made on the loop's thread.  Those that take a struct io are
 * asynchronous: they complete it in a later turn, always, and with ENOTCONN
 * if the connection is lost; buffers belong to them until then.
 *
 * Errors of read mean what the reader's do (reader.h): EPERM and ENODATA, the
 * content cannot be had; ESHUTDOWN, the snapshot has ended; any other, the
 * disk has failed.  A source over NBD cannot tell a lost cluster (EIO there)
 * from a broken disk; `tells_lost' says who can.
 */

#ifndef NBDFLEECE_SOURCE_H
#define NBDFLEECE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "extents.h"
#include "loop.h"
#include "message.h"
#include "pool.h"
#include "reader.h"

struct source;

struct source_ops {
  /* Connects, at first and again after a disconnect.  An error leaves
   * source->why, and source->final if trying again is no use. */
  void (*connect) (struct source *s, struct io *io);

  /* Drops the connection; what is in flight completes with ENOTCONN.  If it
   * was lost, source->why says how. */
  void (*disconnect) (struct source *s);

  /* Adds at least one extent to io->list, from its raw_end on; about
   * io->count bytes are of interest. */
  void (*extents) (struct source *s, struct io *io);

  /* Reads io->count bytes at io->offset into io->buf. */
  void (*read) (struct source *s, struct io *io);

  void (*free) (struct source *s);
};

/* Embedded as the first member of the backend's own struct. */
struct source {
  const struct source_ops *ops;
  const char *name;             /* as on the command line; the caller's */

  /* Valid once connected. */
  uint64_t size;                /* bytes */
  uint32_t min_block;           /* offsets and lengths are multiples of it */
  uint32_t preferred_block;     /* bytes; of a snapshot that we serve, the
                                 * cluster size.  0: not known */
  uint32_t max_read;            /* longest read, bytes */
  uint64_t extents_window;      /* how many bytes to ask about at once */
  bool can_extents;
  bool tells_lost;
  const struct reader *reader;  /* for in-kernel copies; NULL: not local */

  struct message why;           /* of the last connect that failed, or of the
                                 * connection that was lost */
  bool final;
};

/* An NBD server, up to `connections' connections where it allows several. */
extern struct source *source_nbd_new (struct loop *l, const char *uri,
                                      unsigned connections);

/* Map, scratch and raw live disk, read directly by the threads of pool.
 * mapfile and its members are the caller's and stay open. */
struct mapfile;
extern struct source *source_map_new (struct pool *pool, const char *name,
                                      struct mapfile *m);

/* A raw file or block device that nobody writes to: a backup. */
extern struct source *source_file_new (struct pool *pool, const char *path);

/* The same for a qcow2 image, qcow2:PATH, with its backing files. */
extern struct source *source_qcow2_new (struct loop *l, struct pool *pool,
                                        const char *name);

#endif /* NBDFLEECE_SOURCE_H */
