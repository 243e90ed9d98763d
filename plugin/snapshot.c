/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Opening the snapshots of a state directory. */

/* A snapshot may end between any two steps of opening it; its files then go
 * away in some order.  That the map is still ACTIVE when everything is open
 * means that everything was there for as long as we looked; after that the
 * open descriptors keep the files, and the reader watches the state.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "scratch.h"
#include "snapshot.h"

static int
failed (struct why *why, int err, const char *what, const char *detail)
{
  snprintf (why->text, sizeof why->text, "%s%s%s", what,
            detail ? ": " : "", detail ? detail : "");
  errno = err;
  return -1;
}

static struct live *
open_live (const struct bmfile *map)
{
  return bmfile_live_path (map) ? live_file_open_map (map)
    : live_nbd_open (map->fixed->live);
}

/* Opens what the map points to. */
static int
open_disks (struct snapshot *s, struct why *why)
{
  struct reader *r = &s->reader;

  r->scratch = scratch_open (&s->map, false, false);
  if (r->scratch == -1)
    return failed (why, errno, "its scratch cannot be opened",
                   strerror (errno));
  r->live = open_live (&s->map);
  if (!r->live)
    return failed (why, errno, "the live disk cannot be opened",
                   strerror (errno));
  /* What is missing must not be taken for a hole at the end. */
  if (r->live->size < s->map.disk_size)
    return failed (why, EIO, "the live disk has shrunk", NULL);
  return 0;
}

int
snapshot_open (int state_dir, const char *name, struct snapshot *s,
               struct why *why)
{
  char export_name[NAME_LENGTH_MAX + 1], snapshot[NAME_LENGTH_MAX + 1];
  const char *reason;
  int err;

  memset (s, 0, sizeof *s);
  s->reader.scratch = -1;
  s->reader.map = &s->map;
  if (name_split (name, export_name, snapshot) == -1)
    return failed (why, EINVAL, "not of the form EXPORT@SNAPSHOT", NULL);
  snprintf (s->name, sizeof s->name, "%s", name);
  if (statedir_open_map (state_dir, export_name, snapshot, false, &s->map,
                         &reason) == -1)
    return errno == ENOENT ? failed (why, ENOENT, reason, NULL)
      : failed (why, errno, "its map is no good", reason);
  if (open_disks (s, why) == 0 && map_is_active (&s->map))
    return 0;
  err = errno;
  if (!map_is_active (&s->map)) {
    err = ENOENT;
    failed (why, err, "it has just ended", NULL);
  }
  snapshot_close (s);
  errno = err;
  return -1;
}

void
snapshot_close (struct snapshot *s)
{
  if (s->reader.live)
    s->reader.live->ops->close (s->reader.live);
  if (s->reader.scratch != -1)
    close (s->reader.scratch);
  bmfile_close (&s->map);
}
