/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The nbdkit filter that connects to an NBD server again: fleece-reconnect. */

/* Stands in front of nbdkit's nbd plugin.  When the server's connection is
 * gone, a request opens the plugin anew and is issued once more, for so long;
 * the client does not notice but for the time.
 *
 * nbdkit's own retry filter replaces the one context of a connection, so that
 * it must not have two requests at a time; and since it knows nothing of what
 * is below, it tries everything again, a bad sector too.  Here each request
 * holds the context that it uses, so many are under way at once, also on two
 * contexts while one takes the place of the other:
 *
 *   current ──lost──▶ none ──connected──▶ another current
 *      │                                      (the old one is closed by the
 *      └─ held by requests until each ends     last request that holds it)
 *
 * Only the loss of a connection counts; every other error is the server's
 * answer.  The plugin says ENOTCONN for a request that was under way, and
 * EINVAL, which may be an answer as well, for one that came later: then a
 * small read tells the one from the other.
 *
 * A request may be carried out twice, which for NBD's is as good as once.
 * What comes back must be able to do what the client was told, and have the
 * same size; else it has not come back.
 *
 * Lock order: opening, lock.  lock is not held across anything that waits.
 * opening is held across a connect; who waits for it would have to connect.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "next.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define LIMIT_S_MAX 3600
#define PAUSE_FIRST_NS UINT64_C (20000000)
#define PAUSE_MAX_NS UINT64_C (1000000000)
/* A connection that has lived for less is no reason to connect at once. */
#define LIVED_NS UINT64_C (1000000000)
#define PROBE_MAX 65536         /* the largest minimum block size there is */

/* nbdkit's config gets no handle. */
static unsigned limit_s = 15;

/* What the client was told, and a later connection must have, too. */
struct able {
  int64_t size;
  int write, flush, trim, zero, fast_zero, fua, extents, cache;
};

struct context {
  nbdkit_next *next;            /* set once */
  bool ours;                    /* set once; else nbdkit closes it */
  uint64_t since;               /* set once, ns */
  unsigned users;               /* under lock of the guest */
};

/* One connection of a client. */
struct guest {
  /* Set once, by open and prepare. */
  nbdkit_backend *backend;
  char *export_name;
  bool readonly;
  struct able able;
  struct context first;

  pthread_mutex_t opening;      /* by who connects; protects: */
  uint64_t next_try, pause;     /* ns */

  pthread_mutex_t lock;         /* protects, with users of all contexts: */
  struct context *current;      /* or NULL */
};

/* Any request; what a kind of it does not need is not set. */
struct request {
  enum { READ, WRITE, ZERO, TRIM, FLUSH, EXTENTS, CACHE } kind;
  uint32_t count, flags;
  uint64_t offset;
  void *to;
  const void *from;
  struct nbdkit_extents *extents;
};

static uint64_t
now_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * UINT64_C (1000000000) + t.tv_nsec;
}

static int
reconnect_thread_model (void)
{
  return THREAD_MODEL;
}

static int
reconnect_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
                  const char *key, const char *value)
{
  if (strcmp (key, "fleece-reconnect") != 0)
    return next (nxdata, key, value);
  if (nbdkit_parse_unsigned (key, value, &limit_s) == -1)
    return -1;
  if (limit_s > LIMIT_S_MAX) {
    nbdkit_error ("%s=%s: must be 0 to %d seconds", key, value, LIMIT_S_MAX);
    return -1;
  }
  return 0;
}

/* Asks for all that it can, which nbdkit wants before any request.  0 or -1. */
static int
ask_able (nbdkit_next *next, bool readonly, struct able *able)
{
  *able = (struct able) { .size = next_negotiate (next, readonly) };
  if (able->size == -1)
    return -1;
  able->flush = next->can_flush (next);
  able->extents = next->can_extents (next);
  able->cache = next->can_cache (next);
  if (!readonly) {
    able->write = next->can_write (next);
    able->trim = next->can_trim (next);
    able->zero = next->can_zero (next);
    able->fast_zero = next->can_fast_zero (next);
    able->fua = next->can_fua (next);
  }
  return 0;
}

