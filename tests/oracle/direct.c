/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Reading snapshots the way the copier does: map, scratch and live disk. */

#include <config.h>

#include <inttypes.h>

#include "oracle.h"
#include "scratch.h"

struct obstacles
obstacles_of (struct snapshot *s, uint64_t offset, uint64_t count)
{
  struct cluster_range c = map_clusters (&s->map, offset, count);
  struct obstacles found = { 0 };

  for (; c.first < c.end; c.first++) {
    found.lost |= bm_test (s->map.bits[MAP_LOST_BITS], c.first);
    found.maybe_released |= atomic_load (&s->released[c.first]) >= 1;
    found.released |= atomic_load (&s->released[c.first]) == 2;
  }
  if (found.lost && !s->o->opt.scratch_limit && !s->o->opt.cow_timeout)
    die ("%s: cluster lost in %" PRIu64 "+%" PRIu64, s->name, offset, count);
  return found;
}

/* One call of the reader is over.  True if it succeeded, and could. */
static bool
judge_call (struct snapshot *s, const char *what, int result, bool ended,
            struct obstacles before, uint64_t offset, uint64_t count)
{
  int err = errno;
  struct obstacles now = obstacles_of (s, offset, count);

  if (result == 0) {
    if (ended || before.lost || before.released)
      die ("%s: %s of %" PRIu64 "+%" PRIu64 " succeeded, but it was %s",
           s->name, what, offset, count,
           ended ? "ended" : before.lost ? "lost" : "released");
    atomic_fetch_add (&s->o->tally.reads, 1);
    atomic_fetch_add (&s->o->tally.bytes_read, count);
    return true;
  }
  atomic_fetch_add (&s->o->tally.denied, 1);
  if ((err == ESHUTDOWN && atomic_load (&s->ending))
      || (err == ENODATA && now.lost) || (err == EPERM && now.maybe_released))
    return false;
  die ("%s: %s of %" PRIu64 "+%" PRIu64 ": %s", s->name, what, offset, count,
       strerror (err));
}

static void
pick (struct snapshot *s, struct rng *r, uint64_t *offset, uint64_t *count)
{
  uint64_t size = s->o->opt.size;

  *offset = rng_below (r, size);
  *count = log_uniform (r, 1024 * 1024);
  if (*count > size - *offset)
    *count = size - *offset;
}

static void
read_one (struct snapshot *s, uint64_t offset, uint64_t count)
{
  bool ended = atomic_load (&s->ended);
  struct obstacles before = obstacles_of (s, offset, count);
  uint8_t *buf = xmalloc (count);

  if (judge_call (s, "direct read", reader_pread (&s->reader, buf, count,
                                                  offset),
                  ended, before, offset, count))
    view_check (s->view, offset, count, buf, "direct read");
  free (buf);
}

void
direct_read (struct snapshot *s, struct rng *r, bool in_full)
{
  uint64_t size = s->o->opt.size, offset, count;
  unsigned n = log_uniform (r, 32);

  if (in_full)
    for (offset = 0; offset < size; offset += count) {
      count = 1 + rng_below (r, 1024 * 1024);
      if (count > size - offset)
        count = size - offset;
      read_one (s, offset, count);
    }
  else
    while (n-- > 0) {
      pick (s, r, &offset, &count);
      read_one (s, offset, count);
    }
}

struct destination { uint8_t *buf; uint64_t base; };

static int
move_to_memory (void *opaque, int fd, uint64_t offset, uint64_t count)
{
  struct destination *d = opaque;

  return full_pread (fd, d->buf + (offset - d->base), count, offset);
}

void
direct_copy (struct snapshot *s, struct rng *r)
{
  uint64_t offset, count;
  struct destination d;
  struct obstacles before;
  bool ended = atomic_load (&s->ended);

  pick (s, r, &offset, &count);
  before = obstacles_of (s, offset, count);
  d = (struct destination) { xmalloc (count), offset };
  if (judge_call (s, "direct copy",
                  reader_copy (&s->reader, offset, count, move_to_memory, &d),
                  ended, before, offset, count))
    view_check (s->view, offset, count, d.buf, "direct copy");
  free (d.buf);
}

/* Never an error for lost or released clusters: a type of its own. */
static uint64_t
one_extent (struct snapshot *s, uint64_t offset, uint64_t count)
{
  bool ended = atomic_load (&s->ended);
  enum reader_extent type;
  int64_t n = reader_extent (&s->reader, offset, count, &type);
  struct obstacles now;

  if (n == -1) {
    if (errno != ESHUTDOWN || !atomic_load (&s->ending))
      die ("%s: extent at %" PRIu64 ": %m", s->name, offset);
    return 0;
  }
  if (n < 1 || (uint64_t) n > count || ended)
    die ("%s: extent at %" PRIu64 ": %" PRId64 "%s", s->name, offset, n,
         ended ? ", ended" : "");
  now = obstacles_of (s, offset, n);
  if (type == READER_HOLE) {
    view_check (s->view, offset, n, NULL, "direct extent");
    atomic_fetch_add (&s->o->tally.holes, 1);
  }
  if ((type == READER_LOST && !now.lost)
      || (type == READER_FORBIDDEN && !now.maybe_released))
    die ("%s: extent at %" PRIu64 " has type %d", s->name, offset, (int) type);
  return n;
}

void
direct_extents (struct snapshot *s, struct rng *r, bool in_full)
{
  uint64_t offset, count, end, n;

  pick (s, r, &offset, &count);
  if (in_full) {
    offset = 0;
    count = s->o->opt.size;
  }
  for (end = offset + count; offset < end; offset += n) {
    n = one_extent (s, offset, end - offset);
    if (n == 0)
      break;
  }
}

/* What a copier does with a cluster that its target has for good (map.h). */
void
direct_release (struct snapshot *s, struct rng *r)
{
  uint64_t first = rng_below (r, s->map.nr_clusters), end, i;
  uint64_t n = log_uniform (r, s->map.nr_clusters);

  end = n < s->map.nr_clusters - first ? first + n : s->map.nr_clusters;
  for (i = first; i < end; i++)
    atomic_store (&s->released[i], 1); /* L1 */
  map_release (&s->map, first, end); /* L2 */
  if (map_settle_release (&s->map) == -1)
    die ("%s: %m", s->map_path);
  if (scratch_punch (s->scratch, map_offset (&s->map, first),
                     map_length (&s->map, first, end)) == -1) /* L3 */
    die ("punching %s: %m", s->name);
  for (i = first; i < end; i++)
    atomic_store (&s->released[i], 2);
}
