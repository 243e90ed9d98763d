/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Writers, readers and a copier on one map at full speed. */

/* What tests/model shows for all interleavings of a few steps is tried here
 * with real pages, real files and whatever order this machine's CPUs make of
 * it.  Writers go by W1 to W5 as the filter does, one thread releases and
 * punches, readers read, ask for extents and have copied whatever they like;
 * all that a reader accepts must be the old content.  A round goes through the
 * disk once; at its end nothing that was released may be left in the
 * scratch. */

#include <config.h>

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

#include "map.h"
#include "reader.h"
#include "scratch.h"
#include "testing.h"

#define CLUSTERS 192            /* three words of a bitmap */
#define CLUSTER 4096
#define DISK (CLUSTERS * CLUSTER - 512)
#define ROUNDS 10
#define WRITERS 2
#define READERS 2
#define WRITES 4                /* to a cluster, about */

struct round {
  uint64_t seed;
  struct bmfile map;
  int disk, scratch;
  struct live *live;
  char *old;                    /* DISK bytes */
  pthread_mutex_t locks[CLUSTERS]; /* in-flight ranges of one cluster each */
  _Atomic unsigned written;     /* clusters, by all writers */
  _Atomic uint64_t accepted;    /* bytes that readers accepted */
};

struct thread {
  pthread_t id;
  struct round *round;
  struct rng rng;
};

static char dir[] = "/tmp/nbdfleece-reader.XXXXXX";
static char map_path[80], scratch_path[80], disk_path[80];

static uint64_t
length_of (uint64_t cluster)
{
  return cluster == CLUSTERS - 1 ? DISK - cluster * CLUSTER : CLUSTER;
}

static void
maybe_yield (struct rng *rng)
{
  if (rng_below (rng, 8) == 0)
    sched_yield ();
}

/* W1 to W3, and W5. */
static void
keep (struct thread *t, uint64_t c)
{
  struct round *r = t->round;
  char buf[CLUSTER];

  pthread_mutex_lock (&r->locks[c]);
  if (map_next_live (&r->map, c, c + 1) == c) { /* W1 */
    maybe_yield (&t->rng);
    CHECK (full_pread (r->disk, buf, length_of (c), c * CLUSTER) == 0);
    maybe_yield (&t->rng);
    if (!is_zero (buf, length_of (c)))
      CHECK (full_pwrite (r->scratch, buf, length_of (c),
                          c * CLUSTER) == 0); /* W2 */
    maybe_yield (&t->rng);
    bm_set_range (r->map.bits[MAP_COPIED_BITS], c, c + 1); /* W3 */
    atomic_thread_fence (memory_order_seq_cst);
    if (bm_test (r->map.bits[MAP_RELEASED_BITS], c)) /* W5 */
      CHECK (scratch_punch (r->scratch, c * CLUSTER, length_of (c)) != -1);
  }
  pthread_mutex_unlock (&r->locks[c]);
}

/* The cluster that the round has come to, or a little further: so that all
 * are at the same place at the same time. */
static uint64_t
near_front (struct thread *t)
{
  uint64_t c = atomic_load (&t->round->written) / WRITES;

  return (c + rng_below (&t->rng, 3)) % CLUSTERS;
}

static void *
writer (void *opaque)
{
  struct thread *t = opaque;
  struct round *r = t->round;
  char buf[CLUSTER];

  memset (buf, '!', sizeof buf);
  while (atomic_fetch_add (&r->written, 1) < WRITES * CLUSTERS) {
    uint64_t c = near_front (t);
    uint64_t at = rng_below (&t->rng, length_of (c));
    uint64_t n = 1 + rng_below (&t->rng, length_of (c) - at);

    if (map_next_live (&r->map, c, c + 1) == c)
      keep (t, c);
    atomic_thread_fence (memory_order_seq_cst);
    maybe_yield (&t->rng);
    if (rng_below (&t->rng, 3) == 0) /* W4 */
      CHECK (fallocate (r->disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        c * CLUSTER + at, n) == 0);
    else
      CHECK (full_pwrite (r->disk, buf, n, c * CLUSTER + at) == 0);
  }
  return NULL;
}

static void *
copier (void *opaque)
{
  struct thread *t = opaque;
  struct round *r = t->round;
  uint64_t c, end;

  for (c = rng_below (&t->rng, 9); c < CLUSTERS; c = end + 5) {
    end = c + 1 + rng_below (&t->rng, 3);
    if (end > CLUSTERS)
      end = CLUSTERS;
    while (atomic_load (&r->written) < WRITES * CLUSTERS
           && near_front (t) < c)
      sched_yield ();
    map_release (&r->map, c, end); /* L2 */
    CHECK (map_settle_release (&r->map) == 0);
    CHECK (scratch_punch (r->scratch, c * CLUSTER,
                          map_length (&r->map, c, end)) != -1); /* L3 */
  }
  return NULL;
}

static int
move (void *opaque, int fd, uint64_t offset, uint64_t count)
{
  char *target = opaque;

  return full_pread (fd, target + offset, count, offset);
}

