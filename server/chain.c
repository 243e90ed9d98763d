/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Judging and adding up the files of an export's checkpoints. */

/* An incremental backup that leaves out a changed cluster is wrong without
 * anybody noticing, so a chain is believed only if everything fits:
 *
 *   - no file of it is INCONSISTENT
 *   - each, but the first, says that it follows one of the others; the filter
 *     has written that at the flip, and a merge changes it
 *   - the last one is the filter's at the end of the time in question: it is
 *     ACTIVE, or the checkpoint made at that instant follows it
 *   - the disk has kept its size
 *
 * The order is that of the instants, which the filter makes rise whatever the
 * clock does; if it were not, the second rule would fail.
 *
 * All this is asked after the flip, in one go: the bits of the files that are
 * found then have been set before, and later ones do no harm.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "dirty.h"
#include "export.h"

static bool
follows (const struct checkpoint *cp, const struct checkpoint *before)
{
  return memcmp (cp->file.live->prev, before->file.fixed->uuid, 16) == 0;
}

/* True if cp follows one of since to the one before cp.  It may not be the
 * last of these: a merge links the files before it removes one. */
static bool
is_linked (const struct checkpoint *cp, const struct checkpoint *since)
{
  const struct checkpoint *before;

  for (before = since; before != cp; before = TAILQ_NEXT (before, entry))
    if (follows (cp, before))
      return true;
  return false;
}

/* Where the files of a chain end: `until', or one that is being begun. */
static bool
is_end (const struct checkpoint *cp, const struct checkpoint *until)
{
  return !cp || cp == until || cp->creating;
}

/* The filter had `last' until `end' began, or has it still. */
static bool
is_current (const struct checkpoint *last, const struct checkpoint *end,
            const struct checkpoint *until)
{
  if (end && end == until)
    return follows (end, last);
  return atomic_load (&last->file.live->state) == BMFILE_ACTIVE
    || (end && end->file.fixed && follows (end, last));
}

/* What is wrong with one file of the chain; NULL if nothing is. */
static const char *
judge (const struct checkpoint *cp, const struct checkpoint *since,
       uint64_t disk_size)
{
  if (checkpoint_doubt (cp))
    return checkpoint_doubt (cp);
  if (disk_size && cp->file.disk_size != disk_size)
    return "the size of the disk changed";
  if (cp != since && !is_linked (cp, since))
    return "a file of the checkpoint before it is missing";
  return NULL;
}

bool
chain_doubt (const struct checkpoint *since, const struct checkpoint *until,
             uint64_t disk_size, char *why, size_t size)
{
  const struct export *ex = since->export;
  const struct checkpoint *cp, *last = since;
  const char *doubt;

  if (ex->chain_unknown) {
    snprintf (why, size, "%s", ex->chain_unknown);
    return true;
  }
  for (cp = since; !is_end (cp, until); cp = TAILQ_NEXT (cp, entry)) {
    last = cp;
    doubt = judge (cp, since, disk_size);
    if (!doubt)
      continue;
    if (cp == since)
      snprintf (why, size, "%s", doubt);
    else
      snprintf (why, size, "a later checkpoint, %s, is inconsistent: %s",
                cp->file.fixed->name, doubt);
    return true;
  }
  if (is_current (last, cp, until))
    return false;
  snprintf (why, size, "changes are not tracked any more");
  return true;
}

int
chain_check (const struct checkpoint *since, const struct checkpoint *until,
             uint64_t disk_size, struct failure *failure)
{
  const char *name = since->export->name;
  char why[400];

  if (!chain_doubt (since, until, disk_size, why, sizeof why))
    return 0;
  failure_set (failure, "inconsistent", "export %s: checkpoint %s cannot be "
               "used: %s; make a full backup", name, since->name, why);
  return -1;
}

int
chain_open (const struct checkpoint *since, const struct checkpoint *until,
            struct chain *chain, struct failure *failure)
{
  const struct checkpoint *cp;
  const char *why;

  *chain = (struct chain) { 0 };
  for (cp = since; !is_end (cp, until); cp = TAILQ_NEXT (cp, entry)) {
    chain->files = xrealloc (chain->files, chain->nr + 1,
                             sizeof *chain->files);
    if (bmfile_open (cp->path, false, BMFILE_DIRTY, &chain->files[chain->nr],
                     &why) == -1) {
      failure_set (failure, "failed", "%s: %s: %s", cp->path, why,
                   strerror (errno));
      chain_close (chain);
      return -1;
    }
    chain->nr++;
  }
  return 0;
}

void
chain_close (struct chain *chain)
{
  while (chain->nr > 0)
    bmfile_close (&chain->files[--chain->nr]);
  free (chain->files);
  chain->files = NULL;
}

int
chain_add_to (const struct chain *chain, bm_word *bits, unsigned cluster_bits)
{
  size_t i;
  int r = 0;

  for (i = 0; i < chain->nr; i++) {
    dirty_add (bits, cluster_bits, &chain->files[i]);
    if (!bmfile_is_whole (&chain->files[i]))
      r = -1;
  }
  if (r == -1)
    errno = EIO;
  return r;
}
