/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The files of checkpoints, what is left of them, and how they go. */

/* An export's checkpoints are a chain of files, oldest first.  NAME.dirty has
 * a bit for each cluster that was changed after its instant and before that of
 * the next, so what has changed since a checkpoint is in its own file and all
 * that come after it.  The newest is ACTIVE, the filter sets its bits; the
 * others are FROZEN.  Each knows the uuid of the one that it follows: a file
 * that is missing in between is noticed (chain.c).
 *
 * As with snapshots the files are all there is; a daemon that starts believes
 * them:
 *
 *   ACTIVE, FROZEN, INCONSISTENT   a checkpoint
 *   PREPARED                       a daemon died while it made it; it is ENDED
 *                                  with the compare-and-swap that the filter
 *                                  uses for ACTIVE, and only one of us wins
 *   ENDED                          left over
 *   damaged                        put aside as NAME.dirty.bad; with a link
 *                                  gone, all that came before the newest is
 *                                  inconsistent
 *
 * To delete a checkpoint is to rename its file to .UUID.dirty.  That takes the
 * name away at once and for good; the bits go on counting for the checkpoint
 * before, and the filter, which has the file open, does not notice.  Such a
 * link without a name is then merged into the one before and removed when
 * nothing can be lost any more (merge.c), now or after any number of restarts.
 *
 * A file becomes inconsistent by the filter's judgment, or by ours if the
 * filter cannot know: the file behind a qcow2 disk was changed, a link is
 * damaged.  Nothing makes it consistent again.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actlog.h"
#include "broken.h"
#include "chain.h"
#include "checkpoint.h"
#include "export.h"
#include "owner.h"

#define SUFFIX ".dirty"

/* ------------------------------------------------------------------- list */

struct checkpoint *
checkpoint_find (const struct export *ex, const char *name)
{
  struct checkpoint *cp;

  TAILQ_FOREACH (cp, &ex->checkpoints, entry)
    if (cp->name && strcmp (cp->name, name) == 0)
      return cp;
  return NULL;
}

struct checkpoint *
checkpoint_find_uuid (const struct export *ex, const char *uuid)
{
  struct checkpoint *cp;
  char text[UUID_SIZE];

  TAILQ_FOREACH (cp, &ex->checkpoints, entry) {
    if (!cp->file.fixed)
      continue;
    format_uuid (cp->file.fixed->uuid, text);
    if (strcmp (text, uuid) == 0)
      return cp;
  }
  return NULL;
}

static struct checkpoint *
add (struct export *ex, const char *file_name)
{
  struct checkpoint *cp = xcalloc (1, sizeof *cp);

  cp->export = ex;
  cp->path = xasprintf ("%s/%s", ex->dir, file_name);
  TAILQ_INSERT_TAIL (&ex->checkpoints, cp, entry);
  return cp;
}

struct checkpoint *
checkpoint_new (struct export *ex, const char *name)
{
  char *file_name = xasprintf ("%s" SUFFIX, name);
  struct checkpoint *cp = add (ex, file_name);

  cp->name = xstrdup (name);
  cp->creating = true;
  free (file_name);
  return cp;
}

void
checkpoint_free (struct checkpoint *cp)
{
  TAILQ_REMOVE (&cp->export->checkpoints, cp, entry);
  bmfile_close (&cp->file);
  free (cp->name);
  free (cp->path);
  free (cp);
}

void
checkpoint_remove (struct checkpoint *cp)
{
  remove_file (cp->path);
  checkpoint_free (cp);
}

/* ------------------------------------------------------------------ making */

int
checkpoint_make_file (struct checkpoint *cp, uint64_t disk_size, int *fd,
                      struct failure *failure)
{
  const struct export *ex = cp->export;
  char *live = export_live (ex);
  struct bmfile_params params = {
    .kind = BMFILE_DIRTY, .disk_size = disk_size,
    .cluster_size = ex->hello.cluster_size, .export_name = ex->name,
    .name = cp->name, .live = live,
    .durable = ex->conf && ex->conf->tracking == CONFIG_TRACKING_DURABLE,
  };
  int r = bmfile_create (cp->path, &params, &cp->file);

