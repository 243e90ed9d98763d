/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Connections to one NBD export, in the loop. */

/* A set goes through
 *
 *   DOWN ──connect──▶ CONNECTING ──▶ UP ──▶ LOST ──disconnect──▶ DOWN
 *                          └──failed──▶ DOWN
 *
 * The first connection learns what the server can; if it says multi-conn, and
 * more are wanted, the others follow, and the set is UP when all are.  When
 * one connection dies the whole set is LOST, since what the server had not
 * flushed may be: the job then takes all of it back, disconnects and connects
 * again.
 */

#ifndef NBDFLEECE_CONN_H
#define NBDFLEECE_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "message.h"

#define CONN_MAX 16

struct conn_set;

/* What the server said, valid while UP. */
struct conn_info {
  uint64_t size;                /* bytes */
  /* Bytes; 1, 0 and 32 MiB if it did not say. */
  uint32_t min_block, preferred_block, max_block;
  bool read_only, can_zero, can_flush, can_extents, multi_conn;
};

struct conn_params {
  const char *uri;              /* the caller's; or NULL */
  /* If uri is NULL: opens a socket that is connected to the server, or
   * returns -1 with why. */
  int (*socket) (void *opaque, struct message *why);
  void *opaque;
  unsigned connections;         /* wanted, 1 to CONN_MAX */
  bool extents;                 /* ask for base:allocation */
};

/* NULL and errno ENOMEM. */
extern struct conn_set *conn_new (struct loop *l, const struct conn_params *p);
extern void conn_free (struct conn_set *set);

/* Connects; io completes with 0, or with an errno value and conn_why.  Allowed
 * when DOWN. */
extern void conn_connect (struct conn_set *set, struct io *io);

/* Closes everything; all I/O under way completes with ENOTCONN.  polite: tells
 * the server that we are done. */
extern void conn_disconnect (struct conn_set *set, bool polite);

/* True in state LOST. */
extern bool conn_lost (const struct conn_set *set);

extern const struct conn_info *conn_info (const struct conn_set *set);

/* Why the last connect failed or the connection was lost; *final is set if
 * the server was there and refused us, so that trying again is no use. */
extern const char *conn_why (const struct conn_set *set, bool *final);

/* I/O on the least busy connection; io->buf, offset and count say what.  Each
 * completes io in a later turn.  If the set is not UP: with ENOTCONN. */
extern void conn_read (struct conn_set *set, struct io *io);
extern void conn_write (struct conn_set *set, struct io *io);
extern void conn_zero (struct conn_set *set, struct io *io);
extern void conn_flush (struct conn_set *set, struct io *io);

/* Block status: adds to the struct extent_list io->list. */
extern void conn_extents (struct conn_set *set, struct io *io);

#endif /* NBDFLEECE_CONN_H */
