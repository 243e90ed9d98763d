/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Keeping guests away from a disk that is being restored. */

/* The file STATE/exports/EXPORT/restoring has the token with which the job's
 * copier connects; the filter lets nobody else in as long as it exists
 * (filter/clients.h).  It is written before the copier is started, and outlives
 * all of us: a copier that is started again finds the disk as it left it, and
 * no guest gets in between.
 *
 * When the job has completed it goes.  It goes, too, if nothing was written.
 * Else the disk has parts of what it was and parts of the image, and a guest
 * that found it so might destroy what is left of either; so the file stays, and
 * the job says how to go on.  Another restore takes it over. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "job.h"
#include "owner.h"

#define MARK "restoring"
#define TOKEN "job-"            /* and the job's id */
#define TOKEN_MAX 128

static char *
mark_path (const struct daemon *d, const char *export_name)
{
  return xasprintf ("%s/exports/%s/" MARK, d->config->state_dir, export_name);
}

int
job_keep_out (const struct job *job, struct failure *failure)
{
  char *path = mark_path (job->jobs->daemon, job->export_name);
  char *text = xasprintf (TOKEN "%s\n", job->id);
  int r = write_file (path, text, true) == -1 ? -1
    : owner_give (job->jobs->daemon, path);

  if (r == -1)
    failure_set (failure, "failed", "%s: %s", path, strerror (errno));
  free (text);
  free (path);
  return r;
}

/* The file is of this job. */
static bool
is_own (const struct job *job, const char *path)
{
  char *text = read_file (path, TOKEN_MAX, NULL);
  char *own = xasprintf (TOKEN "%s\n", job->id);
  bool same = text && strcmp (text, own) == 0;

  free (own);
  free (text);
  return same;
}

/* Whether something may have been written. */
static bool
has_written (const struct job *job)
{
  return job->touched || job->before.written + job->before.zero
    + job->now.written + job->now.zero > 0;
}

void
job_let_in (struct job *job, enum job_state state)
{
  char *path, why[sizeof job->error];

  if (job->kind != JOB_RESTORE || !job->export_name)
    return;
  path = mark_path (job->jobs->daemon, job->export_name);
  if (!is_own (job, path))
    ;
  else if (state == JOB_COMPLETED || !has_written (job))
    remove_file (path);
  else {
    snprintf (why, sizeof why, "%s", job->error);
    snprintf (job->error, sizeof job->error, "export %s is only partly "
              "restored, and no client is let in: restore it again, or remove "
              "%s%s%.200s", job->export_name, path, why[0] ? "; " : "", why);
  }
  free (path);
}

char *
job_that_keeps_out (const struct export *ex)
{
  char *path = mark_path (ex->daemon, ex->name);
  char *text = read_file (path, TOKEN_MAX, NULL), *id = NULL;

  if (text && strncmp (text, TOKEN, strlen (TOKEN)) == 0) {
    text[strcspn (text, "\n")] = '\0';
    id = xasprintf ("%s", text + strlen (TOKEN));
  }
  free (text);
  free (path);
  return id;
}

void
job_explain (struct job *job)
{
  if (job->kind == JOB_RESTORE && job->export_name && !has_written (job)
      && strstr (job->error, "@restore-job-")
      && strstr (job->error, ": the server "))
    snprintf (job->error, sizeof job->error, "export %s has a client: stop the "
              "guest, or whatever has it open, and try again",
              job->export_name);
}

const struct job *
jobs_find_restore (const struct jobs *jobs, const struct export *ex)
{
  const struct job *job;

  TAILQ_FOREACH (job, &jobs->list, entry)
    if (job->kind == JOB_RESTORE && job->export_name && !job_has_ended (job)
        && strcmp (job->export_name, ex->name) == 0)
      return job;
  return NULL;
}
