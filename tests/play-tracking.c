/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Plays the parts of daemon and filter on tracking bitmaps. */

/* For tests of what reads them:
 *
 *   play-tracking new STATE EXPORT CHECKPOINT PARENT SIZE CLUSTER-SIZE
 *       makes STATE/exports/EXPORT/CHECKPOINT.dirty; PARENT may be "-"
 *   play-tracking begin FILE [MAP]
 *       now, or at the instant of a snapshot
 *   play-tracking dirty FILE OFFSET LENGTH
 *   play-tracking dirty-every FILE NTH
 *       every NTH cluster, from the first on
 *   play-tracking follow FILE BEFORE
 *       FILE is the one after BEFORE from now on, whatever its parent is
 *   play-tracking delete FILE
 *       renames it as a deleted checkpoint's, and prints its new name
 *   play-tracking freeze | doubt | unsettle FILE
 *       FROZEN; INCONSISTENT; as if the host had stopped without closing it
 */

#include <config.h>

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "map.h"
#include "testing.h"
#include "text.h"

static uint64_t
number (const char *s)
{
  char *end;
  uint64_t n = strtoull (s, &end, 0);

  CHECK (*s && !*end);
  return n;
}

static void
make (char **a)
{
  char path[PATH_MAX];
  struct bmfile_params p = {
    .kind = BMFILE_DIRTY, .export_name = a[1], .name = a[2],
    .parent = strcmp (a[3], "-") == 0 ? NULL : a[3],
    .disk_size = number (a[4]), .cluster_size = number (a[5]),
  };
  struct bmfile bf;

  snprintf (path, sizeof path, "%s/exports", a[0]);
  CHECK (mkdir (path, 0700) == 0 || errno == EEXIST);
  snprintf (path, sizeof path, "%s/exports/%s", a[0], a[1]);
  CHECK (mkdir (path, 0700) == 0 || errno == EEXIST);
  snprintf (path, sizeof path, "%s/exports/%s/%s.dirty", a[0], a[1], a[2]);
  CHECK (bmfile_create (path, &p, &bf) == 0);
  bmfile_close (&bf);
}

static void
open_dirty (const char *path, struct bmfile *bf)
{
  const char *why;

  CHECK (bmfile_open (path, true, BMFILE_DIRTY, bf, &why) == 0);
}

static int64_t
instant_of (const char *path)
{
  struct bmfile map;
  const char *why;
  int64_t ns;

  CHECK (bmfile_open (path, false, BMFILE_MAP, &map, &why) == 0);
  ns = atomic_load (&map.live->instant_ns);
  bmfile_close (&map);
  return ns;
}

static void
link_to (struct bmfile *bf, const char *path)
{
  struct bmfile before;

  open_dirty (path, &before);
  memcpy (bf->live->prev, before.fixed->uuid, sizeof bf->live->prev);
  bmfile_close (&before);
}

/* The file beside it that its parent is in is the one before. */
static void
link_to_parent (const char *path, struct bmfile *bf)
{
  char parent[PATH_MAX];
  const char *slash = strrchr (path, '/');

  if (!bf->fixed->parent[0])
    return;
  CHECK (slash != NULL);
  snprintf (parent, sizeof parent, "%.*s/%s.dirty", (int) (slash - path),
            path, bf->fixed->parent);
  link_to (bf, parent);
}

static void
follow (const char *path, const char *before)
{
  struct bmfile bf;

  open_dirty (path, &bf);
  link_to (&bf, before);
  bmfile_close (&bf);
}

static void
begin (const char *path, const char *map)
{
  struct timespec now;
  struct bmfile bf;

  open_dirty (path, &bf);
  link_to_parent (path, &bf);
  clock_gettime (CLOCK_REALTIME, &now);
  atomic_store (&bf.live->instant_ns, map ? instant_of (map)
                : now.tv_sec * INT64_C (1000000000) + now.tv_nsec);
  atomic_store (&bf.live->state, BMFILE_ACTIVE);
  bmfile_close (&bf);
}

static void
dirty (char **a)
{
  struct cluster_range r;
  struct bmfile bf;

  open_dirty (a[0], &bf);
  r = map_clusters (&bf, number (a[1]), number (a[2]));
  bm_set_range (bf.bits[0], r.first, r.end);
  bmfile_close (&bf);
}

static void
dirty_every (char **a)
{
  uint64_t i, nth = number (a[1]);
  struct bmfile bf;

  open_dirty (a[0], &bf);
  for (i = 0; i < bf.nr_clusters; i += nth)
    bm_set_range (bf.bits[0], i, i + 1);
  bmfile_close (&bf);
}

static void
delete (const char *path)
{
  char uuid[UUID_SIZE], to[PATH_MAX];
  const char *slash = strrchr (path, '/');
  struct bmfile bf;

  CHECK (slash != NULL);
  open_dirty (path, &bf);
  format_uuid (bf.fixed->uuid, uuid);
  bmfile_close (&bf);
  snprintf (to, sizeof to, "%.*s/.%s.dirty", (int) (slash - path), path, uuid);
  CHECK (rename (path, to) == 0);
  puts (to);
}

static void
change (const char *verb, const char *path)
{
  struct bmfile bf;

  open_dirty (path, &bf);
  if (strcmp (verb, "freeze") == 0)
    atomic_store (&bf.live->state, BMFILE_FROZEN);
  else if (strcmp (verb, "doubt") == 0)
    atomic_store (&bf.live->state, BMFILE_INCONSISTENT);
  else {
    atomic_store (&bf.live->clean, BMFILE_IN_USE);
    memset (bf.live->boot_id, 1, sizeof bf.live->boot_id);
  }
  bmfile_close (&bf);
}

int
main (int argc, char *argv[])
{
  const char *verb = argc > 1 ? argv[1] : "";
  char **args = argv + 2;

  if (strcmp (verb, "new") == 0 && argc == 8)
    make (args);
  else if (strcmp (verb, "begin") == 0 && (argc == 3 || argc == 4))
    begin (args[0], argc == 4 ? args[1] : NULL);
  else if (strcmp (verb, "dirty") == 0 && argc == 5)
    dirty (args);
  else if (strcmp (verb, "dirty-every") == 0 && argc == 4)
    dirty_every (args);
  else if (strcmp (verb, "follow") == 0 && argc == 4)
    follow (args[0], args[1]);
  else if (strcmp (verb, "delete") == 0 && argc == 3)
    delete (args[0]);
  else if ((strcmp (verb, "freeze") == 0 || strcmp (verb, "doubt") == 0
            || strcmp (verb, "unsettle") == 0) && argc == 3)
    change (verb, args[0]);
  else {
    fprintf (stderr, "play-tracking: see the top of its source\n");
    return 2;
  }
  return EXIT_SUCCESS;
}
