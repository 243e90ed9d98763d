/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Block status: extents of the chosen contexts. */

/* One request is answered at a time, one chunk for each context wanted, each
 * built when the one before has been sent.  base:allocation comes first: if it
 * fails, nothing has been said yet.  It is the backend's to tell, 4 GiB and
 * some thousand extents at a time, so a long request is put to it in several
 * rounds, and what it says is gathered until it is enough.  The other contexts
 * are read from bitmaps (extents.c), as far as that is quick.
 *
 * An answer never passes the end of the range asked for, though it might: that
 * would surprise some clients and help none.  It may end early, when it has
 * EXTENTS_MAX extents, or looked at enough; at least one extent there is.
 */

#include <config.h>

#include <stdlib.h>

#include "map.h"
#include "nbd.h"
#include "transmission.h"

/* Extents in one chunk: with the longest descriptors 256 KiB. */
#define EXTENTS_MAX 16384

/* Rounds with the backend for one request, and bytes in one: nearly all that
 * 32 bits can say, in whole clusters. */
#define ROUNDS_MAX 64
#define ROUND_MAX (UINT32_MAX - (UINT32_C (1) << 22) + 1)

/* Longest extent that a compact descriptor is given, in whole clusters. */
#define COMPACT_MAX ROUND_MAX

/* -------------------------------------------------------------------- chunks */

/* A chunk that is being put into c->out. */
struct chunk {
  struct client *c;
  const struct slot *s;
  size_t start;                 /* from the front of what is in out */
  uint64_t at;                  /* byte of the disk it has come to */
  uint64_t end;                 /* and is not to pass */
  unsigned nr, max;             /* descriptors */
};

static bool
is_extended (const struct client *c)
{
  return c->header == HEADER_EXTENDED;
}

static size_t
descriptor_size (const struct client *c)
{
  return is_extended (c) ? 16 : 8;
}

static size_t
prefix_size (const struct client *c)
{
  return is_extended (c) ? 8 : 4;
}

static bool
chunk_begin (struct chunk *k, struct client *c, const struct slot *s)
{
  size_t size = reply_header_size (c) + prefix_size (c);

  *k = (struct chunk) {
    .c = c, .s = s, .start = buffer_size (&c->out),
    .at = s->offset, .end = s->offset + s->length,
    .max = s->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX,
  };
  if (!client_room (c, size, CLIENT_OUT_MAX))
    return false;
  c->out.len += size;
  return true;
}

static bool
put_descriptor (struct chunk *k, uint64_t length, uint32_t flags)
{
  struct client *c = k->c;
  uint8_t *p = client_room (c, descriptor_size (c), CLIENT_OUT_MAX);

  if (!p)
    return false;
  if (is_extended (c))
    put64 (put64 (p, length), flags);
  else
    put32 (put32 (p, length), flags);
  c->out.len += descriptor_size (c);
  k->nr++;
  k->at += length;
  return true;
}

/* An extent that ends at end.  False if the chunk is full. */
static bool
chunk_add (struct chunk *k, uint64_t end, uint32_t flags)
{
  uint64_t length;

  if (end > k->end)
    end = k->end;
  while (k->at < end) {
    length = end - k->at;
    if (!is_extended (k->c) && length > COMPACT_MAX)
      length = COMPACT_MAX;
    if (k->nr == k->max || !put_descriptor (k, length, flags))
      return false;
  }
  return k->nr < k->max;
}

static void
chunk_end (struct chunk *k, unsigned context, bool last)
{
  struct client *c = k->c;
  uint8_t *p = buffer_bytes (&c->out) + k->start;
  size_t payload = prefix_size (c) + k->nr * descriptor_size (c);

  p = put_reply_header (c, k->s, p, is_extended (c)
                        ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT
                        : NBD_REPLY_TYPE_BLOCK_STATUS,
                        last ? NBD_REPLY_FLAG_DONE : 0, 0, payload);
  p = put32 (p, context + CONTEXT_ID_FIRST);
  if (is_extended (c))
    put32 (p, k->nr);
}

