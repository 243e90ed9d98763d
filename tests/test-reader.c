/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The reader while states change under it, one step at a time. */

/* The live disk and the mover of reader_copy are ours, so the filter, a copier
 * and a guest can be played inside R2: before the bytes are taken or after.
 * Each time some clusters go some way along the legal steps of map.h, drawn at
 * random, and whatever the reader then returns must be the old content or the
 * right error. */

#include <config.h>

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "map.h"
#include "reader.h"
#include "scratch.h"
#include "testing.h"

#define CLUSTERS 12
#define CLUSTER 4096
#define DISK (CLUSTERS * CLUSTER - 1000) /* the last one is short */
#define TRIALS 2000
#define FAULT EPROTO            /* of the live disk */

struct play {
  struct live live;             /* first */
  struct rng rng;
  struct bmfile map;
  int disk, scratch;
  char path[4][200];
  char old[DISK];               /* the content at the instant */
  char target[DISK];            /* of reader_copy */
  bool faulty;                  /* clusters that are kept: EIO on the disk */
};

static uint64_t
length_of (uint64_t cluster)
{
  return cluster == CLUSTERS - 1 ? DISK - cluster * CLUSTER : CLUSTER;
}

static enum map_state
state_of (const struct play *p, uint64_t cluster)
{
  return map_next_run (&p->map, cluster, cluster + 1).state;
}

/* A guest's write: W4. */
static void
overwrite (struct play *p, uint64_t cluster)
{
  char buf[CLUSTER];

  memset (buf, '!', sizeof buf);
  if (rng_below (&p->rng, 2))
    CHECK (fallocate (p->disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      cluster * CLUSTER, CLUSTER) == 0);
  else
    CHECK (full_pwrite (p->disk, buf, length_of (cluster),
                        cluster * CLUSTER) == 0);
}

static void
copy (struct play *p, uint64_t cluster)
{
  const char *old = p->old + cluster * CLUSTER;

  if (!is_zero (old, length_of (cluster)))
    CHECK (full_pwrite (p->scratch, old, length_of (cluster),
                        cluster * CLUSTER) == 0); /* W2 */
  bm_set_range (p->map.bits[MAP_COPIED_BITS], cluster, cluster + 1); /* W3 */
}

/* One step of one cluster. */
static void
step (struct play *p, uint64_t cluster)
{
  enum map_state state = state_of (p, cluster);

  switch (rng_below (&p->rng, 5)) {
  case 0:
  case 1:
    if (state == MAP_LIVE)
      copy (p, cluster);
    break;
  case 2:
    if (state == MAP_LIVE && rng_below (&p->rng, 4) == 0)
      bm_set_range (p->map.bits[MAP_LOST_BITS], cluster, cluster + 1);
    break;
  case 3:
    if (rng_below (&p->rng, 6) == 0) {
      map_release (&p->map, cluster, cluster + 1); /* L2 */
      CHECK (map_settle_release (&p->map) == 0);
      CHECK (scratch_punch (p->scratch, cluster * CLUSTER,
                            length_of (cluster)) != -1); /* L3 */
    }
    break;
  case 4:
    if (state != MAP_LIVE || !map_is_active (&p->map))
      overwrite (p, cluster);
    break;
  }
}

static void
meddle (struct play *p)
{
  uint64_t n = rng_below (&p->rng, 2) ? 0 : rng_below (&p->rng, 24), i;

  for (i = 0; i < n; i++)
    step (p, rng_below (&p->rng, CLUSTERS));
  if (rng_below (&p->rng, 400) == 0) /* E1, E2 */
    atomic_store (&p->map.live->state, BMFILE_ENDED);
}

/* Of the live disk: clusters that were kept need not be readable there. */
static int
check_fault (const struct play *p, uint64_t offset, uint64_t count)
{
  struct cluster_range c = map_clusters (&p->map, offset, count);

  if (p->faulty && map_next_live (&p->map, c.first, c.end) != c.first) {
    errno = FAULT;
    return -1;
  }
  return 0;
}

static int
play_pread (struct live *live, void *buf, uint32_t count, uint64_t offset)
{
  struct play *p = (struct play *) live;
  int r;

  meddle (p);
  r = full_pread (p->disk, buf, count, offset);
  CHECK (r == 0);
  meddle (p);
  return check_fault (p, offset, count);
}

static int64_t
play_extent (struct live *live, uint64_t offset, uint64_t count, int *is_hole)
{
  struct play *p = (struct play *) live;
  int64_t n;

  meddle (p);
  n = file_extent (p->disk, offset, count, is_hole);
  meddle (p);
  return n;
}

static int
play_move (void *opaque, int fd, uint64_t offset, uint64_t count)
{
  struct play *p = opaque;

  CHECK (fd == p->disk || fd == p->scratch);
  meddle (p);
  CHECK (full_pread (fd, p->target + offset, count, offset) == 0);
  meddle (p);
  return fd == p->disk ? check_fault (p, offset, count) : 0;
}

static const struct live_ops play_ops = {
  .pread = play_pread, .extent = play_extent,
};

