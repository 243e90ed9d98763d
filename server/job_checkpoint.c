/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What becomes of the checkpoint that a job makes. */

/* Until the job has ended, nobody may build on it:
 *
 *   completed          it stays
 *   incomplete         it stays, and what was not delivered counts as changed
 *                      since: the next incremental brings it
 *   failed, cancelled  it is deleted, by which its changes count for the one
 *                      before: the next incremental since that has it all
 *
 * The second is done before the job's end is on record, the third after, and
 * either may be done twice: a daemon that takes up the record does it again.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "dirty.h"
#include "export.h"
#include "job.h"

static struct checkpoint *
find (const struct job *job)
{
  const struct export *ex = job->checkpoint_uuid[0]
    ? export_find (job->jobs->daemon, job->export_name) : NULL;

  return ex
    ? checkpoint_find_uuid (ex, job->checkpoint_uuid) : NULL;
}

void
job_tie_checkpoint (struct job *job, bool tie)
{
  struct checkpoint *cp = find (job);

  if (cp)
    cp->job = tie ? job : NULL;
}

void
job_drop_checkpoint (struct job *job)
{
  struct checkpoint *cp = find (job);
  struct failure failure;

  if (!cp || !cp->name)
    return;
  cp->job = NULL;
  if (checkpoint_delete (cp, &failure) == -1)
    log_error (&job->jobs->daemon->log, "job %s: %s", job->id,
               failure.message);
}

/* A bitmap that is FROZEN has been flushed, and must be again. */
static int
add (struct checkpoint *cp, const struct bmfile *undelivered)
{
  dirty_add (cp->file.bits[0], cp->file.cluster_bits, undelivered);
  return atomic_load (&cp->file.live->state) == BMFILE_FROZEN
    ? bmfile_settle (&cp->file) : 0;
}

void
job_keep_undelivered (struct job *job)
{
  struct checkpoint *cp = find (job);
  struct bmfile bitmap = { 0 };
  const char *why;

  if (!cp || checkpoint_doubt (cp))
    return;
  if (bmfile_open (job->bitmap_path, false, BMFILE_COPY, &bitmap, &why) == 0
      && bitmap.disk_size == cp->file.disk_size && add (cp, &bitmap) == 0)
    log_info (&job->jobs->daemon->log, "job %s: what was not delivered counts "
              "as changed since %s", job->id, cp->file.fixed->name);
  else
    checkpoint_distrust (cp, "the job that made it was incomplete, and what "
                         "it left out is not known");
  bmfile_close (&bitmap);
}
