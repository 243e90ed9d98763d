/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Bitmap files and cluster states against a naive model. */

#include <config.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"
#include "map.h"
#include "testing.h"

/* The table in docs/architecture says so, and files of version 1 are so. */
#define AT(part, base, member, offset)                                  \
  _Static_assert ((base) + offsetof (struct part, member) == (offset),  \
                  #member " is not where version 1 has it")
AT (bmfile_fixed, 0, version, 8);
AT (bmfile_fixed, 0, kind, 16);
AT (bmfile_fixed, 0, disk_size, 24);
AT (bmfile_fixed, 0, file_size, 48);
AT (bmfile_fixed, 0, uuid, 56);
AT (bmfile_fixed, 0, parent, 216);
AT (bmfile_fixed, 0, live, 288);
AT (bmfile_fixed, 0, scratch, 1312);
AT (bmfile_fixed, 0, checksum, 2336);
AT (bmfile_live, BMFILE_LIVE_OFFSET, clean, 3076);
AT (bmfile_live, BMFILE_LIVE_OFFSET, boot_id, 3080);
AT (bmfile_live, BMFILE_LIVE_OFFSET, identity, 3096);
AT (bmfile_live, BMFILE_LIVE_OFFSET, scratch_dev, 3136);
AT (bmfile_live, BMFILE_LIVE_OFFSET, instant_ns, 3152);
AT (bmfile_live, BMFILE_LIVE_OFFSET, copied_clusters, 3160);
AT (bmfile_live, BMFILE_LIVE_OFFSET, reason, 3192);
AT (bmfile_live, BMFILE_LIVE_OFFSET, prev, 3448);

static char path[256];

static struct bmfile_params
params (uint64_t disk_size, uint64_t cluster_size)
{
  return (struct bmfile_params) {
    .kind = BMFILE_MAP, .disk_size = disk_size, .cluster_size = cluster_size,
    .export_name = "vda", .name = "snap", .live = "file:/disk",
    .scratch = "/scratch",
  };
}

/* Random runs of bits, then every question about every range of them. */
static void
check_states (struct rng *rng)
{
  uint64_t clusters = 1 + rng_below (rng, 300), i;
  struct bmfile_params p = params (clusters * 4096 - rng_below (rng, 4096),
                                   4096);
  enum map_state model[300] = { 0 };
  struct bmfile map;

  CHECK (bmfile_create (path, &p, &map) == 0);
  CHECK (map.nr_clusters == clusters);
  for (i = 0; i < 12; i++) {
    uint64_t a = rng_below (rng, clusters + 1), b = rng_below (rng, clusters + 1);
    enum map_bitmap bit = rng_below (rng, 3);
    uint64_t c;

    for (c = a; c < b; c++) {
      /* copied and lost exclude each other, released comes on top. */
      if (bit == MAP_RELEASED_BITS)
        model[c] = MAP_RELEASED;
      else if (model[c] == MAP_LIVE)
        model[c] = bit == MAP_COPIED_BITS ? MAP_COPIED : MAP_LOST;
      else
        continue;
      bm_set_range (map.bits[bit], c, c + 1);
    }
  }
  for (i = 0; i < 200; i++) {
    uint64_t a = rng_below (rng, clusters);
    uint64_t b = a + 1 + rng_below (rng, clusters - a), c;
    struct map_run run = map_next_run (&map, a, b);

    for (c = a; c < b && model[c] == model[a]; c++)
      ;
    CHECK (run.first == a && run.end == c && run.state == model[a]);
    for (c = a; c < b && model[c] != MAP_LIVE; c++)
      ;
    CHECK (map_next_live (&map, a, b) == c);
  }
  bmfile_close (&map);
  CHECK (unlink (path) == 0);
}

static void
check_ranges (void)
{
  struct bmfile_params p = params (10 * 65536 + 1, 65536);
  struct cluster_range r;
  struct bmfile map;

  CHECK (bmfile_create (path, &p, &map) == 0);
  CHECK (map.nr_clusters == 11);
  r = map_clusters (&map, 0, 1);
  CHECK (r.first == 0 && r.end == 1);
  r = map_clusters (&map, 65535, 2);
  CHECK (r.first == 0 && r.end == 2);
  r = map_clusters (&map, 65536, 65536);
  CHECK (r.first == 1 && r.end == 2);
  r = map_clusters (&map, 655360, 1);
  CHECK (r.first == 10 && r.end == 11);
  r = map_clusters (&map, 655361, 1);
  CHECK (r.first >= r.end);
  r = map_clusters (&map, 5, 0);
  CHECK (r.first >= r.end);
  r = map_clusters (&map, 1, UINT64_MAX);
  CHECK (r.first == 0 && r.end == 11);
  CHECK (map_length (&map, 9, 11) == 65537);
  CHECK (map_length (&map, 0, 1) == 65536);
  map_scratch_freed (&map, 5);
  CHECK (map.live->scratch_bytes == 0);
  bmfile_close (&map);
  CHECK (unlink (path) == 0);
}

static void
check_params (void)
{
  static const struct { uint64_t disk, cluster; const char *name; } bad[] = {
    { 0, 4096, "a" }, { BMFILE_DISK_MAX + 1, 4096, "a" }, { 1, 2048, "a" },
    { 1, 4 << 20, "a" }, { 1, 4097, "a" }, { 1, 4096, "../a" },
    { 1, 4096, "" }, { 1, 4096, "a b" },
  };
  char long_path[BMFILE_LOCATION_MAX + 2];
  struct bmfile_params p;
  struct bmfile map;
  struct stat st;
  size_t i;

  for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    p = params (bad[i].disk, bad[i].cluster);
    p.name = bad[i].name;
    CHECK (bmfile_create (path, &p, &map) == -1 && errno == EINVAL);
    CHECK (access (path, F_OK) == -1);
  }
  memset (long_path, 'x', sizeof long_path);
  long_path[sizeof long_path - 1] = '\0';
  p = params (1, 4096);
  p.scratch = long_path;
  CHECK (bmfile_create (path, &p, &map) == -1 && errno == ENAMETOOLONG);
  p = params (1, 4096);
  umask (0);
  CHECK (bmfile_create (path, &p, &map) == 0);
  CHECK (stat (path, &st) == 0 && (st.st_mode & 0777) == 0600);
  /* Nothing in it is a hole: a store must never find the disk full. */
  CHECK (st.st_blocks * 512 >= st.st_size);
  bmfile_close (&map);
  CHECK (bmfile_create (path, &p, &map) == -1 && errno == EEXIST);
  CHECK (unlink (path) == 0);
  CHECK (bmfile_auto_cluster_size (1) == 4096);
  CHECK (bmfile_auto_cluster_size (UINT64_C (2) << 40) == 4096);
  CHECK (bmfile_auto_cluster_size ((UINT64_C (2) << 40) + 1) == 8192);
  CHECK (bmfile_auto_cluster_size (UINT64_C (16) << 40) == 32768);
  CHECK (bmfile_auto_cluster_size (UINT64_C (1) << 59) == 2 << 20);
}