/* --------------------------------------------------------------- from bitmaps */

static uint64_t
nearest (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static void
fill_depth (struct chunk *k)
{
  const struct bmfile *map = &k->c->view.map;
  uint64_t end = nearest (k->end, k->at
                          + extents_scan_limit (map->cluster_bits, 3));
  struct extent e;

  do
    e = depth_next (map, k->at, end);
  while (chunk_add (k, e.end, e.flags) && k->at < end);
}

/* checkpoint: its place in the tracking's maps. */
static void
fill_dirty (struct chunk *k, unsigned checkpoint)
{
  const struct tracking *t = &k->c->view.tracking;
  unsigned nr = checkpoint + 1, i, bits = t->maps[0].cluster_bits;
  struct dirty_walk w;
  struct extent e;

  for (i = 1; i < nr; i++)
    if (t->maps[i].cluster_bits < bits)
      bits = t->maps[i].cluster_bits;
  dirty_start (&w, t, nr, k->c->status.runs, k->at,
               nearest (k->end, k->at + extents_scan_limit (bits, nr)));
  do
    e = dirty_next (&w, k->at);
  while (chunk_add (k, e.end, e.flags) && k->at < w.end);
}

/* --------------------------------------------------------------- the backend's */

static void
forget_job (struct client *c)
{
  c->status.slot = NO_SLOT;
  c->status.asked = false;
}

static void
job_fails (struct client *c, uint32_t error)
{
  uint8_t n = c->status.slot;

  c->slots.slot[n].error = error;
  forget_job (c);
  reply_locally (c, n);
}

/* Where the next round begins, and how long it is; 0: there is none. */
static uint32_t
next_round (const struct client *c, uint64_t *offset)
{
  const struct status_job *j = &c->status;
  const struct slot *s = &c->slots.slot[j->slot];
  uint64_t rest = s->length - j->covered;
  bool one = s->flags & NBD_CMD_FLAG_REQ_ONE;

  *offset = s->offset + j->covered;
  if (rest == 0 || j->rounds == ROUNDS_MAX || j->nr == EXTENTS_MAX
      || (one && j->nr > 0))
    return 0;
  return rest < ROUND_MAX ? rest : ROUND_MAX;
}

/* True if it was asked. */
static bool
ask (struct client *c, uint64_t offset, uint32_t length)
{
  struct status_job *j = &c->status;
  const struct slot *s = &c->slots.slot[j->slot];

  if (c->backend.state != BACKEND_UP || c->relay.state == RELAY_RESUME)
    return false;
  if (!j->extents)
    j->extents = malloc (EXTENTS_MAX * sizeof *j->extents);
  if (!j->extents) {
    job_fails (c, NBD_ENOMEM);
    return true;
  }
  j->asked = true;
  j->rounds++;
  backend_request (&c->backend, NBD_CMD_BLOCK_STATUS,
                   s->flags & NBD_CMD_FLAG_REQ_ONE,
                   requests_cookie (c, j->slot, PIECE_STATUS),
                   offset, length);
  return true;
}

static void
gather (struct status_job *j, uint64_t length, uint64_t all, uint32_t flags)
{
  if (j->covered == all || length == 0)
    return;
  if (length > all - j->covered)
    length = all - j->covered;
  if (j->nr > 0 && j->extents[j->nr - 1].flags == flags)
    j->extents[j->nr - 1].end += length;
  else if (j->nr < EXTENTS_MAX) {
    uint64_t before = j->nr > 0 ? j->extents[j->nr - 1].end : 0;

    j->extents[j->nr++] = (struct extent) { before + length, flags };
  }
  else
    return;
  j->covered += length;
}

/* Once it is full, what comes after the gap must not be taken for what comes
 * next; next_round has the same rule. */
void
blockstatus_take (struct client *c, const uint8_t *p, size_t len)
{
  struct status_job *j = &c->status;
  const struct slot *s = &c->slots.slot[j->slot];
  size_t at;

  for (at = 0; at < len && j->nr < EXTENTS_MAX; at += 8)
    gather (j, get32 (p + at), s->length, get32 (p + at + 4)
            & (NBD_STATE_HOLE | NBD_STATE_ZERO));
}

void
blockstatus_taken (struct client *c)
{
  c->status.asked = false;
  c->backend.under_way--;
  c->backend_since = 0;
  if (c->status.nr == 0)
    job_fails (c, NBD_EIO);
}

/* What was gathered before is an answer, too. */
void
blockstatus_failed (struct client *c, uint32_t error)
{
  c->status.asked = false;
  c->backend.under_way--;
  c->backend_since = 0;
  if (c->status.nr == 0 || error == NBD_ESHUTDOWN)
    job_fails (c, error);
  else
    c->status.rounds = ROUNDS_MAX;
}

void
blockstatus_forget (struct client *c)
{
  c->status.asked = false;
}

static void
fill_base (struct chunk *k)
{
  const struct status_job *j = &k->c->status;
  unsigned i;

  for (i = 0; i < j->nr; i++)
    if (!chunk_add (k, k->s->offset + j->extents[i].end,
                    j->extents[i].flags))
      break;
}

/* ----------------------------------------------------------------- the request */

static bool
take_job (struct client *c)
{
  struct status_job *j = &c->status;
  uint8_t n = queue_get (&c->slots, &c->statuses);
  unsigned nr = c->view.tracking.nr;

  if (n == NO_SLOT)
    return false;
  j->slot = n;
  j->contexts = c->slots.slot[n].contexts;
  j->asked = false;
  j->rounds = j->nr = 0;
  j->covered = 0;
  if (!j->runs && nr > 0)
    j->runs = malloc (nr * sizeof *j->runs);
  if (!j->runs && nr > 0)
    job_fails (c, NBD_ENOMEM);
  return true;
}

static uint32_t
objection (const struct client *c, unsigned context)
{
  if (!view_is_active (&c->view))
    return NBD_ESHUTDOWN;
  if (context >= CONTEXT_NR_DIRTY
      && !tracking_ok (&c->view.tracking, context - CONTEXT_NR_DIRTY))
    return NBD_EIO;
  return 0;
}

/* The chunk of the next context wanted. */
static void
put_chunk (struct client *c, unsigned i)
{
  struct status_job *j = &c->status;
  uint8_t n = j->slot;
  const struct slot *s = &c->slots.slot[n];
  unsigned context = c->contexts.chosen[i];
  uint32_t error = objection (c, context);
  struct chunk k;

  if (error) {
    job_fails (c, error);
    return;
  }
  if (!chunk_begin (&k, c, s))
    return;
  if (context == CONTEXT_NR_BASE)
    fill_base (&k);
  else if (context == CONTEXT_NR_DEPTH)
    fill_depth (&k);
  else
    fill_dirty (&k, context - CONTEXT_NR_DIRTY);
  if (client_is_over (c))
    return;
  j->contexts &= ~(UINT32_C (1) << i);
  chunk_end (&k, context, j->contexts == 0);
  client_moved (c, CLIENT_TURN / 8);
  if (j->contexts == 0) {
    forget_job (c);
    request_ends (c, n);
  }
}

bool
blockstatus_step (struct client *c)
{
  struct status_job *j = &c->status;
  uint64_t offset;
  uint32_t length;
  unsigned i;

  if (j->slot == NO_SLOT)
    return take_job (c);
  if (j->asked)
    return false;
  i = __builtin_ctz (j->contexts);
  if (c->contexts.chosen[i] == CONTEXT_NR_BASE) {
    length = next_round (c, &offset);
    if (length > 0)
      return ask (c, offset, length);
  }
  if (relay_is_busy (c) || buffer_size (&c->out) > 0)
    return false;
  put_chunk (c, i);
  return true;
}
