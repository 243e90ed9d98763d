/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* All jobs: those that go on, and those that are remembered. */

/* When a daemon starts, each record says what there is to do; of a backup:
 *
 *   ended                   remove what may still be there, keep the record
 *   created, without uuid   its daemon died while it made the snapshot:
 *                           remove snapshot and record
 *   else, snapshot gone     the job has failed
 *   else                    take over the copier if it runs, take its result
 *                           if there is one, else start it again
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "job.h"
#include "process.h"

#define ENDED_MAX 100           /* docs/control-protocol.md says so */

struct job *
job_find (const struct jobs *jobs, const char *id)
{
  struct job *job;

  TAILQ_FOREACH (job, &jobs->list, entry)
    if (strcmp (job->id, id) == 0)
      return job;
  return NULL;
}

struct json_object *
jobs_json (const struct jobs *jobs, bool all)
{
  struct json_object *array = json_object_new_array ();
  const struct job *job;

  TAILQ_FOREACH (job, &jobs->list, entry)
    if (all || !job_has_ended (job))
      json_object_array_add (array, job_json (job));
  return array;
}

bool
jobs_use_export (const struct jobs *jobs, const struct export *ex)
{
  const struct job *job;

  TAILQ_FOREACH (job, &jobs->list, entry)
    if (!job_has_ended (job) && job->export_name
        && strcmp (job->export_name, ex->name) == 0)
      return true;
  return false;
}

void
jobs_prune (struct jobs *jobs)
{
  struct job *job, *next;
  unsigned ended = 0;

  TAILQ_FOREACH (job, &jobs->list, entry)
    ended += job->cleaned;
  for (job = TAILQ_FIRST (&jobs->list); job && ended > ENDED_MAX;
       job = next) {
    next = TAILQ_NEXT (job, entry);
    if (!job->cleaned)
      continue;
    remove_file (job->record_path);
    job_free (job);
    ended--;
  }
}

/* ------------------------------------------------------------------- start */

static struct snapshot *
find_snapshot (const struct job *job)
{
  struct export *ex = job->export_name
    ? export_find (job->jobs->daemon, job->export_name) : NULL;
  struct snapshot *s = ex && job->snapshot_name ? snapshot_find (ex, job->snapshot_name) : NULL;
  char uuid[UUID_SIZE];

  if (!s || s->state != SNAPSHOT_ACTIVE)
    return NULL;
  format_uuid (s->map.fixed->uuid, uuid);
  return job->uuid[0] == '\0' || strcmp (uuid, job->uuid) == 0 ? s : NULL;
}

static void
remove_left_over (struct job *job)
{
  struct snapshot *s = find_snapshot (job);

  remove_file (job->result_path);
  remove_file (job->bitmap_path);
  if (job->state != JOB_COMPLETED && job->state != JOB_INCOMPLETE)
    job_drop_checkpoint (job);
  if (s && job->kind == JOB_BACKUP)
    snapshot_end (s, NULL, NULL);
}

/* A job that no snapshot is made for. */
static void
take_up_other (struct job *job)
{
  struct failure failure;
  struct snapshot *s = find_snapshot (job);

  job->touched = true;
  job_copier_init (job);
  if (job->snapshot_name && (!s || s->job)) {
    service_adopt (&job->copier); /* to end it */
    job_end (job, JOB_FAILED, "its snapshot is lost");
    return;
  }
  if (job->kind == JOB_RESTORE && job->export_name
      && job_keep_out (job, &failure) == -1)
    log_error (&job->jobs->daemon->log, "job %s: %s", job->id,
               failure.message);
  job->snapshot = s;
  if (s)
    s->job = job;
  job_copier_start (job);
}

static void
take_up (struct job *job)
{
  struct snapshot *s;

  if (job_has_ended (job)) {
    remove_left_over (job);
    job->cleaned = true;
    return;
  }
  if (job->kind != JOB_BACKUP) {
    take_up_other (job);
    return;
  }
  if (job->uuid[0] == '\0') {
    log_info (&job->jobs->daemon->log, "job %s: was never begun, removing "
              "what is left", job->id);
    remove_left_over (job);
    remove_file (job->record_path);
    job_free (job);
    return;
  }
  s = find_snapshot (job);
  job_tie_checkpoint (job, true);
  job_copier_init (job);
  if (!s) {
    service_adopt (&job->copier); /* to end it */
    job_end (job, JOB_FAILED, "its snapshot is lost");
    return;
  }
  job->snapshot = s;
  s->job = job;
  job_copier_start (job);
}

static int
by_number (const void *pa, const void *pb)
{
  const uint64_t *a = pa, *b = pb;

  return *a < *b ? -1 : *a > *b;
}

/* The number of a record's file name, or 0. */
static uint64_t
record_number (const char *name)
{
  char *end;
  uint64_t n;

  if (name[0] < '1' || name[0] > '9')
    return 0;
  errno = 0;
  n = strtoull (name, &end, 10);
  return errno == 0 && strcmp (end, ".json") == 0 ? n : 0;
}

