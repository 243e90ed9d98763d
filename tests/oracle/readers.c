/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Reading snapshots the way backup software does: NBD, through the plugin. */

/* A read may fail for a reason only: the snapshot is being ended, a cluster of
 * the range is lost or released, or a server was killed.  And it must fail if
 * that was so before the read began; data that comes is checked whatever
 * happens around it.
 */

#include <config.h>

#include <inttypes.h>

#include "oracle.h"

#define PULLS_MAX 8

struct pulled {                 /* one read in flight */
  int64_t cookie;
  uint64_t offset, count;
  uint8_t *buf;
  struct obstacles before;
  bool ended;                   /* before it began */
};

/* Whether a server on our way may have been killed since we connected. */
static bool
servers_went (const struct pull *p)
{
  struct oracle *o = p->s->o;

  /* The front waits for a plugin that was killed, and asks the next one. */
  return (o->opt.front ? server_went (&o->front, p->front)
          : server_went (&o->plugin, p->plugin))
    || (!p->s->live && server_went (&o->export, p->export));
}

/* Not connected afterwards if the snapshot was ended, or a server is gone. */
void
pull_open (struct pull *p, struct snapshot *s)
{
  struct oracle *o = s->o;
  char *name = xprintf ("%s@%s", EXPORT, s->name);

  p->s = s;
  p->plugin = atomic_load (&o->plugin.generation);
  p->front = atomic_load (&o->front.generation);
  p->export = atomic_load (&o->export.generation);
  p->nbd = server_connect (pulled_from (o), name);
  if (!p->nbd && !atomic_load (&s->ending) && !servers_went (p))
    die ("connecting to %s: %s", name, nbd_get_error ());
  if (p->nbd && nbd_get_size (p->nbd) != (int64_t) o->opt.size)
    die ("%s has another size", name);
  if (p->nbd && nbd_is_read_only (p->nbd) != 1)
    die ("%s can be written to", name);
  free (name);
}

void
pull_close (struct pull *p)
{
  if (p->nbd)
    nbd_close (p->nbd);
  p->nbd = NULL;
}

static bool
dead (struct pull *p)
{
  return nbd_aio_is_dead (p->nbd) || nbd_aio_is_closed (p->nbd);
}

/* The front asks another plugin when one was killed, but a reply that had begun
 * cannot end in an error: if what is left of it may not be read any more, the
 * front hangs up. */
static bool
front_had_to_hang_up (struct pull *p)
{
  struct snapshot *s = p->s;
  struct oracle *o = s->o;
  struct obstacles any;

  if (!o->opt.front || !dead (p) || !server_went (&o->plugin, p->plugin))
    return false;
  any = obstacles_of (s, 0, o->opt.size);
  return atomic_load (&s->ending) || any.lost || any.maybe_released;
}

/* Something failed: ends the program unless it may. */
static void
excuse (struct pull *p, const struct pulled *f, int err)
{
  struct snapshot *s = p->s;
  struct oracle *o = s->o;
  struct obstacles now = obstacles_of (s, f->offset, f->count);
  const char *text = nbd_get_error ();

  atomic_fetch_add (&o->tally.denied, 1);
  if (err == ESHUTDOWN && atomic_load (&s->ending))
    return;
  if (err == EIO && now.lost)
    return;
  if (err == EPERM && now.maybe_released)
    return;
  if (servers_went (p) || front_had_to_hang_up (p))
    return;
  die ("%s: reading %" PRIu64 "+%" PRIu64 ": errno %d (%s)%s%s", s->name,
       f->offset, f->count, err, text, now.lost ? ", lost" : "",
       now.maybe_released ? ", released" : "");
}

static void
look_around (struct pull *p, struct pulled *f)
{
  f->ended = atomic_load (&p->s->ended);
  f->before = obstacles_of (p->s, f->offset, f->count);
}

static void
check_allowed (struct pull *p, const struct pulled *f, const char *what)
{
  if (f->ended || f->before.lost || f->before.released)
    die ("%s: %s of %" PRIu64 "+%" PRIu64 " succeeded, but %s", p->s->name,
         what, f->offset, f->count, f->ended ? "the snapshot had ended"
         : f->before.lost ? "it was lost" : "it was released");
}

static void
finish_read (struct pull *p, struct pulled *f)
{
  struct oracle *o = p->s->o;

  if (nbd_aio_command_completed (p->nbd, f->cookie) == -1)
    excuse (p, f, nbd_get_errno ());
  else {
    check_allowed (p, f, "reading");
    view_check (p->s->view, f->offset, f->count, f->buf, "NBD read");
    atomic_fetch_add (&o->tally.reads, 1);
    atomic_fetch_add (&o->tally.bytes_read, f->count);
  }
  free (f->buf);
}