static bool
is_as_able (const struct able *a, const struct able *than)
{
  return a->size == than->size && a->write >= than->write
    && a->flush >= than->flush && a->trim >= than->trim
    && a->zero >= than->zero && a->fast_zero >= than->fast_zero
    && a->fua >= than->fua && a->extents >= than->extents
    && a->cache >= than->cache;
}

static void *
reconnect_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
                const char *exportname, int is_tls)
{
  struct guest *g = calloc (1, sizeof *g);

  (void) is_tls;
  if (!g || !(g->export_name = strdup (exportname))) {
    nbdkit_error ("%m");
    free (g);
    return NULL;
  }
  if (next (context, readonly, exportname) == -1) {
    free (g->export_name);
    free (g);
    return NULL;
  }
  g->backend = nbdkit_context_get_backend (context);
  g->readonly = readonly;
  pthread_mutex_init (&g->opening, NULL);
  pthread_mutex_init (&g->lock, NULL);
  return g;
}

static int
reconnect_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct guest *g = handle;

  g->readonly = readonly || next->can_write (next) != 1;
  if (ask_able (next, g->readonly, &g->able) == -1)
    return -1;
  g->first = (struct context) { .next = next, .since = now_ns () };
  g->current = &g->first;
  return 0;
}

static void
context_close (struct context *c)
{
  if (!c || !c->ours)
    return;
  next_close (c->next);
  free (c);
}

/* There are no requests any more. */
static int
reconnect_finalize (nbdkit_next *next, void *handle)
{
  struct guest *g = handle;

  (void) next;
  context_close (g->current);
  g->current = NULL;
  return 0;
}

static void
reconnect_close (void *handle)
{
  struct guest *g = handle;

  pthread_mutex_destroy (&g->opening);
  pthread_mutex_destroy (&g->lock);
  free (g->export_name);
  free (g);
}

/* The current context, which the caller holds until context_release. */
static struct context *
context_hold (struct guest *g)
{
  struct context *c;

  pthread_mutex_lock (&g->lock);
  c = g->current;
  if (c)
    c->users++;
  pthread_mutex_unlock (&g->lock);
  return c;
}

/* lost: nobody is to begin anything on it any more.  Returns true to the
 * first who says so. */
static bool
context_release (struct guest *g, struct context *c, bool lost)
{
  bool first = false, unused;

  pthread_mutex_lock (&g->lock);
  if (lost && g->current == c) {
    g->current = NULL;
    first = true;
  }
  unused = --c->users == 0 && g->current != c;
  pthread_mutex_unlock (&g->lock);
  if (unused)
    context_close (c);
  return first;
}

/* With opening held: a new context, or NULL. */
static struct context *
context_open (struct guest *g)
{
  struct context *c = malloc (sizeof *c);
  nbdkit_next *next;
  struct able able;

  if (!c)
    return NULL;
  next = nbdkit_next_context_open (g->backend, g->readonly, g->export_name, 1);
  if (next && next->prepare (next) == 0) {
    *c = (struct context) { .next = next, .ours = true, .since = now_ns () };
    if (ask_able (next, g->readonly, &able) == 0) {
      if (is_as_able (&able, &g->able))
        return c;
      nbdkit_error ("the server that has come back has another disk "
                    "(%" PRIi64 " bytes), or can do less", able.size);
    }
    next->finalize (next);
  }
  if (next)
    nbdkit_next_context_close (next);
  free (c);
  return NULL;
}

/* With opening held: no sooner than after a pause, which grows. */
static void
try_later (struct guest *g)
{
  g->next_try = now_ns () + g->pause;
  g->pause = g->pause == 0 ? PAUSE_FIRST_NS : g->pause * 2;
  if (g->pause > PAUSE_MAX_NS)
    g->pause = PAUSE_MAX_NS;
}

