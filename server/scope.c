/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Releasing what is not in a snapshot's scope. */

/* A snapshot begins with everything LIVE.  What has not changed since the
 * checkpoint is released after the flip, when it is known: released before, a
 * cluster that a guest wrote to in between would be missing.  The price is that
 * clusters written to right after the instant are copied for nothing; they are
 * punched out again.
 *
 * From then on reading outside of the scope is an error of its own (EPERM).
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "export.h"
#include "scope.h"
#include "scratch.h"
#include "work.h"

struct limiting {
  struct bmfile map;            /* of our own */
  int scratch;
  struct chain chain;
  scope_limited done;
  void *opaque;
  struct failure failure;       /* code is NULL as long as all is well */
};

/* L2 of map.h, for what is not in the scope; and L3. */
static void
release_others (const struct bmfile *map, const bm_word *scope)
{
  uint64_t first, end;

  for (end = 0; end < map->nr_clusters;) {
    first = bm_next_clear (scope, end, map->nr_clusters);
    end = bm_next_set (scope, first, map->nr_clusters);
    map_release (map, first, end);
  }
}

static int
punch_others (const struct bmfile *map, const bm_word *scope, int scratch)
{
  uint64_t first, end;
  int r = 0;

  for (end = 0; r == 0 && end < map->nr_clusters;) {
    first = bm_next_clear (scope, end, map->nr_clusters);
    end = bm_next_set (scope, first, map->nr_clusters);
    if (first < end)
      r = scratch_punch_released (map, scratch, first, end);
  }
  return r;
}

static void
limit (void *opaque)
{
  struct limiting *l = opaque;
  const struct bmfile *map = &l->map;
  bm_word *scope = calloc (1, bm_bytes (map->nr_clusters));
  int r = scope ? 0 : -1;

  if (scope)
    r = chain_add_to (&l->chain, scope, map->cluster_bits);
  if (r == 0)
    release_others (map, scope);
  if (r == 0)
    r = map_settle_release (map);
  if (r == 0)
    r = punch_others (map, scope, l->scratch);
  if (r == -1)
    failure_set (&l->failure, "failed", "snapshot %s: %s", map->fixed->name,
                 strerror (errno));
  free (scope);
}

static void
limited (void *opaque)
{
  struct limiting *l = opaque;

  if (!l->failure.code && !map_is_active (&l->map))
    failure_set (&l->failure, "failed", "snapshot %s is lost",
                 l->map.fixed->name);
  chain_close (&l->chain);
  bmfile_close (&l->map);
  if (l->scratch != -1)
    close (l->scratch);
  l->done (l->opaque, l->failure.code ? &l->failure : NULL);
  free (l);
}

static int
open_all (struct limiting *l, const struct snapshot *s, const char *since,
          const struct checkpoint *own)
{
  const struct checkpoint *cp = checkpoint_find (s->export, since);
  const char *why = "no such checkpoint";

  if (!cp)
    failure_set (&l->failure, "unknown-checkpoint", "export %s has no "
                 "checkpoint %s", s->export->name, since);
  if (!cp || chain_check (cp, own, s->map.disk_size, &l->failure) == -1
      || chain_open (cp, own, &l->chain, &l->failure) == -1)
    return -1;
  if (bmfile_open (s->map_path, true, BMFILE_MAP, &l->map, &why) == 0
      && (l->scratch = scratch_open (&l->map, true, false)) != -1)
    return 0;
  failure_set (&l->failure, "failed", "%s: %s", s->map_path,
               why ? why : strerror (errno));
  return -1;
}

static void
nothing (void *opaque)
{
  (void) opaque;
}

void
scope_limit (struct snapshot *s, const char *since,
             const struct checkpoint *own, scope_limited done, void *opaque)
{
  struct limiting *l = xcalloc (1, sizeof *l);

  *l = (struct limiting) { .scratch = -1, .done = done, .opaque = opaque };
  work_start (s->export->daemon,
              open_all (l, s, since, own) == 0 ? limit : nothing, limited, l);
}
