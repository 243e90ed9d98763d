/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The states of a job, and its end. */

/* The states, and the ways from one to another, are in common/jobstate.h.
 * Progress comes over a pipe that drops lines when it is full, so what we hear
 * may skip states: those in between are made up for.
 *
 * A job that ends is written down as ended first; then its snapshot, its
 * bitmap, its pipes (and its checkpoint, if it failed: job_checkpoint.c) go; then those who wait are told.  A daemon that dies in
 * between finds the record, and does the rest.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broken.h"
#include "control.h"
#include "export.h"
#include "job.h"

bool
job_has_ended (const struct job *job)
{
  return job->state >= JOB_COMPLETED;
}

const char *
job_id (const struct job *job)
{
  return job->id;
}

static void
move_to (struct job *job, enum job_state state)
{
  log_info (&job->jobs->daemon->log, "job %s: %s -> %s%s%s", job->id,
            job_state_name (job->state), job_state_name (state),
            job->error[0] ? ": " : "", job->error);
  job->state = state;
}

void
job_set_state (struct job *job, enum job_state state)
{
  enum job_state next;

  if (state == job->state)
    return;
  while (job->state != state) {
    next = job_state_step (job->state, state);
    if (next == job->state) {
      log_warning (&job->jobs->daemon->log, "job %s: from %s to %s: refused",
                   job->id, job_state_name (job->state),
                   job_state_name (state));
      return;
    }
    move_to (job, next);
  }
  job_write_record (job);
  job_changed (job);
}

void
job_changed (struct job *job)
{
  struct waiter *w, *next;
  struct json_object *event;

  /* A client that is found gone takes its waiter with it. */
  for (w = TAILQ_FIRST (&job->waiters); w; w = next) {
    next = TAILQ_NEXT (w, entry);
    if (!w->progress)
      continue;
    event = json_object_new_object ();
    json_object_object_add (event, "job", job_json (job));
    request_event (w->request, event);
  }
}

/* Nothing of it is left but its record. */
static void
is_cleaned (struct job *job)
{
  struct waiter *w;
  struct json_object *o;

  job->cleaned = true;
  while ((w = TAILQ_FIRST (&job->waiters))) {
    TAILQ_REMOVE (&job->waiters, w, entry);
    o = json_object_new_object ();
    json_object_object_add (o, "job", job_json (job));
    request_result (w->request, o);
    free (w);
  }
}

static void
snapshot_has_gone (void *opaque)
{
  is_cleaned (opaque);
}

/* The journal of a manifest that will not be written (copier/digests.h). */
static void
remove_journal (const struct job *job)
{
  char *path = xasprintf ("%s.part", job->manifest), magic[9] = "";
  FILE *f = fopen (path, "re");

  if (f && fgets (magic, sizeof magic, f) && strcmp (magic, "FLEECEMJ") == 0)
    remove_file (path);
  if (f)
    fclose (f);
  free (path);
}

static void
remove_files (struct job *job)
{
  if (job->manifest && job->kind == JOB_BACKUP)
    remove_journal (job);
  remove_file (job->result_path);
  remove_file (job->bitmap_path);
  remove_file (job->progress_path);
  remove_file (job->control_path);
}

void
job_end (struct job *job, enum job_state state, const char *error)
{
  struct snapshot *s = job->snapshot;

  if (job_has_ended (job))
    return;
  if (error != job->error)
    snprintf (job->error, sizeof job->error, "%s", error);
  job->ended_ns = now_ns ();
  job->eta = -1;
  job_count_copies (job);
  FAILPOINT ("J5");
  if (state == JOB_INCOMPLETE)
    job_keep_undelivered (job);
  job_let_in (job, state);
  job_set_state (job, state);
  FAILPOINT ("J6");
  job_copier_free (job);
  if (state == JOB_FAILED || state == JOB_CANCELLED)
    job_drop_checkpoint (job);
  else
    job_tie_checkpoint (job, false);
  FAILPOINT ("J7");
  remove_files (job);
  FAILPOINT ("J7+");
  job->snapshot = NULL;
  if (s)
    s->job = NULL;
  if (s && job->kind == JOB_BACKUP)
    snapshot_end (s, snapshot_has_gone, job);
  else
    is_cleaned (job);
}

void
jobs_snapshot_lost (struct snapshot *s, const char *why)
{
  struct job *job = s->job;
  char error[512];

  if (!job)
    return;
  s->job = NULL;
  job->snapshot = NULL;
  snprintf (error, sizeof error, "its snapshot is lost: %s", why);
  job_end (job, JOB_FAILED, error);
}

struct job *
job_new (struct jobs *jobs, const char *id)
{
  struct job *job = xcalloc (1, sizeof *job);
  const char *run = jobs->daemon->config->run_dir;

  job->jobs = jobs;
  job->id = xstrdup (id);
  job->snapshot_name = xasprintf ("job-%s", id);
  job->record_path = xasprintf ("%s/%s.json", jobs->dir, id);
  job->bitmap_path = xasprintf ("%s/%s.copy", jobs->dir, id);
  job->result_path = xasprintf ("%s/%s.result", jobs->dir, id);
  job->progress_path = xasprintf ("%s/job-%s.progress", run, id);
  job->control_path = xasprintf ("%s/job-%s.control", run, id);
  job->eta = -1;
  job->first_difference = -1;
  job->progress_fd = job->control_fd = -1;
  TAILQ_INIT (&job->waiters);
  TAILQ_INSERT_TAIL (&jobs->list, job, entry);
  return job;
}

void
job_free (struct job *job)
{
  struct waiter *w;

  if (job->jobs->ending) {
    remove_file (job->progress_path);
    remove_file (job->control_path);
  }
  job_copier_free (job);
  if (job->snapshot)
    job->snapshot->job = NULL;
  job_tie_checkpoint (job, false);
  while ((w = TAILQ_FIRST (&job->waiters))) {
    TAILQ_REMOVE (&job->waiters, w, entry);
    request_error (w->request, "stopping", "the daemon is ending");
    free (w);
  }
  TAILQ_REMOVE (&job->jobs->list, job, entry);
  free (job->id);
  free (job->export_name);
  free (job->source);
  free (job->backing);
  free (job->compress);
  free (job->manifest);
  free (job->target);
  free (job->sync);
  json_object_put (job->copies);
  free (job->since);
  free (job->checkpoint);
  free (job->on_source_error);
  free (job->on_target_error);
  free (job->snapshot_name);
  free (job->record_path);
  free (job->bitmap_path);
  free (job->result_path);
  free (job->progress_path);
  free (job->control_path);
  free (job);
}