static void
accept_bytes (struct round *r, int result, const char *got, uint64_t offset,
              uint64_t count)
{
  if (result == -1) {
    CHECK (errno == EPERM);
    return;
  }
  CHECK (memcmp (got, r->old + offset, count) == 0);
  atomic_fetch_add (&r->accepted, count);
}

static void
read_once (struct thread *t, struct reader *reader, char *buf)
{
  struct round *r = t->round;
  uint64_t offset = near_front (t) * CLUSTER + rng_below (&t->rng, 512);
  uint64_t count = 1 + rng_below (&t->rng, DISK - offset);
  enum reader_extent type;
  int64_t n;

  if (count > 5 * CLUSTER)
    count = 5 * CLUSTER;
  switch (rng_below (&t->rng, 3)) {
  case 0:
    accept_bytes (r, reader_pread (reader, buf, count, offset), buf, offset,
                  count);
    break;
  case 1:
    accept_bytes (r, reader_copy (reader, offset, count, move, buf),
                  buf + offset, offset, count);
    break;
  case 2:
    n = reader_extent (reader, offset, count, &type);
    CHECK (n > 0 && (uint64_t) n <= count && type != READER_LOST);
    if (type == READER_HOLE)
      CHECK (is_zero (r->old + offset, n));
    break;
  }
}

static void *
reader (void *opaque)
{
  struct thread *t = opaque;
  struct round *r = t->round;
  struct reader reader = { .map = &r->map, .live = r->live,
                           .scratch = r->scratch };
  char *buf = malloc (DISK);

  CHECK (buf);
  while (atomic_load (&r->written) < WRITES * CLUSTERS)
    read_once (t, &reader, buf);
  read_once (t, &reader, buf);
  free (buf);
  return NULL;
}

static void
make_round (struct round *r, struct rng *rng)
{
  struct bmfile_params params = {
    .kind = BMFILE_MAP, .disk_size = DISK, .cluster_size = CLUSTER,
    .export_name = "vda", .name = "snap",
  };
  uint64_t c, i;

  r->seed = rng_next (rng);
  atomic_store (&r->written, 0);
  CHECK (bmfile_create (map_path, &params, &r->map) == 0);
  atomic_store (&r->map.live->state, BMFILE_ACTIVE);
  r->scratch = scratch_create (scratch_path, DISK);
  r->disk = scratch_create (disk_path, DISK);
  CHECK (r->scratch != -1 && r->disk != -1);
  memset (r->old, 0, DISK);
  for (c = 0; c < CLUSTERS; c++) {
    if (rng_below (rng, 4) == 0)
      continue;
    for (i = 0; i + 8 <= length_of (c); i += 8) {
      uint64_t x = rng_next (rng);

      memcpy (r->old + c * CLUSTER + i, &x, 8);
    }
    CHECK (full_pwrite (r->disk, r->old + c * CLUSTER, length_of (c),
                        c * CLUSTER) == 0);
  }
  r->live = live_file_open (disk_path);
  CHECK (r->live);
}

/* Nothing of a released cluster is left. */
static void
check_punched (const struct round *r)
{
  uint64_t c;
  int is_hole;

  for (c = 0; c < CLUSTERS; c++)
    if (bm_test (r->map.bits[MAP_RELEASED_BITS], c))
      CHECK (file_extent (r->scratch, c * CLUSTER, length_of (c), &is_hole)
             == (int64_t) length_of (c) && is_hole);
}

static void
end_round (struct round *r)
{
  check_punched (r);
  r->live->ops->close (r->live);
  bmfile_close (&r->map);
  close (r->scratch);
  close (r->disk);
  CHECK (unlink (map_path) == 0);
  CHECK (unlink (scratch_path) == 0);
  CHECK (unlink (disk_path) == 0);
}

static void
run_threads (struct round *r)
{
  struct thread threads[WRITERS + READERS + 1];
  int i;

  for (i = 0; i < WRITERS + READERS + 1; i++) {
    threads[i].round = r;
    threads[i].rng.state = r->seed + i * UINT64_C (0x5851f42d4c957f2d);
    CHECK (pthread_create (&threads[i].id, NULL,
                           i < WRITERS ? writer
                           : i < WRITERS + READERS ? reader : copier,
                           &threads[i]) == 0);
  }
  for (i = 0; i < WRITERS + READERS + 1; i++)
    CHECK (pthread_join (threads[i].id, NULL) == 0);
}

int
main (void)
{
  static struct round r;
  struct rng rng = rng_start ();
  int i;

  CHECK (mkdtemp (dir));
  snprintf (map_path, sizeof map_path, "%s/map", dir);
  snprintf (scratch_path, sizeof scratch_path, "%s/scratch", dir);
  snprintf (disk_path, sizeof disk_path, "%s/disk", dir);
  for (i = 0; i < CLUSTERS; i++)
    pthread_mutex_init (&r.locks[i], NULL);
  r.old = malloc (DISK);
  CHECK (r.old);
  for (i = 0; i < ROUNDS; i++) {
    make_round (&r, &rng);
    run_threads (&r);
    end_round (&r);
  }
  fprintf (stderr, "%d rounds, readers accepted %llu bytes\n", ROUNDS,
           (unsigned long long) r.accepted);
  CHECK (r.accepted > DISK);
  free (r.old);
  CHECK (rmdir (dir) == 0);
  return 0;
}
