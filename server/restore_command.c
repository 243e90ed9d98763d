/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket that need no new snapshot: restore and
 * verify. */

/* What can be refused before anything is made is refused here.  The rest is the
 * copier's to find out, which opens both sides before it writes anything, and
 * the filter's, which lets the copier in or not.
 *
 * A disk that has clients is refused twice: here, for a good message, and by the
 * filter, when a client has come in between.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "job.h"
#include "job_commands.h"

#define STATS_TIMEOUT 5.0       /* seconds */
#define RETRY_MS (60 * 1000)

static void
answer (struct request *request, const struct job *job)
{
  struct json_object *o = json_object_new_object ();

  json_object_object_add (o, "job", job_json (job));
  request_result (request, o);
}

/* A job with what both commands have in common; it is in the list. */
static struct job *
make_job (struct request *request, enum job_kind kind, const char *target,
          struct json_object *args)
{
  struct jobs *jobs = request->daemon->jobs;
  struct job *job;
  char id[24];

  jobs_prune (jobs);
  snprintf (id, sizeof id, "%" PRIu64, ++jobs->last_id);
  job = job_new (jobs, id);
  job->kind = kind;
  free (job->snapshot_name);
  job->snapshot_name = NULL;
  job->target = xstrdup (target);
  job->created_ns = now_ns ();
  job->speed = member_int (args, "speed", 0);
  job->max_requests = member_int (args, "max-requests", 0);
  job->connections = member_int (args, "connections", 0);
  job->on_source_error = xstrdup ("report");
  job->on_target_error = xstrdup ("report");
  job->retry_ms = RETRY_MS;
  return job;
}

/* From here on the job goes on whatever dies. */
static int
start (struct job *job, struct failure *failure)
{
  if (job_write_record (job) == -1) {
    failure_set (failure, "failed", "%s: cannot be written",
                 job->record_path);
    return -1;
  }
  if (job->kind == JOB_RESTORE && job->export_name
      && job_keep_out (job, failure) == -1)
    return -1;
  job_copier_start (job);
  return 0;
}

static void
start_and_answer (struct request *request, struct job *job)
{
  struct failure failure;

  if (start (job, &failure) == 0) {
    answer (request, job);
    return;
  }
  remove_file (job->record_path);
  if (job->snapshot)
    job->snapshot->job = NULL;
  job->snapshot = NULL;
  job_free (job);
  request_failed (request, &failure);
}

/* ----------------------------------------------------------------- restore */

/* A restore to an export, until it is known how many clients that has. */
struct asking {
  struct request *request;
  struct json_object *args;
  char *export_name;
};

static int
check_export (const struct export *ex, struct failure *failure)
{
  const struct job *job = jobs_find_restore (ex->daemon->jobs, ex);

  if (job)
    failure_set (failure, "in-use", "export %s is being restored by job %s",
                 ex->name, job->id);
  else if (jobs_use_export (ex->daemon->jobs, ex))
    failure_set (failure, "in-use", "a job is running on export %s; wait for "
                 "it, or cancel it", ex->name);
  else if (!export_is_up (ex))
    failure_set (failure, "not-running", "export %s is not running: %s",
                 ex->name, export_reason (ex));
  else
    return 0;
  return -1;
}

static void
restore_to_export (const struct asking *a, unsigned clients)
{
  struct export *ex = export_find (a->request->daemon, a->export_name);
  struct failure failure;
  struct job *job;

  if (!ex || !ex->conf) {
    request_error (a->request, "unknown-export", "there is no export %s",
                   a->export_name);
    return;
  }
  if (check_export (ex, &failure) == -1) {
    request_failed (a->request, &failure);
    return;
  }
  if (clients > 0) {
    request_error (a->request, "in-use", "export %s has %u client%s: stop the "
                   "guest, or whatever has it open, and try again", ex->name,
                   clients, clients == 1 ? "" : "s");
    return;
  }
  job = make_job (a->request, JOB_RESTORE, ex->name, a->args);
  job->export_name = xstrdup (ex->name);
  job->source = xstrdup (member_string (a->args, "image"));
  job->allow_incomplete = member_bool (a->args, "allow-incomplete");
  start_and_answer (a->request, job);
}

static void
clients_told (void *opaque, int error, const struct wire_reply *reply, int fd)
{
  struct asking *a = opaque;

  (void) fd;
  if (a->request->daemon->phase == DAEMON_STOPPING)
    request_error (a->request, "stopping", "the daemon is ending");
  else if (error)
    request_error (a->request, "not-running", "export %s: its nbdkit does not "
                   "answer: %s", a->export_name, strerror (error));
  else
    restore_to_export (a, reply->u.stats.clients);
  json_object_put (a->args);
  free (a->export_name);
  free (a);
}

static void
ask_for_clients (struct request *request, struct export *ex,
                 struct json_object *args)
{
  struct filter_client *client = export_client (ex);
  struct wire_request wire;
  struct asking *a;

