/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The command line of a job's copier. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "backup.h"
#include "export.h"
#include "job.h"

static void
top_argv (const struct export *ex, struct strings *argv)
{
  char *layers = ex->conf ? export_layers (ex) : NULL;

  strings_add (argv, "--top");
  if (layers)
    strings_add (argv, "--top-of=%s", layers);
  free (layers);
}

static void
error_argv (const struct job *job, struct strings *argv)
{
  strings_add (argv, "--retry=%lldms", (long long) job->retry_ms);
  strings_add (argv, "--on-target-error=%s", job->on_target_error);
  /* An action that was not asked for would change what EIO means. */
  if (strcmp (job->on_source_error, "report") != 0)
    strings_add (argv, "--on-source-error=%s", job->on_source_error);
}

/* Where the snapshot is to be read. */
static void
snapshot_argv (const struct job *job, struct strings *argv)
{
  const struct snapshot *snap = job->snapshot;
  char *uri;

  if (bmfile_live_path (&snap->map)) {
    /* The filter may write to the map, and we may read more than it may. */
    if (snap->export->conf
        && snap->export->conf->disk.kind == CONFIG_DISK_RAW)
      strings_add (argv, "--live=file:%s", snap->export->conf->disk.where);
    strings_add (argv, "--");
    strings_add (argv, "map:%s", snap->map_path);
    return;
  }
  uri = backup_unix_uri (job->jobs->daemon, snap->export->name, snap->name);
  strings_add (argv, "--map=%s", snap->map_path);
  strings_add (argv, "--");
  strings_add (argv, "%s", uri);
  free (uri);
}

static void
backup_argv (const struct job *job, struct strings *argv)
{
  const struct export *ex = job->snapshot->export;

  strings_add (argv, "--copy-bitmap=%s", job->bitmap_path);
  strings_add (argv, "--release");
  if (job->since)
    strings_add (argv, "--since=%s,%s", job->since, job->since_uuid);
  if (job->checkpoint)
    strings_add (argv, "--checkpoint=%s,%s", job->checkpoint,
                 job->checkpoint_uuid);
  if (job->backing)
    strings_add (argv, "--backing=%s", job->backing);
  if (job->compress)
    strings_add (argv, "--compress=%s", job->compress);
  if (job->manifest)
    strings_add (argv, "--manifest=%s", job->manifest);
  if (strcmp (job->sync, "top") == 0)
    top_argv (ex, argv);
  if (ex->conf && ex->conf->scratch_limit > 0)
    strings_add (argv, "--scratch-limit=%llu",
                 (unsigned long long) ex->conf->scratch_limit);
  snapshot_argv (job, argv);
  strings_add (argv, "%s", job->target);
}

/* To an export as one of its clients, so that what is restored is a change like
 * any other: snapshots and tracking know of it. */
static void
restore_argv (const struct job *job, struct strings *argv)
{
  const struct export *ex = job->export_name
    ? export_find (job->jobs->daemon, job->export_name) : NULL;
  char *name, *uri;

  strings_add (argv, "--copy-bitmap=%s", job->bitmap_path);
  strings_add (argv, "--new-bitmap");
  if (job->allow_incomplete)
    strings_add (argv, "--allow-incomplete");
  if (!ex) {
    strings_add (argv, "--");
    strings_add (argv, "%s", job->source);
    strings_add (argv, "%s", job->target);
    return;
  }
  name = xasprintf ("%s@restore-job-%s", ex->name, job->id);
  uri = unix_uri (name, ex->socket);
  strings_add (argv, "--same-size");
  strings_add (argv, "--");
  strings_add (argv, "%s", job->source);
  strings_add (argv, "%s", uri);
  free (uri);
  free (name);
}

static void
verify_argv (const struct job *job, struct strings *argv)
{
  strings_add (argv, "--compare");
  if (job->manifest) {
    strings_add (argv, "--");
    strings_add (argv, "manifest:%s", job->manifest);
  }
  else
    snapshot_argv (job, argv);
  strings_add (argv, "%s", job->target);
}

void
job_argv (const struct job *job, struct strings *argv)
{
  strings_add (argv, "%s", job->jobs->daemon->programs.copy);
  strings_add (argv, "--quiet");
  error_argv (job, argv);
  strings_add (argv, "--progress=%s", job->progress_path);
  strings_add (argv, "--control=%s", job->control_path);
  strings_add (argv, "--result=%s", job->result_path);
  if (job->speed > 0)
    strings_add (argv, "--speed=%llu", (unsigned long long) job->speed);
  if (job->max_requests > 0)
    strings_add (argv, "--max-requests=%lld", (long long) job->max_requests);
  if (job->connections > 0)
    strings_add (argv, "--connections=%lld", (long long) job->connections);
  switch (job->kind) {
  case JOB_BACKUP: backup_argv (job, argv); break;
  case JOB_RESTORE: restore_argv (job, argv); break;
  case JOB_VERIFY: verify_argv (job, argv); break;
  }
}