static uint64_t *
find_records (const struct jobs *jobs, size_t *nr)
{
  DIR *dir = opendir (jobs->dir);
  uint64_t *numbers = NULL, n;
  struct dirent *e;

  *nr = 0;
  while (dir && (e = readdir (dir))) {
    n = record_number (e->d_name);
    if (n == 0)
      continue;
    numbers = xrealloc (numbers, *nr + 1, sizeof *numbers);
    numbers[(*nr)++] = n;
  }
  if (dir)
    closedir (dir);
  if (*nr > 0)
    qsort (numbers, *nr, sizeof *numbers, by_number);
  return numbers;
}

static void
load (struct jobs *jobs, uint64_t number)
{
  char id[24];
  const char *why;
  struct job *job;

  snprintf (id, sizeof id, "%" PRIu64, number);
  jobs->last_id = number;
  job = job_read_record (jobs, id, &why);
  if (job)
    take_up (job);
  else
    log_error (&jobs->daemon->log, "job %s is forgotten: %s/%s.json: %s", id,
               jobs->dir, id, why);
}

/* The job that a file JOB.SUFFIX or job-JOB.SUFFIX is about has not ended. */
static bool
is_wanted (const struct jobs *jobs, const char *name)
{
  char id[24];
  const struct job *job;

  snprintf (id, sizeof id, "%.*s", (int) strcspn (name, "."), name);
  job = job_find (jobs, id);
  return job && !job_has_ended (job);
}

/* A copier whose job nobody knows. */
static void
end_stray (struct jobs *jobs, const char *path, const char *file)
{
  char *prefix = xasprintf ("copy:%s:%.*s:", jobs->daemon->config->run_dir,
                            (int) (strlen (file) - strlen (".pid")), file);
  char id[PROCESS_ID_SIZE];
  struct process process;

  if (process_find (path, prefix, &process, id) == 0) {
    log_warning (&jobs->daemon->log, "%s: its job is gone, killing pid %d",
                 path, (int) process.pid);
    process_signal (&process, SIGKILL);
    process_forget (&process);
  }
  free (prefix);
}

/* True if the name is one that a job's file can have, after PREFIX and the id;
 * an export may be called job-5, too. */
static bool
is_job_file (const char *name)
{
  static const char *const suffixes[] = {
    ".copy", ".result", ".progress", ".control", ".copy.pid", ".copy.log",
    ".json.tmp", ".result.new", ".copy.pid.tmp",
  };
  size_t digits = strspn (name, "0123456789"), i;

  for (i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
    if (digits > 0 && strcmp (name + digits, suffixes[i]) == 0)
      return true;
  return false;
}

/* Removes files of jobs that are not there. */
static void
sweep (struct jobs *jobs, const char *dir, const char *prefix)
{
  size_t skip = strlen (prefix), length;
  DIR *d = opendir (dir);
  struct dirent *e;
  char *path;

  while (d && (e = readdir (d))) {
    length = strlen (e->d_name);
    if (strncmp (e->d_name, prefix, skip) != 0
        || !is_job_file (e->d_name + skip)
        || is_wanted (jobs, e->d_name + skip))
      continue;
    path = xasprintf ("%s/%s", dir, e->d_name);
    if (length > 9 && strcmp (e->d_name + length - 9, ".copy.pid") == 0)
      end_stray (jobs, path, e->d_name);
    remove_file (path);
    free (path);
  }
  if (d)
    closedir (d);
}

struct jobs *
jobs_new (struct daemon *d)
{
  struct jobs *jobs = xcalloc (1, sizeof *jobs);
  uint64_t *numbers;
  size_t nr, i;

  jobs->daemon = d;
  jobs->dir = xasprintf ("%s/jobs", d->config->state_dir);
  TAILQ_INIT (&jobs->list);
  numbers = find_records (jobs, &nr);
  for (i = 0; i < nr; i++)
    load (jobs, numbers[i]);
  free (numbers);
  sweep (jobs, jobs->dir, "");
  sweep (jobs, d->config->run_dir, "job-");
  jobs_prune (jobs);
  return jobs;
}

/* --------------------------------------------------------------------- end */

void
jobs_end (struct jobs *jobs)
{
  struct job *job;

  if (!jobs)
    return;
  jobs->ending = true;
  TAILQ_FOREACH (job, &jobs->list, entry)
    if (!job_has_ended (job))
      job_copier_suspend (job);
}

bool
jobs_have_ended (const struct jobs *jobs)
{
  const struct job *job;

  if (jobs)
    TAILQ_FOREACH (job, &jobs->list, entry)
      if (job->copier_used && job->copier.process.pidfd != -1)
        return false;
  return true;
}

void
jobs_free (struct jobs *jobs)
{
  if (!jobs)
    return;
  while (!TAILQ_EMPTY (&jobs->list))
    job_free (TAILQ_FIRST (&jobs->list));
  free (jobs->dir);
  free (jobs);
}