static void
make_files (struct play *p)
{
  struct bmfile_params params = {
    .kind = BMFILE_MAP, .disk_size = DISK, .cluster_size = CLUSTER,
    .export_name = "vda", .name = "snap",
  };
  uint64_t c, i;

  CHECK (bmfile_create (p->path[0], &params, &p->map) == 0);
  atomic_store (&p->map.live->state, BMFILE_ACTIVE);
  p->scratch = scratch_create (p->path[1], DISK);
  p->disk = scratch_create (p->path[2], DISK);
  CHECK (p->scratch != -1 && p->disk != -1);
  memset (p->old, 0, DISK);
  for (c = 0; c < CLUSTERS; c++) {
    if (rng_below (&p->rng, 2))
      continue;
    for (i = 0; i < length_of (c); i++)
      p->old[c * CLUSTER + i] = 'a' + rng_below (&p->rng, 26);
    CHECK (full_pwrite (p->disk, p->old + c * CLUSTER, length_of (c),
                        c * CLUSTER) == 0);
  }
  p->live = (struct live) { .ops = &play_ops, .size = DISK, .fd = p->disk };
  p->faulty = rng_below (&p->rng, 2);
}

static void
remove_files (struct play *p)
{
  int i;

  bmfile_close (&p->map);
  close (p->scratch);
  close (p->disk);
  for (i = 0; i < 3; i++)
    CHECK (unlink (p->path[i]) == 0);
}

static bool
has_state (const struct play *p, struct cluster_range c, enum map_state state)
{
  for (; c.first < c.end; c.first++)
    if (state_of (p, c.first) == state)
      return true;
  return false;
}

/* An error must have its reason, and one that had its reason from the start
 * must come. */
static void
check_error (const struct play *p, uint64_t offset, uint64_t count, int r,
             bool was_refused)
{
  struct cluster_range c = map_clusters (&p->map, offset, count);

  if (r == 0) {
    CHECK (!was_refused && map_is_active (&p->map));
    return;
  }
  if (errno == ESHUTDOWN)
    CHECK (!map_is_active (&p->map));
  else if (errno == EPERM)
    CHECK (has_state (p, c, MAP_RELEASED));
  else if (errno == ENODATA)
    CHECK (has_state (p, c, MAP_LOST) || has_state (p, c, MAP_RELEASED));
  else
    CHECK (!"an error of the reader");
}

static void
check_read (const struct reader *r, struct play *p, uint64_t offset,
            uint64_t count, bool with_copy)
{
  struct cluster_range c = map_clusters (&p->map, offset, count);
  bool refused = has_state (p, c, MAP_RELEASED) || has_state (p, c, MAP_LOST);
  char buf[DISK];
  const char *got = with_copy ? p->target + offset : buf;
  int result;

  result = with_copy ? reader_copy (r, offset, count, play_move, p)
    : reader_pread (r, buf, count, offset);
  check_error (p, offset, count, result, refused);
  CHECK (result == -1 || memcmp (got, p->old + offset, count) == 0);
}

static void
check_extent (struct reader *r, struct play *p, uint64_t offset,
              uint64_t count)
{
  enum reader_extent type;
  struct cluster_range c;
  int64_t n;

  while (count > 0) {
    n = reader_extent (r, offset, count, &type);
    if (n == -1) {
      CHECK (errno == ESHUTDOWN && !map_is_active (&p->map));
      return;
    }
    CHECK (n > 0 && (uint64_t) n <= count);
    c = map_clusters (&p->map, offset, n);
    if (type == READER_HOLE)
      CHECK (is_zero (p->old + offset, n));
    for (; c.first < c.end; c.first++) {
      if (type == READER_FORBIDDEN)
        CHECK (state_of (p, c.first) == MAP_RELEASED);
      if (type == READER_LOST)
        CHECK (state_of (p, c.first) == MAP_LOST
               || state_of (p, c.first) == MAP_RELEASED);
    }
    offset += n;
    count -= n;
  }
}

static void
trial (struct play *p)
{
  struct reader r = { .map = &p->map, .live = &p->live };
  int i;

  make_files (p);
  r.scratch = p->scratch;
  for (i = 0; i < 12; i++) {
    uint64_t offset = rng_below (&p->rng, DISK);
    uint64_t count = 1 + rng_below (&p->rng, DISK - offset);

    if (i % 3 == 0)
      check_extent (&r, p, offset, count);
    else
      check_read (&r, p, offset, count, i % 3 == 1);
  }
  remove_files (p);
}

static void
check_arguments (struct play *p)
{
  struct reader r = { .map = &p->map, .live = &p->live };
  enum reader_extent type;
  char buf[10];

  make_files (p);
  r.scratch = p->scratch;
  CHECK (reader_pread (&r, buf, 0, DISK) == 0);
  CHECK (reader_pread (&r, buf, 1, DISK) == -1 && errno == EINVAL);
  CHECK (reader_pread (&r, buf, 10, UINT64_MAX - 4) == -1 && errno == EINVAL);
  CHECK (reader_extent (&r, DISK - 1, 2, &type) == -1 && errno == EINVAL);
  CHECK (reader_extent (&r, 0, 0, &type) == -1 && errno == EINVAL);
  p->live.fd = -1;
  CHECK (reader_copy (&r, 0, 1, play_move, p) == -1 && errno == ENOTSUP);
  remove_files (p);
}

int
main (void)
{
  static struct play p;
  char dir[] = "/tmp/nbdfleece-reader.XXXXXX";
  int i;

  p.rng = rng_start ();
  CHECK (mkdtemp (dir));
  for (i = 0; i < 3; i++)
    snprintf (p.path[i], sizeof p.path[i], "%s/%d", dir, i);
  check_arguments (&p);
  for (i = 0; i < TRIALS; i++)
    trial (&p);
  CHECK (rmdir (dir) == 0);
  return 0;
}
