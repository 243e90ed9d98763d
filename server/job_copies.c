/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What a job's snapshot has cost the guest. */

/* The map knows each cluster that was copied before a guest's write, so where
 * on the disk the writes are that cost copies can be told: the disk is shown
 * in PARTS equal parts, those where nothing was copied left out.  The map goes
 * with the snapshot, so this is counted when somebody looks, and at the end.
 */

#include <config.h>

#include "export.h"
#include "job.h"
#include "status.h"

#define PARTS 64

static struct json_object *
part_json (const struct bmfile *map, uint64_t first, uint64_t end, uint64_t nr)
{
  struct json_object *o = json_object_new_object ();
  uint64_t offset = map_offset (map, first);
  uint64_t stop = end << map->cluster_bits;

  json_add_int (o, "offset", offset);
  json_add_int (o, "length", (stop < map->disk_size ? stop : map->disk_size)
                - offset);
  json_add_int (o, "bytes", nr << map->cluster_bits);
  return o;
}

static struct json_object *
parts_json (const struct bmfile *map)
{
  struct json_object *array = json_object_new_array ();
  const uint64_t each = map->nr_clusters / PARTS
    + (map->nr_clusters % PARTS != 0);
  uint64_t first, end, nr;

  for (first = 0; first < map->nr_clusters; first = end) {
    end = first + each < map->nr_clusters ? first + each : map->nr_clusters;
    nr = bm_count (map->bits[MAP_COPIED_BITS], first, end);
    if (nr > 0)
      json_object_array_add (array, part_json (map, first, end, nr));
  }
  return array;
}

void
job_count_copies (struct job *job)
{
  const struct bmfile *map;
  const struct bmfile_live *live;

  if (job->kind != JOB_BACKUP || !job->snapshot || !job->snapshot->map.live)
    return;                     /* what was counted last stays */
  map = &job->snapshot->map;
  live = map->live;
  json_object_put (job->copies);
  job->copies = json_object_new_object ();
  json_add_int (job->copies, "bytes", atomic_load (&live->copied_clusters)
                << map->cluster_bits);
  json_add_int (job->copies, "bytes-zero", atomic_load (&live->zero_clusters)
                << map->cluster_bits);
  json_add_int (job->copies, "bytes-lost", atomic_load (&live->lost_clusters)
                << map->cluster_bits);
  json_add_int (job->copies, "scratch-bytes",
                atomic_load (&live->scratch_bytes));
  json_object_object_add (job->copies, "parts", parts_json (map));
}
