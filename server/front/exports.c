/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The exports a client may see: the snapshots that exist. */

/* A view is opened when a client chooses an export or asks for its metadata
 * contexts, and is the client's own.  The files it maps may be unlinked while
 * it lasts; that the snapshot has ended shows in the state of its map.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "exports.h"
#include "map.h"
#include "scratch.h"

/* More in one state directory are not listed. */
#define LISTED_MAX 10000

static void
describe (const struct bmfile *map, char *name, char *text)
{
  char instant[STATEDIR_INSTANT_SIZE];

  statedir_name (map, name);
  statedir_instant (map, instant);
  snprintf (text, DESCRIPTION_SIZE, "%s as of %s", name, instant);
}

static int
open_rest (int state_dir, const char *export_name, bool release,
           struct view *v)
{
  int dir = statedir_open_export (state_dir, export_name), r, err;

  if (dir == -1)
    return -1;
  r = tracking_open (dir, &v->map, &v->tracking);
  err = errno;
  close (dir);
  errno = err;
  if (r == 0 && release) {
    v->scratch = scratch_open (&v->map, true, false);
    r = v->scratch == -1 ? -1 : 0;
  }
  return r;
}

/* Opens the map, writable if clusters may be released: if the caller says so
 * (*release), or the map. */
static int
open_map (int state_dir, const char *export_name, const char *snapshot,
          bool *release, struct view *v)
{
  const char *why;

  if (statedir_open_map (state_dir, export_name, snapshot, *release, &v->map,
                         &why) == -1)
    return -1;
  if (*release
      || !(atomic_load (&v->map.live->flags) & BMFILE_CLIENTS_RELEASE))
    return 0;
  bmfile_close (&v->map);
  *release = true;
  return statedir_open_map (state_dir, export_name, snapshot, true, &v->map,
                            &why);
}

int
view_open (int state_dir, const char *name, bool release, struct view *v)
{
  char export_name[NAME_LENGTH_MAX + 1], snapshot[NAME_LENGTH_MAX + 1];
  int err;

  memset (v, 0, sizeof *v);
  v->scratch = -1;
  if (name_split (name, export_name, snapshot) == -1) {
    errno = ENOENT;
    return -1;
  }
  if (open_map (state_dir, export_name, snapshot, &release, v) == -1)
    return -1;
  if (open_rest (state_dir, export_name, release, v) == 0) {
    describe (&v->map, v->name, v->description);
    return 0;
  }
  err = view_is_active (v) ? errno : ENOENT;
  view_close (v);
  errno = err;
  return -1;
}

void
view_close (struct view *v)
{
  if (v->map.fixed) {
    tracking_close (&v->tracking);
    if (v->scratch != -1)
      close (v->scratch);
    bmfile_close (&v->map);
  }
  memset (v, 0, sizeof *v);
  v->scratch = -1;
}

bool
view_is_active (const struct view *v)
{
  return map_is_active (&v->map);
}

/* L1 of map.h is the client's word.  A cluster that becomes copied after L2 is
 * punched by the filter itself (W5). */
int
view_release (const struct view *v, uint64_t offset, uint64_t count)
{
  const struct bmfile *map = &v->map;
  const bm_word *copied = map->bits[MAP_COPIED_BITS];
  uint64_t mask = (UINT64_C (1) << map->cluster_bits) - 1;
  uint64_t first = (offset + mask) >> map->cluster_bits, a, b;
  uint64_t end = (offset + count) >> map->cluster_bits;
  int64_t n;

  if (!view_is_active (v)) {
    errno = ESHUTDOWN;
    return -1;
  }
  if (offset + count == map->disk_size)
    end = map->nr_clusters;     /* the last one may be short */
  if (first >= end)
    return 0;
  map_release (map, first, end); /* L2 */
  if (map_settle_release (map) == -1)
    return -1;
  for (a = bm_next_set (copied, first, end); a < end;
       a = bm_next_set (copied, b, end)) {
    b = bm_next_clear (copied, a, end);
    n = scratch_punch (v->scratch, map_offset (map, a),
                       map_length (map, a, b)); /* L3 */
    if (n == -1)
      return -1;
    map_scratch_freed (map, n);
  }
  return 0;
}

struct collecting {
  struct listing *listing;
  bool (*wanted) (void *opaque, const char *export_name);
  void *opaque;
};

static int
collect (void *opaque, const struct bmfile *map)
{
  struct collecting *c = opaque;
  struct listing *l = c->listing;
  struct listed *more;

  if (!c->wanted (c->opaque, map->fixed->export_name) || l->nr == LISTED_MAX)
    return 0;
  if (l->nr % 64 == 0) {
    more = realloc (l->items, (l->nr + 64) * sizeof *more);
    if (!more)
      return -1;
    l->items = more;
  }
  describe (map, l->items[l->nr].name, l->items[l->nr].description);
  l->nr++;
  return 0;
}

static int
by_name (const void *a, const void *b)
{
  return strcmp (((const struct listed *) a)->name,
                 ((const struct listed *) b)->name);
}

int
listing_read (int state_dir,
              bool (*wanted) (void *opaque, const char *export_name),
              void *opaque, struct listing *l)
{
  struct collecting c = { l, wanted, opaque };
  int r;

  *l = (struct listing) { 0 };
  r = statedir_list (state_dir, collect, &c);
  if (l->nr > 0)
    qsort (l->items, l->nr, sizeof *l->items, by_name);
  return r;
}

void
listing_free (struct listing *l)
{
  free (l->items);
  *l = (struct listing) { 0 };
}
