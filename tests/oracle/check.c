/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Checking what was read against the rules of model.h. */

/* A read is checked cell by cell.  A cell that is exact is compared and done,
 * without a lock.  Otherwise the ends of the requests that touched the cell
 * cut it into segments in which the same requests compete for each byte; in
 * each segment the legal ones are found once, and their streams are laid
 * beside what was read.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "oracle.h"

#define COMPETE_MAX 1024

/* What competes in a segment; base is NULL among them. */
struct contest {
  struct view *v;
  const char *who;
  const struct op *cover[COMPETE_MAX]; /* all that touch the segment */
  unsigned nr_cover;
  const struct op *legal[COMPETE_MAX + 1];
  unsigned nr_legal;
  uint16_t hits[CELL];          /* per byte: how many explain it */
  uint16_t last[CELL];          /* per byte: one that does */
};

static bool
covers (const struct op *op, uint64_t offset)
{
  return op->offset <= offset && offset < op->offset + op->count;
}

static bool
weak (const struct view *v, const struct op *op)
{
  return v->m->weak_trim && op->kind == OP_TRIM;
}

/* The start of the last write that is surely before the instant: who had
 * ended by then was replaced.  0 if there is none. */
static uint64_t
last_start (const struct contest *c)
{
  uint64_t last = 0;
  unsigned i;

  for (i = 0; i < c->nr_cover; i++) {
    const struct op *op = c->cover[i];

    if (op->start > last && !weak (c->v, op)
        && atomic_load (&op->end) < c->v->before
        && !atomic_load (&op->void_))
      last = op->start;
  }
  return last;
}

/* Finds who competes for the bytes from offset on, and returns how far (at
 * most to end) it is the same ones. */
static uint64_t
open_contest (struct contest *c, uint64_t offset, uint64_t end)
{
  const struct node *n;
  uint64_t last;
  unsigned i;

  c->nr_cover = c->nr_legal = 0;
  for (n = c->v->heads[offset / CELL]; n; n = n->next) {
    const struct op *op = n->op;

    if (op->start > c->v->after)
      continue;
    if (covers (op, offset)) {
      if (c->nr_cover == COMPETE_MAX)
        die ("more than %d requests on one cell in an epoch", COMPETE_MAX);
      c->cover[c->nr_cover++] = op;
      if (op->offset + op->count < end)
        end = op->offset + op->count;
    }
    else if (op->offset > offset && op->offset < end)
      end = op->offset;
  }
  last = last_start (c);
  for (i = 0; i < c->nr_cover; i++)
    if (atomic_load (&c->cover[i]->end) > last
        && !atomic_load (&c->cover[i]->void_))
      c->legal[c->nr_legal++] = c->cover[i];
  if (last == 0)
    c->legal[c->nr_legal++] = NULL; /* the base */
  return end;
}

static void
judge (struct contest *c, const struct op *op, enum verdict verdict,
       uint64_t at)
{
  struct view *v = c->v;
  unsigned i;

  for (i = 0; i < v->nr_judged; i++)
    if (v->judged[i].op == op)
      break;
  if (i == v->nr_judged)
    return;
  if (v->judged[i].verdict == UNDECIDED) {
    v->judged[i].verdict = verdict;
    v->judged[i].at = at;
  }
  else if (v->judged[i].verdict != verdict)
    die ("%s, %s: request %" PRIu64 " (%" PRIu64 "+%" PRIu64 ") is torn:"
         " byte %" PRIu64 " shows that it is %s, byte %" PRIu64
         " that it is %s", v->name, c->who, op->id, op->offset, op->count,
         v->judged[i].at, v->judged[i].verdict == IN ? "in" : "out",
         at, verdict == IN ? "in" : "out");
}

/* Byte `at' can only come from w: what does that prove? */
static void
conclude (struct contest *c, const struct op *w, uint64_t at)
{
  uint64_t end = w ? atomic_load (&w->end) : 0;
  unsigned i;

  if (w)
    judge (c, w, IN, at);
  for (i = 0; i < c->nr_cover; i++)
    if (!weak (c->v, c->cover[i]) && end < c->cover[i]->start
        && !atomic_load (&c->cover[i]->void_))
      judge (c, c->cover[i], OUT, at);
}

/* Fills in hits and last.  Where nothing is to be proven, one that explains a
 * byte is enough. */
