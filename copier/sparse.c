/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The bitmap in chunks. */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "sparse.h"

#define CHUNK_WORDS (SPARSE_CHUNK_BITS / 64)

uint64_t sparse_full[CHUNK_WORDS];

static uint64_t
nr_chunks (const struct sparse *s)
{
  return s->nr_bits / SPARSE_CHUNK_BITS
    + (s->nr_bits % SPARSE_CHUNK_BITS != 0);
}

int
sparse_init (struct sparse *s, uint64_t nr_bits)
{
  s->nr_bits = nr_bits;
  s->pages = 0;
  s->chunks = calloc (nr_chunks (s), sizeof s->chunks[0]);
  return s->chunks ? 0 : -1;
}

/* Makes a chunk one of the two that have no page. */
static void
let_go (struct sparse *s, uint64_t chunk, uint64_t *instead)
{
  if (s->chunks[chunk] && s->chunks[chunk] != sparse_full) {
    free (s->chunks[chunk]);
    s->pages--;
  }
  s->chunks[chunk] = instead;
}

void
sparse_free (struct sparse *s)
{
  uint64_t i;

  for (i = 0; s->chunks && i < nr_chunks (s); i++)
    let_go (s, i, NULL);
  free (s->chunks);
  s->chunks = NULL;
}

static uint64_t *
page (struct sparse *s, uint64_t chunk)
{
  uint64_t *old = s->chunks[chunk], *new;

  if (old && old != sparse_full)
    return old;
  new = malloc (CHUNK_WORDS * sizeof *new);
  if (!new) {
    fputs ("nbdfleece-copy: no memory\n", stderr);
    abort ();
  }
  memset (new, old ? 0xff : 0, CHUNK_WORDS * sizeof *new);
  s->pages++;
  s->chunks[chunk] = new;
  return new;
}

static void
change_part (struct sparse *s, uint64_t chunk, uint64_t first, uint64_t end,
             bool set)
{
  uint64_t *words = page (s, chunk), w, mask;
  const uint64_t uniform = set ? UINT64_MAX : 0;

  for (w = first / 64; w <= (end - 1) / 64; w++) {
    mask = bm_mask (w, first, end);
    words[w] = set ? words[w] | mask : words[w] & ~mask;
  }
  for (w = 0; w < CHUNK_WORDS && words[w] == uniform; w++)
    ;
  if (w == CHUNK_WORDS)
    let_go (s, chunk, set ? sparse_full : NULL);
}

static void
change (struct sparse *s, uint64_t first, uint64_t end, bool set)
{
  uint64_t *whole = set ? sparse_full : NULL;

  while (first < end) {
    uint64_t chunk = first / SPARSE_CHUNK_BITS;
    uint64_t start = chunk * SPARSE_CHUNK_BITS;
    uint64_t stop = start + SPARSE_CHUNK_BITS;

    if (stop > end)
      stop = end;
    if (s->chunks[chunk] != whole) {
      /* Bits past the last one do not matter. */
      if (first == start && (stop == start + SPARSE_CHUNK_BITS
                             || stop == s->nr_bits))
        let_go (s, chunk, whole);
      else
        change_part (s, chunk, first - start, stop - start, set);
    }
    first = stop;
  }
}

void
sparse_set (struct sparse *s, uint64_t first, uint64_t end)
{
  change (s, first, end, true);
}

void
sparse_clear (struct sparse *s, uint64_t first, uint64_t end)
{
  change (s, first, end, false);
}

uint64_t
sparse_count (const struct sparse *s)
{
  uint64_t n = 0, w, nr_words = (s->nr_bits + 63) / 64;

  for (w = 0; w < nr_words; w++) {
    if (w % CHUNK_WORDS == 0 && !s->chunks[w / CHUNK_WORDS]) {
      w += CHUNK_WORDS - 1;
      continue;
    }
    n += __builtin_popcountll (sparse_word (s, w) & bm_mask (w, 0, s->nr_bits));
  }
  return n;
}
