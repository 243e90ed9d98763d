/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Requests, epochs, and capturing what a snapshot may hold (see model.h). */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "oracle.h"

#define CHUNK_SIZE (256 * 1024)

struct chunk {
  struct chunk *next;
  size_t used;
  _Alignas (16) char room[CHUNK_SIZE];
};

static uint64_t
mix (uint64_t z)
{
  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static uint64_t
stream_word (const struct op *op, uint64_t key, uint64_t w)
{
  if (op->kind == OP_SPARSE && (w / 512 + op->id) % 2 == 1)
    return 0;
  return mix (key ^ (w * UINT64_C (0xd1342543de82ef95)));
}

/* A part of one word. */
static uint8_t *
fill_part (const struct op *op, uint64_t key, uint64_t offset, uint64_t count,
           uint8_t *buf)
{
  uint64_t word = stream_word (op, key, offset / 8);

  memcpy (buf, (const char *) &word + offset % 8, count);
  return buf + count;
}

/* The stream is made of the aligned 8-byte words of the disk, so that any part
 * of it can be had without what is before it. */
void
op_fill (const struct model *m, const struct op *op,
         uint64_t offset, uint64_t count, uint8_t *buf)
{
  uint64_t key = mix (m->seed + op->id * UINT64_C (0x9e3779b97f4a7c15));
  uint64_t end = offset + count, w, word;

  if (op->kind != OP_PATTERN && op->kind != OP_SPARSE) {
    memset (buf, 0, count);
    return;
  }
  if (offset / 8 == end / 8) {
    fill_part (op, key, offset, count, buf);
    return;
  }
  if (offset % 8 != 0)
    buf = fill_part (op, key, offset, 8 - offset % 8, buf);
  for (w = (offset + 7) / 8; w < end / 8; w++, buf += 8) {
    word = stream_word (op, key, w);
    memcpy (buf, &word, 8);
  }
  if (end % 8 != 0)
    fill_part (op, key, end - end % 8, end % 8, buf);
}

static struct epoch *
epoch_new (void)
{
  struct epoch *e = xcalloc (1, sizeof *e);

  atomic_init (&e->refs, 1);
  return e;
}

static void
epoch_unref (struct epoch *e)
{
  struct chunk *c;

  if (atomic_fetch_sub (&e->refs, 1) != 1)
    return;
  while ((c = e->chunks) != NULL) {
    e->chunks = c->next;
    free (c);
  }
  free (e);
}

static void *
epoch_alloc (struct epoch *e, size_t size)
{
  struct chunk *c = e->chunks;
  void *p;

  size = (size + 15) & ~(size_t) 15;
  if (c == NULL || c->used + size > CHUNK_SIZE) {
    c = xmalloc (sizeof *c);
    c->used = 0;
    c->next = e->chunks;
    e->chunks = c;
  }
  p = c->room + c->used;
  c->used += size;
  return p;
}

struct model *
model_new (uint64_t size, uint64_t seed, bool weak_trim)
{
  struct model *m = xcalloc (1, sizeof *m);

  m->size = size;
  m->nr_cells = (size + CELL - 1) / CELL;
  m->seed = seed;
  m->weak_trim = weak_trim;
  m->image = xcalloc (1, size);
  if (weak_trim)
    m->trimmed = xcalloc (1, size);
  m->heads = xcalloc (m->nr_cells, sizeof *m->heads);
  m->epoch = epoch_new ();
  pthread_mutex_init (&m->lock, NULL);
  return m;
}

void
model_free (struct model *m)
{
  epoch_unref (m->epoch);
  pthread_mutex_destroy (&m->lock);
  free (m->heads);
  free (m->trimmed);
  free (m->image);
  free (m);
}

struct op *
model_start (struct model *m, enum op_kind kind,
             uint64_t offset, uint64_t count)
{
  struct op *op;
  struct node *node;
  uint64_t cell;

  pthread_mutex_lock (&m->lock);
  op = epoch_alloc (m->epoch, sizeof *op);
  op->id = ++m->next_id;
  op->offset = offset;
  op->count = count;
  op->kind = kind;
  atomic_init (&op->end, NEVER);
  atomic_init (&op->void_, false);
  op->prev = m->epoch->newest;
  m->epoch->newest = op;
  for (cell = offset / CELL; cell <= (offset + count - 1) / CELL; cell++) {
    node = epoch_alloc (m->epoch, sizeof *node);
    node->op = op;
    node->next = m->heads[cell];
    m->heads[cell] = node;
    m->epoch->nr_nodes++;
  }
  op->start = model_now (m);
  pthread_mutex_unlock (&m->lock);
  return op;
}

void
model_end (struct model *m, struct op *op, bool effective)
{
  if (!effective)
    atomic_store (&op->void_, true);
  atomic_store (&op->end, model_now (m));
}

uint64_t
model_history (struct model *m)
{
  uint64_t n;

  pthread_mutex_lock (&m->lock);
  n = m->epoch->nr_nodes;
  pthread_mutex_unlock (&m->lock);
  return n;
}

/* The requests whose time overlaps the instant's. */
static void
collect_judged (struct view *v, const struct op *newest)
{
  const struct op *op;
  unsigned room = 0;

  for (op = newest; op; op = op->prev) {
    if (op->start > v->after || atomic_load (&op->end) < v->before)
      continue;
    if (v->nr_judged == room) {
      room = room ? 2 * room : 64;
      v->judged = xrealloc (v->judged, room * sizeof *v->judged);
    }
    v->judged[v->nr_judged++] = (struct judged) { .op = op };
  }
}

/* True if nothing in the cell may yet be zeroed by a weak trim. */
static bool
firm (const struct model *m, const uint8_t *trimmed, uint64_t cell)
{
  uint64_t offset = cell * CELL;
  uint64_t n = m->size - offset < CELL ? m->size - offset : CELL;

  return !trimmed || !memchr (trimmed + offset, 1, n);
}

struct view *
model_capture (struct model *m, const char *name,
               uint64_t before, uint64_t after)
{
  struct view *v = xcalloc (1, sizeof *v);
  const struct op *newest;
  uint64_t i;

  v->heads = xmalloc (m->nr_cells * sizeof *v->heads);
  pthread_mutex_lock (&m->lock);
  memcpy (v->heads, m->heads, m->nr_cells * sizeof *v->heads);
  v->epoch = m->epoch;
  atomic_fetch_add (&v->epoch->refs, 1);
  newest = v->epoch->newest;
  pthread_mutex_unlock (&m->lock);

  v->m = m;
  snprintf (v->name, sizeof v->name, "%s", name);
  v->before = before;
  v->after = after;
  pthread_mutex_init (&v->lock, NULL);
  v->image = xmalloc (m->size);
  memcpy (v->image, m->image, m->size);
  if (m->weak_trim) {
    v->trimmed = xmalloc (m->size);
    memcpy (v->trimmed, m->trimmed, m->size);
  }
  v->exact = xcalloc (m->nr_cells, sizeof *v->exact);
  v->known = xcalloc (m->nr_cells, sizeof *v->known);
  v->unknown = xcalloc (m->nr_cells, sizeof *v->unknown);
  for (i = 0; i < m->nr_cells; i++)
    atomic_init (&v->exact[i], !v->heads[i] && firm (m, v->trimmed, i));
  collect_judged (v, newest);
  return v;
}

void
view_free (struct view *v)
{
  uint64_t i;

  for (i = 0; i < v->m->nr_cells; i++)
    free (v->known[i]);
  epoch_unref (v->epoch);
  pthread_mutex_destroy (&v->lock);
  free (v->judged);
  free (v->unknown);
  free (v->known);
  free (v->exact);
  free (v->trimmed);
  free (v->image);
  free (v->heads);
  free (v);
}

/* True if the cell is to be settled by reading it. */
static bool
unsettled (const struct model *m, uint64_t cell)
{
  return m->heads[cell] || !firm (m, m->trimmed, cell);
}

/* Whether a weak trim may yet zero the byte at offset, which it might (before)
 * or might not when the epoch began; cuts *end down to where that may change.
 * It may as long as nothing surely came after the trim. */
static bool
may_be_zeroed (const struct model *m, uint64_t offset, bool before,
               uint64_t *end)
{
  const struct node *n;
  uint64_t last_write = 0, last_trim = 0;

  for (n = m->heads[offset / CELL]; n; n = n->next) {
    const struct op *op = n->op;
    uint64_t op_end = atomic_load (&op->end);

    if (op->offset <= offset && offset < op->offset + op->count) {
      if (op->offset + op->count < *end)
        *end = op->offset + op->count;
      if (op->kind == OP_TRIM && op_end > last_trim)
        last_trim = op_end;
      if (op->kind != OP_TRIM && op_end != NEVER && !op->void_
          && op->start > last_write)
        last_write = op->start;
    }
    else if (op->offset > offset && op->offset < *end)
      *end = op->offset;
  }
  return last_trim > last_write || (before && last_write == 0);
}

/* What reads as zero already has no secret left. */
static void
carry_trims (struct model *m, uint64_t cell)
{
  uint64_t at, next, i, stop = (cell + 1) * CELL;

  if (stop > m->size)
    stop = m->size;
  for (at = cell * CELL; at < stop; at = next) {
    bool may_not, may;

    next = stop;
    may_not = may_be_zeroed (m, at, false, &next);
    may = may_be_zeroed (m, at, true, &next);
    for (i = at; i < next; i++)
      m->trimmed[i] = (m->trimmed[i] ? may : may_not) && m->image[i] != 0;
  }
}

/* The live disk, with nothing in flight, is a view whose instant is now.  A
 * request that was cut short by a kill may be torn there. */
void
model_settle (struct model *m, model_reader read, void *opaque)
{
  uint64_t now = model_now (m), cell, end, i;
  struct view *v = model_capture (m, "the live disk", now, now);
  uint8_t *buf = xmalloc (1024 * 1024);

  v->nr_judged = 0;
  for (cell = 0; cell < m->nr_cells; cell = end) {
    uint64_t offset = cell * CELL, count;

    end = cell;
    while (end < m->nr_cells && end - cell < 256 && unsettled (m, end))
      end++;
    if (end == cell) {
      end++;
      continue;
    }
    count = (end * CELL < m->size ? end * CELL : m->size) - offset;
    read (opaque, offset, count, buf);
    view_check (v, offset, count, buf, "read of the live disk");
    memcpy (m->image + offset, buf, count);
    for (i = cell; m->weak_trim && i < end; i++)
      carry_trims (m, i);
  }
  free (buf);
  view_free (v);

  pthread_mutex_lock (&m->lock);
  memset (m->heads, 0, m->nr_cells * sizeof *m->heads);
  epoch_unref (m->epoch);
  m->epoch = epoch_new ();
  pthread_mutex_unlock (&m->lock);
}