static void
compare_streams (struct contest *c, uint64_t offset, uint64_t count,
                 const uint8_t *buf)
{
  struct view *v = c->v;
  uint8_t expected[CELL];
  uint64_t i, missing = count;
  unsigned k;

  memset (c->hits, 0, count * sizeof *c->hits);
  for (k = 0; k < c->nr_legal && (missing || v->nr_judged); k++) {
    const uint8_t *e = expected;

    if (c->legal[k])
      op_fill (v->m, c->legal[k], offset, count, expected);
    else
      e = v->image + offset;
    for (i = 0; i < count; i++) {
      bool hit = buf[i] == e[i];

      if (!c->legal[k] && v->trimmed && v->trimmed[offset + i] && !buf[i])
        hit = true;
      if (hit) {
        missing -= c->hits[i] == 0;
        c->hits[i]++;
        c->last[i] = k;
      }
    }
  }
}

static void
mismatch (struct contest *c, uint64_t offset, uint64_t count,
          const uint8_t *buf, const char *rule)
{
  unsigned k;

  complain ("%s, %s: byte %" PRIu64 " is not what it may be (%s)",
            c->v->name, c->who, offset, rule);
  complain ("instant between %" PRIu64 " and %" PRIu64 "; legal are:",
            c->v->before, c->v->after);
  for (k = 0; k < c->nr_legal; k++) {
    const struct op *op = c->legal[k];
    uint8_t e = op ? 0 : c->v->image[offset];

    if (op)
      op_fill (c->v->m, op, offset, 1, &e);
    complain ("  %02x from %s %" PRIu64, e, op ? "request" : "the base",
              op ? op->id : 0);
  }
  model_explain (c->v, offset, count, buf);
  die ("wrong data");
}

/* One segment; known NULL means that no byte of it was seen before. */
static void
check_segment (struct contest *c, uint64_t offset, uint64_t count,
               const uint8_t *buf, const uint8_t *known)
{
  struct view *v = c->v;
  uint64_t proof[COMPETE_MAX + 1], i;
  unsigned k;

  for (k = 0; k < c->nr_legal; k++)
    proof[k] = NEVER;
  compare_streams (c, offset, count, buf);
  for (i = 0; i < count; i++) {
    if (known && known[i]) {
      if (buf[i] != v->image[offset + i])
        mismatch (c, offset + i, count - i, buf + i,
                  "it was read as something else before");
    }
    else if (c->hits[i] == 0)
      mismatch (c, offset + i, count - i, buf + i, "no legal write");
    else if (c->hits[i] == 1)
      proof[c->last[i]] = offset + i;
  }
  for (k = 0; k < c->nr_legal; k++)
    if (proof[k] != NEVER)
      conclude (c, c->legal[k], proof[k]);
}

/* The part [offset, end) of one cell, under v->lock. */
static void
check_cell (struct contest *c, uint64_t offset, uint64_t end,
            const uint8_t *buf)
{
  struct view *v = c->v;
  uint64_t cell = offset / CELL, base = cell * CELL, at, next, i;
  uint64_t size = v->m->size - base < CELL ? v->m->size - base : CELL;
  uint8_t *known = v->known[cell];

  for (at = offset; at < end; at = next) {
    next = open_contest (c, at, end);
    check_segment (c, at, next - at, buf + (at - offset),
                   known ? known + (at - base) : NULL);
  }
  memcpy (v->image + offset, buf, end - offset);
  if (end - offset == size) {
    atomic_store (&v->exact[cell], true);
    return;
  }
  if (!known) {
    known = v->known[cell] = xcalloc (1, CELL);
    v->unknown[cell] = size;
  }
  for (i = offset - base; i < end - base; i++)
    if (!known[i]) {
      known[i] = 1;
      v->unknown[cell]--;
    }
  if (v->unknown[cell] == 0)
    atomic_store (&v->exact[cell], true);
}

static void
check_exact (struct view *v, uint64_t offset, uint64_t count,
             const uint8_t *buf, const char *who)
{
  uint64_t i;

  if (memcmp (v->image + offset, buf, count) == 0)
    return;
  for (i = 0; buf[i] == v->image[offset + i]; i++)
    ;
  complain ("%s, %s: byte %" PRIu64 " is %02x and must be %02x (base, or seen"
            " before)", v->name, who, offset + i, buf[i],
            v->image[offset + i]);
  model_explain (v, offset + i, count - i, buf + i);
  die ("wrong data");
}

