/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Target: nothing is written, but compared with what a manifest says. */

/* The planner (plan.c) has each extent of data read as a whole, so it comes
 * here as one write; a worker thread computes its digest.  Zeroes come in any
 * pieces. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"

struct target_prove {
  struct target base;
  struct pool *pool;
  const struct manifest *manifest;
  struct comparison *comparison;
};

/* One extent of data whose digest is computed. */
struct proof {
  struct io io;
  struct io *outer;
  struct target_prove *t;
  const struct manifest_extent *expected;
  struct manifest_extent found;
};

static void
nothing (struct target *base, struct io *io)
{
  (void) base;
  loop_complete (io, 0);
}

static void
prove_disconnect (struct target *base)
{
  (void) base;
}

static int
run_digest (struct io *io)
{
  struct proof *p = io->owner;

  return manifest_digest (p->outer->buf, p->found.length, &p->found);
}

static void
digested (struct io *io)
{
  struct proof *p = io->owner;
  int error = io->error;

  if (!error && (p->found.kind != EXTENT_DATA
                 || memcmp (p->found.digest, p->expected->digest,
                            DIGEST_SIZE) != 0)
      && comparison_differs (p->t->comparison, p->found.offset,
                             p->found.length) == -1)
    error = ENOMEM;
  loop_complete (p->outer, error);
  free (p);
}

static void
prove_write (struct target *base, struct io *io)
{
  struct target_prove *t = (struct target_prove *) base;
  const struct manifest_extent *e = manifest_find (t->manifest, io->offset);
  struct proof *p;

  if (e->kind != EXTENT_DATA) {
    loop_complete (io, comparison_look (t->comparison, NULL, io->buf,
                                        io->offset, io->count) == -1
                   ? ENOMEM : 0);
    return;
  }
  p = calloc (1, sizeof *p);
  if (!p || io->offset != e->offset || io->count < e->length) {
    loop_complete (io, p ? EINVAL : ENOMEM);
    free (p);
    return;
  }
  p->outer = io;
  p->t = t;
  p->expected = e;
  p->found.offset = e->offset;
  p->found.length = e->length;
  p->io = (struct io) { .done = digested, .owner = p, .loop = io->loop,
                        .end = t, .run = run_digest };
  pool_submit (t->pool, &p->io);
}

static void
prove_free (struct target *base)
{
  free (base);
}

static const struct target_ops prove_ops = {
  .connect = nothing,
  .disconnect = prove_disconnect,
  .write = prove_write,
  .zero = nothing,              /* holes where the manifest has zeroes; all else
                                 * is read */
  .flush = nothing,
  .finish = nothing,
  .free = prove_free,
};

struct target *
target_prove_new (struct pool *pool, const char *name,
                  const struct manifest *m, struct comparison *c)
{
  struct target_prove *t = calloc (1, sizeof *t);

  if (!t)
    return NULL;
  t->base = (struct target) {
    .ops = &prove_ops, .name = name, .flush_kind = "none", .min_block = 1,
    .max_write = MANIFEST_DATA_MAX, .max_zero = UINT64_C (1) << 40,
    .zero_run = UINT32_MAX, .can_zero = true, .offload = OFFLOAD_NONE,
    .size = m->id.size,
  };
  t->pool = pool;
  t->manifest = m;
  t->comparison = c;
  return &t->base;
}
