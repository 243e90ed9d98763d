/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The NBD source, as far as sources that are served by a child build on it. */

#ifndef NBDFLEECE_SOURCE_NBD_H
#define NBDFLEECE_SOURCE_NBD_H

#include "conn.h"
#include "source.h"

struct source_nbd {
  struct source base;
  struct loop *loop;
  struct conn_set *set;
  struct io *connecting;        /* whom to tell */
};

/* 0, or -1 and errno ENOMEM. */
extern int source_nbd_init (struct source_nbd *s, struct loop *l,
                            const char *name, const struct conn_params *conn);

/* The members of source_ops. */
extern void source_nbd_connect (struct source *s, struct io *io);
extern void source_nbd_disconnect (struct source *s);
extern void source_nbd_extents (struct source *s, struct io *io);
extern void source_nbd_read (struct source *s, struct io *io);

#endif /* NBDFLEECE_SOURCE_NBD_H */