void
view_check (struct view *v, uint64_t offset, uint64_t count,
            const uint8_t *buf, const char *who)
{
  static const uint8_t zeroes[CELL];
  struct contest *c = NULL;
  uint64_t at, next, end = offset + count;

  for (at = offset; at < end; at = next) {
    const uint8_t *b = buf ? buf + (at - offset) : zeroes;

    next = (at / CELL + 1) * CELL;
    if (next > end)
      next = end;
    if (atomic_load (&v->exact[at / CELL])) {
      check_exact (v, at, next - at, b, who);
      continue;
    }
    if (!c) {
      c = xmalloc (sizeof *c);
      c->v = v;
      c->who = who;
    }
    pthread_mutex_lock (&v->lock);
    if (!atomic_load (&v->exact[at / CELL]))
      check_cell (c, at, next, b);
    else                        /* by another thread, meanwhile */
      check_exact (v, at, next - at, b, who);
    pthread_mutex_unlock (&v->lock);
  }
  free (c);
}

void
view_check_order (struct view *v, unsigned *in, unsigned *out)
{
  unsigned i, k;

  pthread_mutex_lock (&v->lock);
  for (i = 0; i < v->nr_judged; i++) {
    const struct judged *a = &v->judged[i];

    if (a->verdict == IN && atomic_load (&a->op->void_))
      die ("%s: request %" PRIu64 " failed, and byte %" PRIu64 " shows it",
           v->name, a->op->id, a->at);
    *in += a->verdict == IN;
    *out += a->verdict == OUT;
    for (k = 0; a->verdict == OUT && k < v->nr_judged; k++) {
      const struct judged *b = &v->judged[k];

      if (b->verdict == IN && atomic_load (&a->op->end) < b->op->start)
        die ("%s is no cut: request %" PRIu64 " is in (byte %" PRIu64 "), and"
             " %" PRIu64 ", which had ended before it began, is out (byte %"
             PRIu64 ")", v->name, b->op->id, b->at, a->op->id, a->at);
    }
  }
  pthread_mutex_unlock (&v->lock);
}

/* How many bytes from the start a request explains. */
static uint64_t
explained (const struct model *m, const struct op *op, uint64_t offset,
           uint64_t count, const uint8_t *buf)
{
  uint8_t expected[32];
  uint64_t i;

  if (!covers (op, offset))
    return 0;
  if (count > sizeof expected)
    count = sizeof expected;
  if (count > op->offset + op->count - offset)
    count = op->offset + op->count - offset;
  op_fill (m, op, offset, count, expected);
  for (i = 0; i < count && buf[i] == expected[i]; i++)
    ;
  return i;
}

static void
explain_from (const struct model *m, const struct op *newest,
              uint64_t offset, uint64_t count, const uint8_t *buf)
{
  static const char *kinds[] = {
    "pwrite", "sparse pwrite", "pwrite of zeroes", "zero", "trim"
  };
  const struct op *op;
  uint64_t n;

  for (op = newest; op; op = op->prev) {
    n = explained (m, op, offset, count, buf);
    if (n > 0)
      complain ("  explained for %" PRIu64 " bytes by request %" PRIu64
                ", %s %" PRIu64 "+%" PRIu64 ", started %" PRIu64
                ", ended %" PRId64, n, op->id, kinds[op->kind], op->offset,
                op->count, op->start, (int64_t) atomic_load (&op->end));
  }
}

void
model_explain (struct view *v, uint64_t offset, uint64_t count,
               const uint8_t *buf)
{
  struct model *m = v->m;
  uint64_t i;
  char text[3 * 16 + 1] = "";

  for (i = 0; i < 16 && i < count; i++)
    sprintf (text + 3 * i, " %02x", buf[i]);
  complain ("bytes read from %" PRIu64 " on:%s", offset, text);
  pthread_mutex_lock (&m->lock);
  complain ("requests of the instant's epoch:");
  explain_from (m, v->epoch->newest, offset, count, buf);
  if (m->epoch != v->epoch) {
    complain ("requests of the present epoch:");
    explain_from (m, m->epoch->newest, offset, count, buf);
  }
  pthread_mutex_unlock (&m->lock);
}