/* Whatever is changed in the fixed header, the file is refused and nothing
 * outside it is touched. */
static void
check_damage (struct rng *rng)
{
  struct bmfile_params p = params (1000000, 4096);
  size_t size = BMFILE_HEADER_SIZE + 3 * 4096, i;
  unsigned char good[BMFILE_HEADER_SIZE + 3 * 4096], bad[sizeof good];
  struct bmfile map;
  const char *why;
  int fd;

  CHECK (bmfile_create (path, &p, &map) == 0);
  bmfile_close (&map);
  fd = open (path, O_RDWR);
  CHECK (fd != -1 && pread (fd, good, size, 0) == (ssize_t) size);
  for (i = 0; i < 3000; i++) {
    size_t at = rng_below (rng, offsetof (struct bmfile_fixed, checksum) + 4);
    size_t length = rng_below (rng, 4) ? size : rng_below (rng, size);

    memcpy (bad, good, size);
    bad[at] ^= 1 << rng_below (rng, 8);
    CHECK (pwrite (fd, bad, size, 0) == (ssize_t) size);
    CHECK (ftruncate (fd, length) == 0);
    CHECK (bmfile_open_fd (fd, true, BMFILE_MAP, &map, &why) == -1);
    CHECK (errno == (at >= 8 && at < 12 && length >= BMFILE_HEADER_SIZE
                     ? ENOTSUP : EINVAL));
    CHECK (why && !map.fixed);
  }
  CHECK (pwrite (fd, good, size, 0) == (ssize_t) size);
  CHECK (ftruncate (fd, size + 1) == 0);
  CHECK (bmfile_open_fd (fd, true, BMFILE_MAP, &map, &why) == -1);
  CHECK (ftruncate (fd, size) == 0);
  CHECK (bmfile_open_fd (fd, true, BMFILE_DIRTY, &map, &why) == -1);
  CHECK (bmfile_open_fd (fd, true, BMFILE_MAP, &map, &why) == 0 && !why);
  bmfile_close (&map);
  /* Bits past the last cluster. */
  CHECK (pwrite (fd, "\xff", 1, BMFILE_HEADER_SIZE + 31) == 1);
  CHECK (bmfile_open_fd (fd, true, BMFILE_MAP, &map, &why) == -1);
  close (fd);
  CHECK (symlink (path, "link") == 0 || errno == EEXIST);
  CHECK (bmfile_open ("link", false, BMFILE_MAP, &map, &why) == -1);
  CHECK (unlink ("link") == 0 && unlink (path) == 0);
}

