/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Records of what is being begun, so that nothing is left half begun. */

/* A daemon that dies between the first BEGIN and the last may leave snapshots
 * of some exports only; or between the last and the record of the job that
 * they are for, snapshots and checkpoints that nobody knows.  A file
 * STATE/begin-UUID, with a line EXPORT@NAME UUID for each file, says what is
 * under way: as long as it exists, all of that is to be discarded.  To remove
 * it is to commit; that is flushed, for a snapshot that is to outlast a crash of
 * the host, or a checkpoint that does, must not be discarded after it.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "unfinished.h"

#define PREFIX "begin-"
#define RECORD_MAX (1024 * 1024)

void
unfinished_add (char **text, const struct export *ex,
                const struct bmfile *file)
{
  char uuid[UUID_SIZE], *longer;

  format_uuid (file->fixed->uuid, uuid);
  longer = xasprintf ("%s%s@%s %s\n", *text, ex->name, file->fixed->name,
                      uuid);
  free (*text);
  *text = longer;
}

char *
unfinished_write (const struct daemon *d, const char *text,
                  struct failure *failure)
{
  char uuid[UUID_SIZE], *path;

  if (random_uuid (uuid, failure) == -1)
    return NULL;
  path = xasprintf ("%s/" PREFIX "%s", d->config->state_dir, uuid);
  if (write_file (path, text, true) == 0)
    return path;
  failure_set (failure, errno == ENOSPC ? "no-space" : "failed", "%s: %s",
               path, strerror (errno));
  remove_file (path);
  free (path);
  return NULL;
}

void
unfinished_remove (const char *path)
{
  remove_file (path);
  sync_directory_of (path);
}

/* The uuid of a file is, as text, in a line of a record. */
static bool
is_listed (const struct bmfile *file, const char *text)
{
  char uuid[UUID_SIZE];

  format_uuid (file->fixed->uuid, uuid);
  return strstr (text, uuid) != NULL;
}

/* One record whose snapshots are being ended. */
struct discard {
  struct daemon *daemon;
  char *path;
  size_t waiting;               /* snapshots, and one while they are told */
};

static void
discarded (void *opaque)
{
  struct discard *discard = opaque;

  if (--discard->waiting > 0)
    return;
  unfinished_remove (discard->path);
  free (discard->path);
  free (discard);
}

static void
discard_of_export (struct discard *discard, struct export *ex,
                   const char *text)
{
  const struct log *log = &discard->daemon->log;
  struct snapshot *s;
  struct checkpoint *cp;
  struct failure failure;

  TAILQ_FOREACH (s, &ex->snapshots, entry)
    if (s->state == SNAPSHOT_ACTIVE && is_listed (&s->map, text)) {
      log_warning (log, "%s: snapshot %s was not begun in full; discarding "
                   "it", ex->name, s->name);
      discard->waiting++;
      snapshot_end (s, discarded, discard);
    }
  TAILQ_FOREACH (cp, &ex->checkpoints, entry)
    if (cp->name && is_listed (&cp->file, text)) {
      log_warning (log, "%s: checkpoint %s was not begun in full; discarding "
                   "it", ex->name, cp->name);
      if (checkpoint_delete (cp, &failure) == -1)
        log_error (log, "%s", failure.message);
      break;                    /* the list may have changed; there is one */
    }
}

static void
discard_record (struct daemon *d, const char *name)
{
  struct discard *discard = xcalloc (1, sizeof *discard);
  struct export *ex;
  char *text;

  discard->daemon = d;
  discard->path = xasprintf ("%s/%s", d->config->state_dir, name);
  discard->waiting = 1;
  text = read_file (discard->path, RECORD_MAX, NULL);
  if (!text) {
    log_error (&d->log, "%s: %m", discard->path);
    free (discard->path);
    free (discard);
    return;
  }
  TAILQ_FOREACH (ex, &d->exports, entry)
    discard_of_export (discard, ex, text);
  free (text);
  discarded (discard);
}

void
unfinished_discard (struct daemon *d)
{
  DIR *dir = opendir (d->config->state_dir);
  struct dirent *e;

  while (dir && (e = readdir (dir)))
    if (strncmp (e->d_name, PREFIX, strlen (PREFIX)) == 0)
      discard_record (d, e->d_name);
  if (dir)
    closedir (dir);
}