/* Makes a context current unless there is one.  Returns when it is good to
 * look again, in ns. */
static uint64_t
connect_again (struct guest *g)
{
  struct context *c;
  uint64_t at;

  pthread_mutex_lock (&g->opening);
  pthread_mutex_lock (&g->lock);
  c = g->current;
  pthread_mutex_unlock (&g->lock);
  if (!c && now_ns () >= g->next_try) {
    c = context_open (g);
    if (c) {
      pthread_mutex_lock (&g->lock);
      g->current = c;
      pthread_mutex_unlock (&g->lock);
    }
    else
      try_later (g);
  }
  at = c ? 0 : g->next_try;
  pthread_mutex_unlock (&g->opening);
  return at;
}

/* Waits for a context until the deadline (ns).  NULL if there was none. */
static struct context *
wait_for_context (struct guest *g, uint64_t deadline)
{
  struct context *c;
  uint64_t at, now;

  while (!(c = context_hold (g))) {
    at = connect_again (g);
    now = now_ns ();
    if (now > deadline || at > deadline)
      break;
    if (at > now && nbdkit_nanosleep ((at - now) / 1000000000,
                                      (at - now) % 1000000000) == -1)
      break;                    /* nbdkit ends, or the client has gone */
  }
  return c;
}

/* The connection of c is gone. */
static void
lose (struct guest *g, struct context *c, const char *why)
{
  uint64_t lived = now_ns () - c->since;

  if (!context_release (g, c, true))
    return;
  nbdkit_error ("the connection to the disk's server is lost (%s), "
                "connecting again", why);
  pthread_mutex_lock (&g->opening);
  if (lived >= LIVED_NS)
    g->pause = 0;
  try_later (g);
  pthread_mutex_unlock (&g->opening);
}

/* For each try a list of its own: the one that failed may have left something
 * in it. */
static int
ask_extents (nbdkit_next *next, const struct request *rq, int64_t size,
             int *err)
{
  struct nbdkit_extents *found = nbdkit_extents_new (rq->offset, size);
  struct nbdkit_extent e;
  size_t i;
  int r;

  if (!found) {
    *err = errno;
    return -1;
  }
  r = next->extents (next, rq->count, rq->offset, rq->flags, found, err);
  for (i = 0; r == 0 && i < nbdkit_extents_count (found); i++) {
    e = nbdkit_get_extent (found, i);
    r = nbdkit_add_extent (rq->extents, e.offset, e.length, e.type);
    if (r == -1)
      *err = errno;
  }
  nbdkit_extents_free (found);
  return r;
}

static int
issue (struct guest *g, nbdkit_next *next, const struct request *rq, int *err)
{
  switch (rq->kind) {
  case READ:
    return next->pread (next, rq->to, rq->count, rq->offset, rq->flags, err);
  case WRITE:
    return next->pwrite (next, rq->from, rq->count, rq->offset, rq->flags,
                         err);
  case ZERO:
    return next->zero (next, rq->count, rq->offset, rq->flags, err);
  case TRIM:
    return next->trim (next, rq->count, rq->offset, rq->flags, err);
  case FLUSH:
    return next->flush (next, rq->flags, err);
  case EXTENTS:
    return ask_extents (next, rq, g->able.size, err);
  case CACHE:
    return next->cache (next, rq->count, rq->offset, rq->flags, err);
  }
  *err = ENOTSUP;
  return -1;
}

/* False if not even the first block can be read, for the same reason. */
static bool
answers (struct guest *g, struct context *c)
{
  uint32_t minimum = 0, preferred, maximum;
  char *block;
  int err = EINVAL, r = -1;

  c->next->block_size (c->next, &minimum, &preferred, &maximum);
  if (minimum == 0 || minimum > PROBE_MAX)
    minimum = 1;
  if (minimum > g->able.size)
    minimum = g->able.size;
  block = malloc (PROBE_MAX);
  if (block)
    r = c->next->pread (c->next, block, minimum, 0, 0, &err);
  free (block);
  return r == 0 || err != EINVAL;
}

