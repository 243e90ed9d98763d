/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Removing the links of a chain that have lost their names. */

/* What can be done with one depends on where it is:
 *
 *   the oldest, FROZEN   nothing needs its bits: it is removed
 *   in between, FROZEN   its bits are added to the one before, which is then
 *                        flushed; the one after is linked to that; only then
 *                        it is removed
 *   INCONSISTENT         the same, but what the one before gets is the doubt
 *   the newest, ACTIVE   stays, as long as something before it has a name;
 *                        else the filter is told to stop tracking it, after
 *                        which it is FROZEN
 *
 * The steps: the file is renamed, by which it loses its name (M1), its bits are
 * added to the one before (M2), that is flushed (M3), the one after is linked to
 * it (M4), and the file is removed (M5).  Killed anywhere, what is left counts a change twice and not never.
 *
 * The filter stops tracking only the file whose uuid it is told.  If a new
 * checkpoint begins just then, either that follows the deleted file, which
 * the filter then finds not to be its own any more, or it follows nothing;
 * both are right, so creating and deleting need not wait for each other.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broken.h"
#include "chain.h"
#include "dirty.h"
#include "export.h"
#include "work.h"

#define UNTRACK_TIMEOUT 60.0    /* seconds */

/* Adding one file to another, on a thread. */
struct merge {
  struct export *export;
  struct checkpoint *from, *into; /* of the loop's thread */
  struct bmfile from_file, into_file;
  int error;
};

static uint32_t
state_of (const struct checkpoint *cp)
{
  return atomic_load (&cp->file.live->state);
}

/* Whoever comes after `from' comes after `into' now. */
static int
link_past (struct checkpoint *from, const struct checkpoint *into)
{
  struct checkpoint *next = TAILQ_NEXT (from, entry);

  if (!next || !next->file.fixed
      || memcmp (next->file.live->prev, from->file.fixed->uuid, 16) != 0)
    return 0;
  memcpy (next->file.live->prev, into->file.fixed->uuid, 16);
  return bmfile_sync_header (&next->file);
}

static void
finish (struct merge *m)
{
  struct export *ex = m->export;

  FAILPOINT ("M4");
  if (m->error == 0 && link_past (m->from, m->into) == -1)
    m->error = errno;
  FAILPOINT ("M5");
  if (m->error == 0)
    checkpoint_remove (m->from);
  else
    log_error (&ex->daemon->log, "%s: %s cannot be merged, and stays: %s",
               ex->name, m->from->path, strerror (m->error));
  ex->merging = false;
  FAILPOINT ("M5+");
  if (m->error == 0)
    chain_tidy (ex);
  export_next_step (ex);
  free (m);
}

static void
run_merge (void *opaque)
{
  struct merge *m = opaque;

  FAILPOINT ("M2");
  if (!BROKEN (NO_MERGE))
    dirty_add (m->into_file.bits[0], m->into_file.cluster_bits, &m->from_file);
  FAILPOINT ("M3");
  if (!bmfile_is_whole (&m->from_file) || !bmfile_is_whole (&m->into_file))
    m->error = EIO;
  else if (bmfile_settle (&m->into_file) == -1)
    m->error = errno;
}

static void
merged (void *opaque)
{
  struct merge *m = opaque;

  bmfile_close (&m->from_file);
  bmfile_close (&m->into_file);
  finish (m);
}

static void
pass_doubt_on (const struct checkpoint *from, struct checkpoint *into)
{
  char why[256];

  snprintf (why, sizeof why, "the deleted checkpoint %s after it was "
            "inconsistent: %.120s", from->file.fixed->name,
            checkpoint_doubt (from));
  checkpoint_distrust (into, why);
}

static void
merge (struct checkpoint *from, struct checkpoint *into)
{
  struct export *ex = from->export;
  struct merge *m = xcalloc (1, sizeof *m);
  const char *why;

  *m = (struct merge) { .export = ex, .from = from, .into = into };
  ex->merging = true;
  if (from->file.disk_size != into->file.disk_size)
    checkpoint_distrust (into, "the size of the disk changed");
  else if (checkpoint_doubt (from))
    pass_doubt_on (from, into);
  if (checkpoint_doubt (into)) {
    finish (m);
    return;
  }
  if (bmfile_open (from->path, false, BMFILE_DIRTY, &m->from_file, &why) == 0
      && bmfile_open (into->path, true, BMFILE_DIRTY, &m->into_file,
                      &why) == 0) {
    work_start (ex->daemon, run_merge, merged, m);
    return;
  }
  m->error = errno;
  merged (m);
}

static void
untracked (void *opaque, int error, const struct wire_reply *reply, int fd)
{
  struct export *ex = opaque;

  (void) reply;
  if (fd != -1)
    close (fd);
  ex->untracking = false;
  if (error == 0)
    chain_tidy (ex);
  else                          /* another has begun, or comes up again */
    log_debug (&ex->daemon->log, "%s: cannot stop tracking: %s", ex->name,
               strerror (error));
  export_next_step (ex);
}

/* Nothing is left that anybody could ask for. */
static void
untrack (struct checkpoint *cp)
{
  struct export *ex = cp->export;
  struct filter_client *client = NULL;
  struct wire_request request;

  if (!export_is_up (ex) || ex->untracking)
    return;                     /* checkpoints_check comes again */
  client = export_client (ex);
  if (!client)
    return;
  wire_request_init (&request, WIRE_UNTRACK, 0);
  memcpy (request.uuid, cp->file.fixed->uuid, sizeof request.uuid);
  ex->untracking = true;
  filter_call (client, &request, NULL, 0, UNTRACK_TIMEOUT, untracked, ex);
}

/* The first without a name that is not merely kept, or NULL; *before is the
 * one before it. */
static struct checkpoint *
next_to_go (struct export *ex, struct checkpoint **before)
{
  struct checkpoint *cp;

  *before = NULL;
  TAILQ_FOREACH (cp, &ex->checkpoints, entry) {
    if (cp->creating)
      return NULL;
    if (!cp->name && !(*before && state_of (cp) == BMFILE_ACTIVE))
      return cp;
    *before = cp;
  }
  return NULL;
}

void
chain_tidy (struct export *ex)
{
  struct checkpoint *cp, *before;

  if (ex->merging || ex->chain_unknown)
    return;
  while ((cp = next_to_go (ex, &before))) {
    if (before)
      merge (cp, before);       /* and goes on from there */
    else if (state_of (cp) == BMFILE_ACTIVE)
      untrack (cp);
    else {
      checkpoint_remove (cp);
      continue;
    }
    return;
  }
}
