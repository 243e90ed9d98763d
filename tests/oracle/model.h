/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The model: which contents of the disk are possible at an instant. */

/* The hard part of this test.  Requests that are in flight together and
 * overlap have no defined order, and the instant of a snapshot is chosen
 * inside the filter, somewhere between the moment the harness asked for it
 * and the moment the reply came.  So the model does not hold one content but,
 * for each byte, the set of contents that a correct disk may show.
 *
 * Time is a counter (model_now).  A request has the stamp `start', taken
 * before it is handed to libnbd, and `end', taken after its reply was seen
 * (never, if the server was killed before).  A is before B if A.end < B.start;
 * else they are concurrent.  A snapshot has `before', taken before BEGIN was
 * sent, and `after', taken when the reply came.  Then a byte of it may hold
 * what request w wrote there if
 *
 *   - w.start < after: a write submitted after the reply is not in it;
 *   - there is no other write w' of that byte with w.end < w'.start and
 *     w'.end < before: acknowledged writes are in it, and the last one wins.
 *
 * That is the rule of a linearisable register, byte by byte; a byte also
 * tells which write it came from, since the data of each write is its own
 * pseudo-random stream.  Three further rules make it a cut and not only a
 * collection of legal bytes:
 *
 *   stable   the first read of a byte decides; each later read, by whatever
 *            way, must see the same (view.image keeps what was seen);
 *   whole    a write concurrent with the instant is in or out as a whole.
 *            A byte that only w can explain proves that w is in and that all
 *            writes of that byte that began after w had ended are out; no
 *            write may be proven both;
 *   ordered  if w2 is in and w1 ended before w2 started, w1 is in
 *            (view_check_order).
 *
 * A byte is evidence only if exactly one legal write explains it, so chance
 * agreement of two streams (1 in 256) can hide a fault of one byte but never
 * report one that is not there.
 *
 * History is cut short by observation: now and then the harness pauses its
 * writers until nothing is in flight (with its own means, not the filter's
 * gate), reads the live disk wherever requests went since the last time,
 * checks what it reads by the first rule, and takes it as the new, exact base
 * image (model_settle).  What lies between two such moments is an epoch.  A
 * snapshot begun while the writers are still paused has an exact image; one
 * begun at any other time takes the base and the requests of its epoch.
 *
 * A cell is 4 KiB of the disk.  Each cell has a list of the requests that
 * touched it in this epoch, newest first.  Lists only grow at the head and
 * their nodes never change, so to capture a snapshot is to copy the heads.
 *
 * TRIM.  File, memory and nbd backends zero what they trim, so a trim is a
 * write of zeroes.  Under fleece-trim=defer it may have no effect, or have it
 * later: such a trim is weak.  Zeroes from it are legal, but it does not
 * supersede anything, and a byte it may still zero stays so over epochs
 * (model.trimmed) until something else is written there.
 *
 * A request that failed had no effect (void_), which for break-guest-write is
 * a promise that is tested here.  A request without a reply because the
 * server was killed may have happened in part; the first rule covers that,
 * with end = never.
 */

#ifndef NBDFLEECE_ORACLE_MODEL_H
#define NBDFLEECE_ORACLE_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CELL 4096
#define NEVER UINT64_MAX

enum op_kind {
  OP_PATTERN,                   /* pwrite of a pseudo-random stream */
  OP_SPARSE,                    /* the same, every other 4 KiB block zero */
  OP_ZEROES,                    /* pwrite of zeroes */
  OP_ZERO,
  OP_TRIM,
};

struct op {
  uint64_t id;                  /* set once, down to prev */
  uint64_t offset, count;       /* bytes */
  enum op_kind kind;
  uint64_t start;
  struct op *prev;              /* the request before, in the epoch */
  _Atomic uint64_t end;         /* NEVER until acknowledged */
  atomic_bool void_;            /* failed; set before end */
};

/* One request in the list of one cell; never changes. */
struct node {
  const struct op *op;
  struct node *next;            /* older */
};

