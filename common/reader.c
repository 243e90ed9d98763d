/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The lock-free reader of a snapshot. */

/* All three calls are the same walk: take a run of clusters in one state
 * (R1), do something with it (R2), look at the states again (R3), and do the
 * sub-runs that changed once more in their new state.  A state is left once
 * and for good (map.h), LIVE -> COPIED -> RELEASED being the longest way, so
 * the walk goes at most three deep and ends without waiting for anybody.
 *
 * Why R3 is enough.  Say R2 read from the live disk a byte that a guest's
 * write W4 had put there.  W3 was before W4 in the filter (program order, and
 * a system call or a socket message between them), W4 was before R2 (it saw
 * it), R2 is before R3 here: system calls order them for the kernel, and the
 * fence below keeps the compiler and the CPU from moving the loads of R3 up.
 * So R3 sees copied or lost, and what R2 read is thrown away.  In the same
 * way a punch L3 that R2 saw in the scratch is behind an L2 that R3 sees, and
 * new data that came after E2 is behind an E1 that R3 sees; E1 covers every
 * cluster, so it is looked at once, after the rest.
 *
 * The content of a copied cluster does not change until it is released, so
 * its scratch range needs no other check.
 */

#include <config.h>

#include <errno.h>

#include "broken.h"
#include "reader.h"
#include "scratch.h"

/* Partner: the seq_cst fetch_or in bm_set_range at W3 and L2, and the seq_cst
 * store of ENDED at E1.  Model: cow R3. */
static void
fence_R2_R3 (void)
{
  atomic_thread_fence (memory_order_seq_cst);
}

static int
check_range (const struct reader *r, uint64_t offset, uint64_t count)
{
  if (offset > r->map->disk_size || count > r->map->disk_size - offset) {
    errno = EINVAL;
    return -1;
  }
  return 0;
}

/* The last look of every call.  That the snapshot has ended outranks what the
 * walk found, since its files may be going away under it. */
static int
settle (const struct reader *r, int result)
{
  if (map_is_active (r->map))
    return result;
  errno = ESHUTDOWN;
  return -1;
}

/* What the walk does with a run of readable clusters: act on the part of
 * [offset, offset + count) from fd (the scratch) or, if fd is -1, from the
 * live disk.  Returns 0, or -1 and errno. */
struct walk {
  const struct reader *r;
  int (*act) (const struct walk *w, int fd, uint64_t offset, uint64_t count);
  char *buf;                    /* pread: where byte `base' goes */
  uint64_t base;
  reader_move move;             /* copy */
  void *opaque;
};

static int
refuse (enum map_state state)
{
  errno = state == MAP_RELEASED ? EPERM : ENODATA;
  return -1;
}

/* The bytes of [offset, end_offset) that lie in clusters [first, end). */
static void
cut (const struct reader *r, const struct map_run *run,
     uint64_t *offset, uint64_t *end_offset)
{
  uint64_t a = map_offset (r->map, run->first);
  uint64_t b = map_offset (r->map, run->end);

  if (*offset < a)
    *offset = a;
  if (*end_offset > b)
    *end_offset = b;
}

/* R3 after an R2 that failed: true if part of the run has changed its state
 * since, which may have been the cause. */
static bool
changed (const struct reader *r, const struct map_run *run)
{
  struct map_run now = map_next_run (r->map, run->first, run->end);

  return now.state != run->state || now.end != run->end;
}

static int
walk_range (const struct walk *w, uint64_t offset, uint64_t end_offset)
{
  const struct reader *r = w->r;
  struct cluster_range c = map_clusters (r->map, offset, end_offset - offset);
  struct map_run run, now;
  uint64_t at;
  int result;

  for (; c.first < c.end; c.first = run.end) {
    uint64_t a = offset, b = end_offset;

    run = map_next_run (r->map, c.first, c.end); /* R1 */
    if (run.state == MAP_RELEASED || run.state == MAP_LOST)
      return refuse (run.state);
    cut (r, &run, &a, &b);
    result = w->act (w, run.state == MAP_COPIED ? r->scratch : -1,
                     a, b - a); /* R2 */
    fence_R2_R3 ();
    if (BROKEN (NO_RECHECK))
      continue;
    if (result == -1) {
      if (!changed (r, &run))
        return -1;
      run.end = run.first;      /* once more, with what is there now */
      continue;
    }
    for (at = run.first; at < run.end; at = now.end) {
      now = map_next_run (r->map, at, run.end); /* R3 */
      if (now.state != run.state) {
        a = offset, b = end_offset;
        cut (r, &now, &a, &b);
        if (walk_range (w, a, b) == -1)
          return -1;
      }
    }
  }
  return 0;
}

static int
pread_act (const struct walk *w, int fd, uint64_t offset, uint64_t count)
{
  char *to = w->buf + (offset - w->base);

  if (fd == -1)
    return w->r->live->ops->pread (w->r->live, to, count, offset);
  return full_pread (fd, to, count, offset);
}

int
reader_pread (const struct reader *r, void *buf,
              uint32_t count, uint64_t offset)
{
  struct walk w = { .r = r, .act = pread_act, .buf = buf, .base = offset };

  if (check_range (r, offset, count) == -1)
    return -1;
  return settle (r, walk_range (&w, offset, offset + count));
}

static int
move_act (const struct walk *w, int fd, uint64_t offset, uint64_t count)
{
  return w->move (w->opaque, fd == -1 ? w->r->live->fd : fd, offset, count);
}

int
reader_copy (const struct reader *r, uint64_t offset, uint64_t count,
             reader_move move, void *opaque)
{
  struct walk w = { .r = r, .act = move_act, .move = move, .opaque = opaque };

  if (r->live->fd == -1) {
    errno = ENOTSUP;
    return -1;
  }
  if (check_range (r, offset, count) == -1)
    return -1;
  return settle (r, walk_range (&w, offset, offset + count));
}

/* Here a changed state does not mean to do the sub-run again but to give a
 * shorter answer: the extent ends where the first change begins. */
int64_t
reader_extent (struct reader *r, uint64_t offset, uint64_t count,
               enum reader_extent *type)
{
  struct cluster_range c;
  struct map_run run, now;
  uint64_t end_offset = offset + count;
  int64_t n;
  int is_hole = 0;

  if (check_range (r, offset, count) == -1)
    return -1;
  if (count == 0) {
    errno = EINVAL;
    return -1;
  }
  c = map_clusters (r->map, offset, count);
  for (;;) {
    uint64_t a = offset, b = end_offset;

    run = map_next_run (r->map, c.first, c.end); /* R1 */
    cut (r, &run, &a, &b);
    n = b - a;
    if (run.state == MAP_COPIED)
      n = file_extent_known (r->scratch, &r->scratch_data, a, n, &is_hole);
    else if (run.state == MAP_LIVE)
      n = r->live->ops->extent (r->live, a, n, &is_hole); /* R2 */
    fence_R2_R3 ();
    if (n == -1)
      return settle (r, -1);
    now = map_next_run (r->map, c.first, run.end); /* R3 */
    if (now.state == run.state || BROKEN (NO_RECHECK)) {
      b = a + n;
      cut (r, &now, &a, &b);
      n = b - a;
      break;
    }
  }
  if (settle (r, 0) == -1)
    return -1;
  *type = run.state == MAP_RELEASED ? READER_FORBIDDEN
    : run.state == MAP_LOST ? READER_LOST
    : is_hole ? READER_HOLE : READER_DATA;
  return n;
}