static bool
is_lost (struct guest *g, struct context *c, int err)
{
  switch (err) {
  case ENOTCONN: case ESHUTDOWN: case EPIPE: case ECONNRESET:
  case ECONNABORTED:
    return true;
  case EINVAL:
    return !answers (g, c);
  }
  return false;
}

static int
carry_out (void *handle, const struct request *rq, int *err)
{
  struct guest *g = handle;
  struct context *c = context_hold (g);
  uint64_t deadline = c ? 0 : now_ns () + limit_s * UINT64_C (1000000000);
  int r;

  for (;;) {
    if (!c && !(c = wait_for_context (g, deadline))) {
      nbdkit_error ("the disk's server has not come back");
      *err = EIO;
      return -1;
    }
    r = issue (g, c->next, rq, err);
    if (r == 0 || !is_lost (g, c, *err)) {
      context_release (g, c, false);
      return r;
    }
    lose (g, c, strerror (*err));
    c = NULL;
    if (deadline == 0)
      deadline = now_ns () + limit_s * UINT64_C (1000000000);
  }
}

static int
reconnect_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
                 uint64_t offset, uint32_t flags, int *err)
{
  struct request rq = {
    .kind = READ, .to = buf, .count = count, .offset = offset, .flags = flags,
  };

  (void) next;
  return carry_out (handle, &rq, err);
}

static int
reconnect_pwrite (nbdkit_next *next, void *handle, const void *buf,
                  uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct request rq = {
    .kind = WRITE, .from = buf, .count = count, .offset = offset,
    .flags = flags,
  };

  (void) next;
  return carry_out (handle, &rq, err);
}

static int
reconnect_zero (nbdkit_next *next, void *handle, uint32_t count,
                uint64_t offset, uint32_t flags, int *err)
{
  struct request rq = {
    .kind = ZERO, .count = count, .offset = offset, .flags = flags,
  };

  (void) next;
  return carry_out (handle, &rq, err);
}

static int
reconnect_trim (nbdkit_next *next, void *handle, uint32_t count,
                uint64_t offset, uint32_t flags, int *err)
{
  struct request rq = {
    .kind = TRIM, .count = count, .offset = offset, .flags = flags,
  };

  (void) next;
  return carry_out (handle, &rq, err);
}

static int
reconnect_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  struct request rq = { .kind = FLUSH, .flags = flags };

  (void) next;
  return carry_out (handle, &rq, err);
}

static int
reconnect_extents (nbdkit_next *next, void *handle, uint32_t count,
                   uint64_t offset, uint32_t flags,
                   struct nbdkit_extents *extents, int *err)
{
  struct request rq = {
    .kind = EXTENTS, .count = count, .offset = offset, .flags = flags,
    .extents = extents,
  };

  (void) next;
  return carry_out (handle, &rq, err);
}

static int
reconnect_cache (nbdkit_next *next, void *handle, uint32_t count,
                 uint64_t offset, uint32_t flags, int *err)
{
  struct request rq = {
    .kind = CACHE, .count = count, .offset = offset, .flags = flags,
  };

  (void) next;
  return carry_out (handle, &rq, err);
}

static struct nbdkit_filter filter = {
  .name = "fleece-reconnect",
  .longname = "nbdfleece reconnecting filter",
  .config = reconnect_config,
  .config_help =
    "fleece-reconnect=SECONDS      How long to connect again (default 15).",
  .thread_model = reconnect_thread_model,
  .open = reconnect_open,
  .prepare = reconnect_prepare,
  .finalize = reconnect_finalize,
  .close = reconnect_close,
  .pread = reconnect_pread,
  .pwrite = reconnect_pwrite,
  .zero = reconnect_zero,
  .trim = reconnect_trim,
  .flush = reconnect_flush,
  .extents = reconnect_extents,
  .cache = reconnect_cache,
};

NBDKIT_REGISTER_FILTER (filter)