  *fd = r == 0 ? open (cp->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC) : -1;
  if (*fd != -1 && owner_give_fd (ex->daemon, *fd) == -1) {
    close (*fd);
    *fd = -1;
  }
  if (*fd == -1) {
    failure_set (failure, errno == ENOSPC || errno == EDQUOT ? "no-space"
                 : errno == EEXIST ? "exists" : "failed", "%s: %s", cp->path,
                 strerror (errno));
    if (r == 0)
      remove_file (cp->path);
    bmfile_close (&cp->file);
  }
  free (live);
  return *fd == -1 ? -1 : 0;
}

void
checkpoint_begun (struct checkpoint *cp)
{
  cp->creating = false;
  log_info (&cp->export->daemon->log, "%s: checkpoint %s exists",
            cp->export->name, cp->name);
}

/* True if it was not begun, and cannot be any more. */
static bool
forbid_begin (struct checkpoint *cp)
{
  uint32_t state = BMFILE_PREPARED;

  return atomic_compare_exchange_strong (&cp->file.live->state, &state,
                                         BMFILE_ENDED)
    || state == BMFILE_ENDED;
}

void
checkpoint_call_off (struct checkpoint *cp)
{
  struct failure failure;

  if (!cp->file.fixed)
    checkpoint_free (cp);
  else if (forbid_begin (cp))
    checkpoint_remove (cp);
  else {
    cp->creating = false;
    if (checkpoint_delete (cp, &failure) == -1)
      log_error (&cp->export->daemon->log, "%s", failure.message);
  }
}

int
checkpoint_delete (struct checkpoint *cp, struct failure *failure)
{
  struct export *ex = cp->export;
  char uuid[UUID_SIZE], *path;

  format_uuid (cp->file.fixed->uuid, uuid);
  path = xasprintf ("%s/.%s" SUFFIX, ex->dir, uuid);
  FAILPOINT ("M1");
  if (rename (cp->path, path) == -1) {
    failure_set (failure, "failed", "%s: %s", cp->path, strerror (errno));
    free (path);
    return -1;
  }
  FAILPOINT ("M1+");
  /* Who is told that it is gone shall not see it come back. */
  if (sync_directory_of (path) == -1)
    log_error (&ex->daemon->log, "%s: checkpoint %s may come back after a "
               "crash of the host: %m", ex->name, cp->name);
  log_info (&ex->daemon->log, "%s: checkpoint %s is deleted", ex->name,
            cp->name);
  free (cp->path);
  cp->path = path;
  free (cp->name);
  cp->name = NULL;
  cp->job = NULL;
  chain_tidy (ex);
  return 0;
}

/* ------------------------------------------------------------------- doubt */

const char *
checkpoint_doubt (const struct checkpoint *cp)
{
  static char reason[BMFILE_REASON_SIZE];

  switch (atomic_load (&cp->file.live->state)) {
  case BMFILE_ACTIVE:
  case BMFILE_FROZEN:
    return NULL;
  case BMFILE_INCONSISTENT:
    bmfile_reason (&cp->file, reason);
    return reason[0] ? reason : "it is damaged";
  default:
    return "its file is damaged";
  }
}

void
checkpoint_distrust (struct checkpoint *cp, const char *why)
{
  struct bmfile_live *live = cp->file.live;

  if (checkpoint_doubt (cp))
    return;
  log_warning (&cp->export->daemon->log, "%s: checkpoint %s is inconsistent: "
               "%s", cp->export->name, cp->name ? cp->name : "(deleted)", why);
  snprintf (live->reason, sizeof live->reason, "%s", why);
  atomic_store (&live->state, BMFILE_INCONSISTENT);
  if (bmfile_sync_header (&cp->file) == -1)
    log_error (&cp->export->daemon->log, "%s: %m", cp->path);
}

void
checkpoints_distrust (struct export *ex, const char *why)
{
  struct checkpoint *cp;

  TAILQ_FOREACH (cp, &ex->checkpoints, entry)
    if (!cp->creating)
      checkpoint_distrust (cp, why);
}