/* False if it failed at once, for a good reason. */
static bool
start_read (struct pull *p, struct pulled *f, uint64_t offset, uint64_t count)
{
  *f = (struct pulled) { .offset = offset, .count = count };
  f->buf = xmalloc (count);
  look_around (p, f);
  f->cookie = nbd_aio_pread (p->nbd, f->buf, count, offset,
                             NBD_NULL_COMPLETION, 0);
  if (f->cookie != -1)
    return true;
  excuse (p, f, nbd_get_errno ());
  free (f->buf);
  return false;
}

/* The next range to ask for; false if there is none. */
static bool
next_range (struct pull *p, struct rng *r, bool in_full, unsigned *left,
            uint64_t *at, uint64_t *count)
{
  uint64_t size = p->s->o->opt.size;

  if (in_full) {
    *at += *count;
    *count = 1 + rng_below (r, 1024 * 1024);
  }
  else {
    if ((*left)-- == 0)
      return false;
    *at = rng_below (r, size);
    *count = log_uniform (r, 256 * 1024);
  }
  if (*at >= size)
    return false;
  if (*count > size - *at)
    *count = size - *at;
  return true;
}

/* A killed plugin is connected to again by the next action. */
static bool
ready (struct pull *p)
{
  struct snapshot *s = p->s;

  if (p->nbd && dead (p)) {
    if (!servers_went (p) && !front_had_to_hang_up (p)
        && !atomic_load (&s->ending))
      die ("%s: the plugin cut us off", s->name);
    pull_close (p);
  }
  if (!p->nbd)
    pull_open (p, s);
  return p->nbd != NULL;
}

/* Checks the replies that are there.  On a dead connection libnbd has made
 * one, an error, for each request in flight. */
static void
take_replies (struct pull *p, struct pulled *flights, unsigned *nr)
{
  int64_t cookie;
  unsigned k;

  while (*nr > 0 && (cookie = nbd_aio_peek_command_completed (p->nbd)) > 0) {
    for (k = 0; k < *nr && flights[k].cookie != cookie; k++)
      ;
    if (k == *nr)
      die ("%s: a reply to nothing", p->s->name);
    finish_read (p, &flights[k]);
    flights[k] = flights[--*nr];
  }
  if (*nr > 0 && dead (p))
    die ("%s: requests without a reply", p->s->name);
}

void
pull_read (struct pull *p, struct rng *r, bool in_full)
{
  struct pulled flights[PULLS_MAX];
  unsigned nr = 0, depth = 1 + rng_below (r, PULLS_MAX);
  unsigned left = log_uniform (r, 64);
  uint64_t at = 0, count = 0;
  bool more = ready (p);

  while (more || nr > 0) {
    while (more && nr < depth) {
      more = !dead (p) && next_range (p, r, in_full, &left, &at, &count);
      if (more && start_read (p, &flights[nr], at, count))
        nr++;
    }
    if (nr > 0)
      nbd_poll (p->nbd, -1);    /* an error shows in the replies */
    take_replies (p, flights, &nr);
  }
}

/* One answer about [offset, ...): what it claims to be zero must be. */
struct claim {
  struct pull *p;
  struct pulled *f;
  uint64_t at;
};

static int
check_claim (void *opaque, const char *context, uint64_t offset,
             uint32_t *entries, size_t nr_entries, int *error)
{
  struct claim *c = opaque;
  size_t i;

  (void) context;
  (void) error;
  c->at = offset;
  for (i = 0; i + 1 < nr_entries; i += 2) {
    uint64_t n = entries[i], end = c->f->offset + c->f->count;

    if (n > end - c->at)
      n = end - c->at;          /* it may answer for more than was asked */
    if ((entries[i + 1] & LIBNBD_STATE_ZERO) && n > 0) {
      view_check (c->p->s->view, c->at, n, NULL, "NBD extent");
      atomic_fetch_add (&c->p->s->o->tally.holes, 1);
    }
    c->at += n;
  }
  return 0;
}

void
pull_extents (struct pull *p, struct rng *r, bool in_full)
{
  uint64_t size = p->s->o->opt.size, at, count;
  unsigned left = log_uniform (r, 16);

  if (!ready (p) || nbd_can_meta_context (p->nbd,
                                          LIBNBD_CONTEXT_BASE_ALLOCATION) != 1)
    return;
  for (at = count = 0; !dead (p);) {
    struct pulled f = { 0 };
    struct claim c = { .p = p, .f = &f };

    if (!next_range (p, r, in_full, &left, &at, &count))
      break;
    f.offset = at;
    f.count = count;
    look_around (p, &f);
    if (nbd_block_status (p->nbd, count, at, (nbd_extent_callback) {
          .callback = check_claim, .user_data = &c }, 0) == -1)
      excuse (p, &f, nbd_get_errno ());
    else {
      if (c.at <= at || c.at > size)
        die ("%s: block status of %" PRIu64 " says nothing", p->s->name, at);
      count = c.at - at;
    }
  }
}
