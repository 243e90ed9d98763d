/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The requests of one client that are under way. */

/* A request takes a slot when it is read and leaves it with the last byte of
 * its reply.  There is a fixed number of them; while all are taken, nothing
 * more is read from the client.  That is all the memory that requests cost.
 *
 * A long read is put to the backend in pieces, so that neither the backend's
 * memory nor the other clients' turn depends on the length of one request.
 */

#ifndef NBDFLEECE_SLOTS_H
#define NBDFLEECE_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#define PIECE_SIZE (UINT64_C (1) << 20) /* bytes */
#define PIECES_MAX 64           /* bits of a word */
#define REQUEST_MAX (PIECE_SIZE * PIECES_MAX)

#define SLOTS 64
#define NO_SLOT 255

struct slot {
  uint64_t cookie;              /* the client's */
  uint64_t offset, length;      /* bytes */
  uint16_t cmd, flags;          /* NBD_CMD_*, NBD_CMD_FLAG_* */
  uint8_t next;                 /* in the queue it is in, or NO_SLOT */
  bool busy;                    /* taken */
  bool begun;                   /* part of its reply has been sent */
  bool alone;                   /* nothing else may be under way */
  uint32_t error;               /* NBD error to be told, or 0 */
  uint32_t contexts;            /* block status: one bit for each wanted */
  uint64_t todo;                /* pieces to put to the backend */
  uint64_t sent;                /* pieces put to it that have not come */
  uint64_t done;                /* trim: bytes released */
};

struct slot_queue {
  uint8_t head, tail;           /* NO_SLOT, NO_SLOT: empty */
};

struct slots {
  struct slot slot[SLOTS];
  struct slot_queue free;
  unsigned nr_busy;
};

extern void slots_init (struct slots *s);

/* Takes a slot, zeroed but for `busy'.  Its number, or NO_SLOT. */
extern uint8_t slots_take (struct slots *s);
extern void slots_give (struct slots *s, uint8_t n);

extern void queue_init (struct slot_queue *q);
extern void queue_put (struct slots *s, struct slot_queue *q, uint8_t n);
/* Harmless if n is not in it. */
extern void queue_remove (struct slots *s, struct slot_queue *q, uint8_t n);
/* The number of the first, or NO_SLOT. */
extern uint8_t queue_get (struct slots *s, struct slot_queue *q);

static inline bool
queue_is_empty (const struct slot_queue *q)
{
  return q->head == NO_SLOT;
}

/* The pieces of a request of that many bytes, one bit each. */
extern uint64_t slot_pieces (uint64_t length);

/* Where a piece of the request begins, and how long it is; bytes. */
static inline uint64_t
piece_offset (const struct slot *s, unsigned piece)
{
  return s->offset + piece * PIECE_SIZE;
}

extern uint64_t piece_length (const struct slot *s, unsigned piece);

#endif /* NBDFLEECE_SLOTS_H */
