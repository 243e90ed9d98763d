/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Telling that a disk was changed behind the snapshots' back. */

/* A snapshot is true as long as every write to its disk passes the filter.
 * When daemon and nbdkit end in order, the disk is anybody's.  What we know
 * when they come back depends on the disk:
 *
 *   raw file or device    its identity and times are in the map; the filter
 *                         looks at them before it goes on
 *   qcow2, plugin file    the same of the file behind, but the map does not
 *                         name it to the filter; so we look
 *   NBD server, others    nothing: their snapshots end when the daemon ends
 *
 * The same holds for checkpoints, but that those of the last kind stay: people
 * count on them for weeks, and nbdfleeced(8) says whose word is taken for it.
 *
 * And the configuration may name another disk than before.  The file
 * STATE/exports/EXPORT/disk says which one the snapshots are of.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk_trust.h"
#include "jobs.h"
#include "scratch.h"
#include "setup.h"

#define RECORD_MAX 65536

static char *
record_path (const struct export *ex)
{
  return xasprintf ("%s/disk", ex->dir);
}

/* What is compared: kind and description. */
static char *
describe (const struct export *ex)
{
  char *text = export_disk_text (&ex->conf->disk);
  char *line = xasprintf ("%s %s\n", export_disk_kind (&ex->conf->disk), text);

  free (text);
  return line;
}

void
disk_record (const struct export *ex)
{
  char *path = record_path (ex), *line = describe (ex);

  if (!disk_is_recorded (ex) && write_file (path, line, true) == -1)
    log_warning (&ex->daemon->log, "%s: %s: %s", ex->name, path,
                 strerror (errno));
  free (path);
  free (line);
}

bool
disk_is_recorded (const struct export *ex)
{
  char *path = record_path (ex), *line = describe (ex);
  char *was = read_file (path, RECORD_MAX, NULL);
  bool same = was && strcmp (was, line) == 0;

  free (path);
  free (line);
  free (was);
  return same;
}

void
disk_forget (const struct export *ex)
{
  char *path = record_path (ex);

  remove_file (path);
  free (path);
}

static void
end_one (struct snapshot *s, const char *why)
{
  log_warning (&s->export->daemon->log, "%s: snapshot %s is lost: %s",
               s->export->name, s->name, why);
  jobs_snapshot_lost (s, why);
  if (s->state == SNAPSHOT_ACTIVE)
    snapshot_end (s, NULL, NULL);
}

/* The file to look at, or NULL if there is none. */
static const char *
file_of (const struct export *ex)
{
  return ex->conf ? disk_path (&ex->conf->disk) : NULL;
}

/* The filter does both when it stops in order; it may not have come to the end
 * of it.  A clean map whose scratch is not on disk would be worse than none. */
static int
release_one (struct snapshot *s, const char *path)
{
  int fd = scratch_open (&s->map, false, true);
  int r = fd == -1 ? -1 : fdatasync (fd);

  if (fd != -1)
    close (fd);
  return r == -1 ? -1 : bmfile_release (&s->map, path);
}

void
disk_release (struct export *ex)
{
  const char *path = file_of (ex);
  struct snapshot *s, *next;

  checkpoints_release (ex, path);
  for (s = TAILQ_FIRST (&ex->snapshots); s; s = next) {
    next = TAILQ_NEXT (s, entry);
    if (s->state != SNAPSHOT_ACTIVE || !map_is_active (&s->map))
      continue;
    if (!path)
      snapshot_drop (s, "its disk cannot be looked at for changes after a "
                     "stop");
    else if ((atomic_load (&s->map.live->clean) != BMFILE_CLEAN
              || !bmfile_live_path (&s->map))
             && release_one (s, path) == -1)
      log_warning (&ex->daemon->log, "%s: snapshot %s will not outlast a "
                   "restart of the host: %s", ex->name, s->name,
                   strerror (errno));
  }
}

static bool
is_unchanged (const struct snapshot *s, const char *path)
{
  const struct bmfile_identity *then = &s->map.live->identity;
  struct bmfile_identity now;

  return bmfile_identify (path, &now) == 0 && now.dev == then->dev
    && now.ino == then->ino && now.size == then->size
    && now.mtime_ns == then->mtime_ns && now.ctime_ns == then->ctime_ns;
}

void
disk_distrust (struct export *ex)
{
  const char *path = file_of (ex);
  struct snapshot *s, *next;

  checkpoints_compare (ex, path);
  for (s = TAILQ_FIRST (&ex->snapshots); s; s = next) {
    next = TAILQ_NEXT (s, entry);
    if (s->state != SNAPSHOT_ACTIVE || bmfile_live_path (&s->map)
        || atomic_load (&s->map.live->clean) != BMFILE_CLEAN)
      continue;
    if (!path)
      end_one (s, "its disk cannot be looked at for changes");
    else if (!is_unchanged (s, path))
      end_one (s, "the live disk changed while nothing was in front of it");
  }
}