/* ----------------------------------------------------------------- loading */

static bool
ends_with (const char *name, const char *suffix)
{
  size_t length = strlen (name), n = strlen (suffix);

  return length > n && strcmp (name + length - n, suffix) == 0;
}

/* What is wrong with a file that could be opened, or NULL.  A deleted one has
 * kept its name inside. */
static const char *
judge (const struct checkpoint *cp)
{
  const struct bmfile_fixed *fixed = cp->file.fixed;

  if (strcmp (fixed->export_name, cp->export->name) != 0)
    return "it is a checkpoint of another export";
  if (cp->name && strcmp (fixed->name, cp->name) != 0)
    return "it is another checkpoint";
  return NULL;
}

/* One that may be sound but cannot be opened now says nothing about itself;
 * nothing is done to it, but none of the chain is believed while we run. */
static bool
is_passing (int err)
{
  return err == EMFILE || err == ENFILE || err == ENOMEM || err == EACCES
    || err == EPERM || err == EIO;
}

static void
put_aside (struct checkpoint *cp, const char *why)
{
  const struct log *log = &cp->export->daemon->log;
  char *bad = xasprintf ("%s.bad", cp->path);

  log_error (log, "%s: a checkpoint is lost: %s: %s; kept as %s",
             cp->export->name, cp->path, why, bad);
  if (rename (cp->path, bad) == -1) {
    log_error (log, "%s: %m", bad);
    free (cp->export->chain_unknown);
    cp->export->chain_unknown = xasprintf ("%s is damaged", cp->path);
  }
  free (bad);
}

/* Returns what is wrong with it, if it is to be put aside, else NULL. */
static const char *
load_one (struct checkpoint *cp)
{
  struct export *ex = cp->export;
  const char *why;

  if (bmfile_open (cp->path, true, BMFILE_DIRTY, &cp->file, &why) == -1) {
    if (!is_passing (errno))
      return why ? why : "cannot be opened";
    free (ex->chain_unknown);
    ex->chain_unknown = xasprintf ("%s: %s", cp->path, strerror (errno));
    log_error (&ex->daemon->log, "%s: no checkpoint can be used: %s",
               ex->name, ex->chain_unknown);
    checkpoint_free (cp);
    return NULL;
  }
  if (!forbid_begin (cp))
    return judge (cp);
  log_info (&ex->daemon->log, "%s: removing what is left of checkpoint %s",
            ex->name, cp->file.fixed->name);
  checkpoint_remove (cp);
  return NULL;
}

static int
older_first (const void *pa, const void *pb)
{
  const struct checkpoint *a = *(struct checkpoint *const *) pa;
  const struct checkpoint *b = *(struct checkpoint *const *) pb;
  int64_t ta = atomic_load (&a->file.live->instant_ns);
  int64_t tb = atomic_load (&b->file.live->instant_ns);

  return ta < tb ? -1 : ta > tb;
}

static void
sort_by_age (struct export *ex)
{
  struct checkpoint **all = NULL, *cp;
  size_t nr = 0, i;

  while ((cp = TAILQ_FIRST (&ex->checkpoints))) {
    TAILQ_REMOVE (&ex->checkpoints, cp, entry);
    all = xrealloc (all, nr + 1, sizeof *all);
    all[nr++] = cp;
  }
  if (nr > 0)
    qsort (all, nr, sizeof *all, older_first);
  for (i = 0; i < nr; i++)
    TAILQ_INSERT_TAIL (&ex->checkpoints, all[i], entry);
  free (all);
}

/* A link of the chain is gone, and only the newest can do without. */
static void
doubt_frozen (struct export *ex, const char *file_name)
{
  struct checkpoint *cp;
  char *why = xasprintf ("%s, which belongs to the same chain, is damaged",
                         file_name);

  TAILQ_FOREACH (cp, &ex->checkpoints, entry)
    if (cp->file.fixed
        && atomic_load (&cp->file.live->state) == BMFILE_FROZEN)
      checkpoint_distrust (cp, why);
  free (why);
}

struct damaged { struct checkpoint *checkpoint; const char *why; };