/* A file is claimed by the next process of this run of the host, or after a
 * clean stop by one of any run, unless the disk has changed. */
static void
check_claim (void)
{
  char disk[300], live[320];
  struct bmfile_params p = params (4096, 4096);
  struct bmfile map;
  const char *why;
  int fd;

  snprintf (disk, sizeof disk, "%s.disk", path);
  snprintf (live, sizeof live, "file:%s", disk);
  p.live = live;
  fd = open (disk, O_CREAT | O_RDWR, 0600);
  CHECK (fd != -1 && ftruncate (fd, 4096) == 0);
  CHECK (bmfile_create (path, &p, &map) == 0);
  CHECK (strcmp (bmfile_live_path (&map), disk) == 0);
  CHECK (bmfile_record_files (&map, -1) == 0);
  CHECK (bmfile_claim (&map, disk, false, &why) == 0 && !why);
  map.live->identity.ino++;
  CHECK (bmfile_claim (&map, disk, false, &why) == -1 && errno == ESTALE && why);
  map.live->identity.ino--;
  CHECK (bmfile_claim (&map, disk, false, &why) == 0 && !why);
  CHECK (bmfile_is_settled (&map));
  map.live->boot_id[3] ^= 1;
  CHECK (!bmfile_is_settled (&map));
  CHECK (bmfile_settle (&map) == 0 && bmfile_is_settled (&map));
  map.live->clean = BMFILE_IN_USE;
  CHECK (bmfile_claim (&map, disk, false, &why) == -1 && errno == ESTALE && why);
  CHECK (bmfile_release (&map, disk) == 0 && map.live->clean == 1);
  CHECK (bmfile_claim (&map, disk, false, &why) == 0 && map.live->clean == 0);
  CHECK (bmfile_release (&map, disk) == 0);
  CHECK (pwrite (fd, "x", 1, 0) == 1);
  CHECK (bmfile_claim (&map, disk, false, &why) == -1 && errno == ESTALE);
  CHECK (bmfile_release (&map, disk) == 0);
  CHECK (ftruncate (fd, 8192) == 0);
  CHECK (bmfile_claim (&map, disk, false, &why) == -1);
  CHECK (bmfile_release (&map, disk) == 0);
  CHECK (unlink (disk) == 0);
  CHECK (bmfile_claim (&map, disk, false, &why) == -1 && why);
  bmfile_close (&map);
  close (fd);
  CHECK (unlink (path) == 0);
}