  if (!client) {
    request_error (request, "not-running", "export %s: its nbdkit does not "
                   "answer", ex->name);
    return;
  }
  a = xcalloc (1, sizeof *a);
  a->request = request;
  a->args = json_object_get (args);
  a->export_name = xstrdup (ex->name);
  wire_request_init (&wire, WIRE_STATS, 0);
  filter_call (client, &wire, NULL, 0, STATS_TIMEOUT, clients_told, a);
}

static void
restore_to_target (struct request *request, const char *target,
                   struct json_object *args)
{
  struct failure failure;
  struct job *job;

  if (target_check (request->daemon->jobs, target, &failure) == -1) {
    request_failed (request, &failure);
    return;
  }
  job = make_job (request, JOB_RESTORE, target, args);
  job->source = xstrdup (member_string (args, "image"));
  job->allow_incomplete = member_bool (args, "allow-incomplete");
  start_and_answer (request, job);
}

void
do_restore (struct request *request, struct json_object *args)
{
  const char *target = member_string (args, "target");
  const char *name = member_string (args, "export");
  struct failure failure;
  struct export *ex;

  if (target_check_readable (member_string (args, "image"), &failure) == -1) {
    request_failed (request, &failure);
    return;
  }
  if (!target == !name) {
    request_error (request, "bad-request", "expected either export or target");
    return;
  }
  if (target)
    restore_to_target (request, target, args);
  else if ((ex = choose_export (request, name)) != NULL) {
    if (check_export (ex, &failure) == -1)
      request_failed (request, &failure);
    else
      ask_for_clients (request, ex, args);
  }
}

/* ------------------------------------------------------------------ verify */

static struct snapshot *
find_snapshot (struct export *ex, const char *name, struct failure *failure)
{
  struct snapshot *s = snapshot_find (ex, name);

  if (!s)
    failure_set (failure, "unknown-snapshot", "export %s has no snapshot %s",
                 ex->name, name);
  else if (s->job)
    failure_set (failure, "in-use", "snapshot %s of export %s is used by job "
                 "%s", name, ex->name, s->job->id);
  else if (s->state != SNAPSHOT_ACTIVE)
    failure_set (failure, "in-use", "snapshot %s of export %s is being %s",
                 name, ex->name, s->state == SNAPSHOT_ENDING ? "deleted"
                 : "created");
  else
    return s;
  return NULL;
}

static void
verify_snapshot (struct request *request, struct json_object *args)
{
  struct export *ex = choose_export (request, member_string (args, "export"));
  const char *target = member_string (args, "target");
  struct failure failure;
  struct snapshot *s;
  struct job *job;

  if (!ex)
    return;
  s = find_snapshot (ex, member_string (args, "snapshot"), &failure);
  if (!s || target_check_readable (target, &failure) == -1) {
    request_failed (request, &failure);
    return;
  }
  job = make_job (request, JOB_VERIFY, target, args);
  job->export_name = xstrdup (ex->name);
  job->snapshot_name = xstrdup (s->name);
  job->instant_ns = atomic_load (&s->map.live->instant_ns);
  format_uuid (s->map.fixed->uuid, job->uuid);
  job->total = s->map.disk_size;
  job->snapshot = s;
  s->job = job;
  start_and_answer (request, job);
}

static void
verify_by_manifest (struct request *request, const char *manifest,
                    const char *target, struct json_object *args)
{
  struct failure failure;
  struct job *job;

  if (target_check_readable (manifest, &failure) == -1
      || target_check_readable (target, &failure) == -1) {
    request_failed (request, &failure);
    return;
  }
  job = make_job (request, JOB_VERIFY, target, args);
  job->manifest = xstrdup (manifest);
  start_and_answer (request, job);
}

/* What a job has delivered: its snapshot is gone, so by its manifest. */
static void
verify_job (struct request *request, const char *id, const char *target,
            struct json_object *args)
{
  const struct job *job = job_find (request->daemon->jobs, id);

  if (!job)
    request_error (request, "unknown-job", "there is no job %s", id);
  else if (!job_has_ended (job))
    request_error (request, "in-use", "job %s has not ended", id);
  else if (job->kind != JOB_BACKUP)
    request_error (request, "bad-state", "job %s is no backup", id);
  else if (job->state != JOB_COMPLETED && job->state != JOB_INCOMPLETE)
    request_error (request, "bad-state", "job %s has not completed: %s", id,
                   job_state_name (job->state));
  else if (!job->manifest)
    request_error (request, "bad-state", "job %s made no manifest, and its "
                   "snapshot is gone", id);
  else
    verify_by_manifest (request, job->manifest, target ? target : job->target,
                        args);
}

void
do_verify (struct request *request, struct json_object *args)
{
  const char *snapshot = member_string (args, "snapshot");
  const char *id = member_string (args, "job");
  const char *manifest = member_string (args, "manifest");
  const char *target = member_string (args, "target");

  if (!!snapshot + !!id + !!manifest != 1
      || !snapshot == !!member_string (args, "export")
      || (!target && !id))
    request_error (request, "bad-request", "expected a target, and either "
                   "export and snapshot, job, or manifest");
  else if (snapshot)
    verify_snapshot (request, args);
  else if (id)
    verify_job (request, id, target, args);
  else
    verify_by_manifest (request, manifest, target, args);
}
