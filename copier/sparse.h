/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A private bitmap that takes little memory where it is all clear or all
 * set. */

/* The disk of a job may have many more clusters than are on their way at once,
 * and what is on its way, or done, lies together.  So the bitmap is in chunks
 * of CHUNK_BITS, each of which is all clear, all set, or a page of its own.
 *
 * Of one thread only. */

#ifndef NBDFLEECE_SPARSE_H
#define NBDFLEECE_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#define SPARSE_CHUNK_BITS 32768

struct sparse {
  uint64_t nr_bits;
  uint64_t **chunks;            /* NULL: all clear; or sparse_full */
  size_t pages;                 /* that are in use */
};

/* All clear.  0, or -1 and errno ENOMEM. */
extern int sparse_init (struct sparse *s, uint64_t nr_bits);

/* Harmless on a zeroed struct. */
extern void sparse_free (struct sparse *s);

/* Set or clear [first, end).  A page that cannot be had ends the process, as
 * a kill would: the job goes on from its copy bitmap. */
extern void sparse_set (struct sparse *s, uint64_t first, uint64_t end);
extern void sparse_clear (struct sparse *s, uint64_t first, uint64_t end);

/* How many bits are set. */
extern uint64_t sparse_count (const struct sparse *s);

/* The chunk that is all set; nobody writes to it. */
extern uint64_t sparse_full[SPARSE_CHUNK_BITS / 64];

/* Word number w of the bitmap.  Bits past the last one may be set. */
static inline uint64_t
sparse_word (const struct sparse *s, uint64_t w)
{
  const uint64_t *chunk = s->chunks[w / (SPARSE_CHUNK_BITS / 64)];

  return !chunk ? 0 : chunk == sparse_full ? UINT64_MAX
    : chunk[w % (SPARSE_CHUNK_BITS / 64)];
}

#endif /* NBDFLEECE_SPARSE_H */