/* Looks at a map that has been cut, in a process of its own.  Its status. */
static int
look_at_cut (const struct bmfile *map, bool guarded, bool at_end)
{
  const struct rlimit none = { 0, 0 };
  uint64_t last = map->nr_clusters - 1;
  int status;
  pid_t pid = fork ();

  if (pid == 0) {
    setrlimit (RLIMIT_CORE, &none);
    signal (SIGBUS, SIG_DFL);
    if (guarded)
      guard_install ();
    /* What is mapped last has gone first. */
    if (at_end && bm_test (map->bits[MAP_LOST_BITS], last))
      _exit (1);
    bm_set_range (map->bits[MAP_LOST_BITS], 0, last);
    if (map_is_active (map) || bmfile_is_whole (map))
      _exit (2);
    _exit (strcmp (map->fixed->name, "snap") == 0 ? 0 : 3);
  }
  CHECK (pid > 0 && waitpid (pid, &status, 0) == pid);
  return status;
}

/* A file that is made shorter while it is mapped. */
static void
check_cut (void)
{
  struct bmfile_params p = params (UINT64_C (1) << 30, 4096);
  struct bmfile map, other;
  const char *why;
  int cut;

  for (cut = 0; cut <= 8192; cut += 4096) {
    CHECK (bmfile_create (path, &p, &map) == 0);
    CHECK (bmfile_open (path, true, BMFILE_MAP, &other, &why) == 0);
    bm_set_range (map.bits[MAP_LOST_BITS], 0, map.nr_clusters);
    atomic_store (&map.live->state, BMFILE_ACTIVE);
    CHECK (bmfile_is_whole (&map) && map_is_active (&map));
    CHECK (truncate (path, cut) == 0);
    CHECK (look_at_cut (&map, true, true) == 0);
    CHECK (look_at_cut (&map, true, false) == 0);
    CHECK (WIFSIGNALED (look_at_cut (&map, false, true)));
    bmfile_close (&map);
    bmfile_close (&other);
    CHECK (bmfile_open (path, false, BMFILE_MAP, &map, &why) == -1 && why);
    CHECK (unlink (path) == 0);
  }
}

/* What somebody else stores in a header concerns him alone. */
static void
check_rewritten (void)
{
  struct bmfile_params p = params (1 << 20, 4096);
  char reason[BMFILE_REASON_SIZE], bad[BMFILE_HEADER_SIZE];
  struct bmfile map;
  int fd;

  CHECK (bmfile_create (path, &p, &map) == 0);
  memset (bad, 0xff, sizeof bad);
  fd = open (path, O_WRONLY);
  CHECK (pwrite (fd, bad, sizeof bad, 0) == sizeof bad);
  CHECK (strcmp (map.fixed->scratch, "/scratch") == 0);
  CHECK (!map_is_active (&map) && !bmfile_is_whole (&map));
  bmfile_reason (&map, reason);
  CHECK (strlen (reason) == sizeof reason - 1 && reason[0] == '?');
  close (fd);
  bmfile_close (&map);
  CHECK (unlink (path) == 0);
}

int
main (void)
{
  struct rng rng = rng_start ();
  const char *dir = getenv ("TMPDIR");
  char template[200];
  int i;

  snprintf (template, sizeof template, "%s/test-map.XXXXXX",
            dir ? dir : "/tmp");
  CHECK (mkdtemp (template) && chdir (template) == 0);
  snprintf (path, sizeof path, "%s/map", template);
  for (i = 0; i < 500; i++)
    check_states (&rng);
  check_ranges ();
  check_params ();
  check_damage (&rng);
  check_claim ();
  check_cut ();
  check_rewritten ();
  CHECK (rmdir (template) == 0);
  return 0;
}