struct chunk;

/* Owns requests and nodes; lives as long as anyone may look at them. */
struct epoch {
  atomic_uint refs;
  struct op *newest;            /* under model.lock, like all below */
  struct chunk *chunks;
  uint64_t nr_nodes;
};

struct model {
  uint64_t size;                /* bytes; set once */
  uint64_t nr_cells;
  uint64_t seed;
  bool weak_trim;
  _Atomic uint64_t clock;
  uint8_t *image;               /* the base; changes only in model_settle */
  uint8_t *trimmed;             /* weak_trim: 1 for a byte that may yet be
                                 * zeroed; changes only in model_settle */
  pthread_mutex_t lock;         /* protects all below */
  struct epoch *epoch;
  struct node **heads;          /* per cell */
  uint64_t next_id;
};

enum verdict { UNDECIDED, IN, OUT };

/* A request concurrent with the instant, and what was proven about it. */
struct judged {
  const struct op *op;
  enum verdict verdict;
  uint64_t at;                  /* the byte that proved it */
};

/* What an observer of one instant may see. */
struct view {
  struct model *m;              /* set once, down to heads */
  char name[80];                /* for messages */
  struct epoch *epoch;          /* a reference */
  uint64_t before, after;
  uint8_t *trimmed;             /* model.trimmed at that time, or NULL */
  struct node **heads;
  pthread_mutex_t lock;         /* protects the rest, but for exact cells */
  uint8_t *image;               /* the base, then what was seen */
  atomic_bool *exact;           /* per cell: image is final */
  uint8_t **known;              /* per cell: 1 for a byte that was seen; NULL
                                 * if none was, or all are */
  uint32_t *unknown;            /* per cell: bytes not yet seen */
  struct judged *judged;
  unsigned nr_judged;
};

/* Never fail: the program ends when there is no memory. */
extern struct model *model_new (uint64_t size, uint64_t seed, bool weak_trim);
extern void model_free (struct model *m);

/* The next stamp. */
static inline uint64_t
model_now (struct model *m)
{
  return atomic_fetch_add (&m->clock, 1) + 1;
}

/* Registers a request; to be called before it is submitted. */
extern struct op *model_start (struct model *m, enum op_kind kind,
                               uint64_t offset, uint64_t count);

/* The reply came.  A request that was not acknowledged is left as it is. */
extern void model_end (struct model *m, struct op *op, bool effective);

/* The byte stream of a request, for [offset, offset + count) of the disk. */
extern void op_fill (const struct model *m, const struct op *op,
                     uint64_t offset, uint64_t count, uint8_t *buf);

/* Length of the lists of the epoch, altogether. */
extern uint64_t model_history (struct model *m);

/* Captures what a snapshot begun between the stamps may hold; to be called
 * right after `after' was taken, with model_settle kept out. */
extern struct view *model_capture (struct model *m, const char *name,
                                   uint64_t before, uint64_t after);
extern void view_free (struct view *v);

/* Checks the rules with what was read at [offset, offset + count) and keeps
 * it.  buf NULL stands for zeroes, for a hole that was claimed.  Ends the
 * program with an explanation if they do not hold; who says how it was read.
 * Any number of threads may. */
extern void view_check (struct view *v, uint64_t offset, uint64_t count,
                        const uint8_t *buf, const char *who);

/* The last rule, and how many requests were proven in and out.  */
extern void view_check_order (struct view *v, unsigned *in, unsigned *out);

/* Reads the live disk: all of it or the program ends. */
typedef void (*model_reader) (void *opaque, uint64_t offset, uint64_t count,
                              uint8_t *buf);

/* With nothing in flight: begins a new epoch on what the live disk has. */
extern void model_settle (struct model *m, model_reader read, void *opaque);

/* Prints which requests of the current epoch and of v's would explain the
 * bytes. */
extern void model_explain (struct view *v, uint64_t offset, uint64_t count,
                           const uint8_t *buf);

#endif /* NBDFLEECE_ORACLE_MODEL_H */
