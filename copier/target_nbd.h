/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The NBD target, as far as targets that are served by a child build on it. */

#ifndef NBDFLEECE_TARGET_NBD_H
#define NBDFLEECE_TARGET_NBD_H

#include "conn.h"
#include "target.h"

struct target_nbd {
  struct target base;
  struct loop *loop;
  struct conn_set *set;
  uint64_t disk_size;
  bool exact;                   /* the export must have just that size */
  struct io *connecting;        /* whom to tell */
};

/* 0, or -1 and errno ENOMEM. */
extern int target_nbd_init (struct target_nbd *t, struct loop *l,
                            const char *name, const struct conn_params *conn,
                            uint64_t disk_size);

/* The members of target_ops. */
extern void target_nbd_connect (struct target *t, struct io *io);
extern void target_nbd_disconnect (struct target *t);
extern void target_nbd_write (struct target *t, struct io *io);
extern void target_nbd_zero (struct target *t, struct io *io);
extern void target_nbd_flush (struct target *t, struct io *io);

#endif /* NBDFLEECE_TARGET_NBD_H */
