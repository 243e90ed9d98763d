/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Plays the filter's part on plain files, one step at a time. */

/* For tests of what reads snapshots, which need a map in a known state and no
 * nbdkit that made it:
 *
 *   play-filter new STATE EXPORT SNAPSHOT LIVE SIZE CLUSTER-SIZE
 *       makes STATE/exports/EXPORT/SNAPSHOT.map and its scratch beside it;
 *       LIVE is file:PATH or an NBD URI, as it will stand in the map
 *   play-filter begin MAP
 *   play-filter write MAP FILE OFFSET LENGTH BYTE
 *       a guest's write of LENGTH times BYTE to the live disk, which is in
 *       FILE, with the copying that comes before it
 *   play-filter copy MAP FILE OFFSET LENGTH
 *       only the copying, for another snapshot of the same disk
 *   play-filter lose | release MAP OFFSET LENGTH
 *   play-filter end MAP
 */

#include <config.h>

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "map.h"
#include "scratch.h"
#include "testing.h"

static uint64_t
number (const char *s)
{
  char *end;
  uint64_t n = strtoull (s, &end, 0);

  CHECK (*s && !*end);
  return n;
}

static void
open_map (const char *path, struct bmfile *map)
{
  const char *why;

  CHECK (bmfile_open (path, true, BMFILE_MAP, map, &why) == 0);
}

static void
set_state (const char *path, enum bmfile_state state)
{
  struct bmfile map;
  struct timespec now;

  open_map (path, &map);
  if (state == BMFILE_ACTIVE) {
    clock_gettime (CLOCK_REALTIME, &now);
    atomic_store (&map.live->instant_ns,
                  now.tv_sec * INT64_C (1000000000) + now.tv_nsec);
  }
  atomic_store (&map.live->state, state);
  bmfile_close (&map);
}

static void
make (char **a)
{
  char dir[PATH_MAX], path[PATH_MAX + 256], scratch[PATH_MAX + 256];
  struct bmfile_params p = {
    .kind = BMFILE_MAP, .export_name = a[1], .name = a[2], .live = a[3],
    .disk_size = number (a[4]), .cluster_size = number (a[5]),
    .scratch = scratch,
  };
  struct bmfile map;
  int fd;

  snprintf (dir, sizeof dir, "%s/exports", a[0]);
  CHECK (mkdir (dir, 0700) == 0 || errno == EEXIST);
  snprintf (dir, sizeof dir, "%s/exports/%s", a[0], a[1]);
  CHECK (mkdir (dir, 0700) == 0 || errno == EEXIST);
  snprintf (scratch, sizeof scratch, "%s/%s@%s.scratch", dir, a[1], a[2]);
  snprintf (path, sizeof path, "%s/%s.map", dir, a[2]);
  fd = scratch_create (scratch, p.disk_size);
  CHECK (fd != -1);
  CHECK (bmfile_create (path, &p, &map) == 0);
  CHECK (bmfile_record_files (&map, fd) == 0);
  close (fd);
  bmfile_close (&map);
}

/* W1 to W3 of map.h for one cluster. */
static void
copy_before_write (struct bmfile *map, int disk, int scratch, uint64_t c)
{
  static char buf[BMFILE_CLUSTER_MAX];
  uint64_t length = map_length (map, c, c + 1);

  if (map_next_live (map, c, c + 1) != c)
    return;
  CHECK (full_pread (disk, buf, length, map_offset (map, c)) == 0);
  if (!is_zero (buf, length)) {
    CHECK (full_pwrite (scratch, buf, length, map_offset (map, c)) == 0);
    atomic_fetch_add (&map->live->scratch_bytes, length);
  }
  bm_set_range (map->bits[MAP_COPIED_BITS], c, c + 1);
}

/* byte: what the guest writes, or NULL for nothing. */
static void
guest_write (char **a, const char *byte)
{
  uint64_t offset = number (a[2]), length = number (a[3]), c;
  struct cluster_range r;
  struct bmfile map;
  char *buf = malloc (length);
  int disk, scratch;

  CHECK (buf != NULL);
  open_map (a[0], &map);
  disk = open (a[1], O_RDWR | O_CLOEXEC);
  scratch = scratch_open (&map, true, false);
  CHECK (disk != -1 && scratch != -1);
  if (map_is_active (&map)) {
    r = map_clusters (&map, offset, length);
    for (c = r.first; c < r.end; c++)
      copy_before_write (&map, disk, scratch, c);
  }
  if (byte) {
    memset (buf, number (byte), length);
    CHECK (full_pwrite (disk, buf, length, offset) == 0);
  }
  close (disk);
  close (scratch);
  free (buf);
  bmfile_close (&map);
}

static void
lose_or_release (char **a, enum map_bitmap which)
{
  struct bmfile map;
  struct cluster_range r;
  int fd;

  open_map (a[0], &map);
  r = map_clusters (&map, number (a[1]), number (a[2]));
  bm_set_range (map.bits[which], r.first, r.end);
  if (which == MAP_RELEASED_BITS) {
    fd = scratch_open (&map, true, false);
    CHECK (fd != -1);
    CHECK (scratch_punch (fd, map_offset (&map, r.first),
                          map_length (&map, r.first, r.end)) != -1);
    close (fd);
  }
  bmfile_close (&map);
}

int
main (int argc, char *argv[])
{
  const char *verb = argc > 1 ? argv[1] : "";
  char **args = argv + 2;

  if (strcmp (verb, "new") == 0 && argc == 8)
    make (args);
  else if (strcmp (verb, "begin") == 0 && argc == 3)
    set_state (args[0], BMFILE_ACTIVE);
  else if (strcmp (verb, "write") == 0 && argc == 7)
    guest_write (args, args[4]);
  else if (strcmp (verb, "copy") == 0 && argc == 6)
    guest_write (args, NULL);
  else if (strcmp (verb, "lose") == 0 && argc == 5)
    lose_or_release (args, MAP_LOST_BITS);
  else if (strcmp (verb, "release") == 0 && argc == 5)
    lose_or_release (args, MAP_RELEASED_BITS);
  else if (strcmp (verb, "end") == 0 && argc == 3)
    set_state (args[0], BMFILE_ENDED);
  else {
    fprintf (stderr, "play-filter: see the top of its source\n");
    return 2;
  }
  return EXIT_SUCCESS;
}