/* First the doubt is written down, then the file is renamed. */
static void
put_all_aside (struct export *ex, struct damaged *damaged, size_t nr)
{
  size_t i;

  for (i = 0; i < nr; i++) {
    TAILQ_REMOVE (&ex->checkpoints, damaged[i].checkpoint, entry);
    bmfile_close (&damaged[i].checkpoint->file);
  }
  for (i = 0; i < nr; i++) {
    struct checkpoint *cp = damaged[i].checkpoint;

    doubt_frozen (ex, strrchr (cp->path, '/') + 1);
    put_aside (cp, damaged[i].why);
    TAILQ_INSERT_TAIL (&ex->checkpoints, cp, entry);
    checkpoint_free (cp);
  }
}

void
checkpoints_load (struct export *ex)
{
  struct damaged *damaged = NULL;
  DIR *dir = opendir (ex->dir);
  struct checkpoint *cp;
  struct dirent *e;
  const char *why;
  size_t nr = 0;

  while (dir && (e = readdir (dir))) {
    if (!ends_with (e->d_name, SUFFIX))
      continue;
    cp = add (ex, e->d_name);
    if (e->d_name[0] != '.')
      cp->name = xasprintf ("%.*s", (int) (strlen (e->d_name)
                                           - strlen (SUFFIX)), e->d_name);
    why = load_one (cp);
    if (!why)
      continue;
    damaged = xrealloc (damaged, nr + 1, sizeof *damaged);
    damaged[nr++] = (struct damaged) { cp, why };
  }
  if (dir)
    closedir (dir);
  put_all_aside (ex, damaged, nr);
  free (damaged);
  sort_by_age (ex);
}

void
checkpoints_check (struct export *ex)
{
  const struct checkpoint *cp;

  TAILQ_FOREACH (cp, &ex->checkpoints, entry)
    if (cp->name && !cp->creating && checkpoint_doubt (cp))
      log_warning (&ex->daemon->log, "%s: checkpoint %s is inconsistent: %s",
                   ex->name, cp->name, checkpoint_doubt (cp));
  chain_tidy (ex);
}

/* ---------------------------------------------------------- stop and start */

void
checkpoints_release (struct export *ex, const char *path)
{
  struct checkpoint *cp;

  TAILQ_FOREACH (cp, &ex->checkpoints, entry)
    if (!cp->creating
        && atomic_load (&cp->file.live->state) == BMFILE_ACTIVE
        && (atomic_load (&cp->file.live->clean) != BMFILE_CLEAN
            || !bmfile_live_path (&cp->file))
        && bmfile_release (&cp->file, path) == -1)
      log_warning (&ex->daemon->log, "%s: tracking will not outlast a restart "
                   "of the host: %s: %s", ex->name, cp->path,
                   strerror (errno));
}

static bool
is_unchanged (const struct bmfile_identity *then, const char *path)
{
  struct bmfile_identity now;

  return bmfile_identify (path, &now) == 0 && now.dev == then->dev
    && now.ino == then->ino && now.size == then->size
    && now.mtime_ns == then->mtime_ns && now.ctime_ns == then->ctime_ns;
}

void
checkpoints_compare (struct export *ex, const char *path)
{
  struct checkpoint *cp;

  if (!path)
    return;
  TAILQ_FOREACH (cp, &ex->checkpoints, entry)
    if (atomic_load (&cp->file.live->state) == BMFILE_ACTIVE
        && atomic_load (&cp->file.live->clean) == BMFILE_CLEAN
        && !bmfile_live_path (&cp->file)
        && !is_unchanged (&cp->file.live->identity, path)) {
      checkpoints_distrust (ex, "the live disk changed while nothing was in "
                            "front of it");
      return;
    }
}

void
checkpoints_remove (struct export *ex)
{
  char *log = xasprintf ("%s/" ACTLOG_NAME, ex->dir);

  while (!TAILQ_EMPTY (&ex->checkpoints))
    checkpoint_remove (TAILQ_FIRST (&ex->checkpoints));
  remove_file (log);
  free (log);
}
