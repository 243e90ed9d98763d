/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Jobs as JSON: for clients, and on disk. */

/* The record STATE/jobs/ID.json is what clients are shown, and some
 * members more: the uuids of snapshot and checkpoints, and what earlier copiers of the
 * job have counted.
 * It is written when something changes that must not be forgotten, not with
 * every progress; it is replaced as a whole and flushed.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "job.h"
#include "names.h"
#include "status.h"

#define RECORD_MAX 65536

static void
add_or_null (struct json_object *o, const char *key, int64_t n)
{
  json_object_object_add (o, key, n ? json_object_new_int64 (n) : NULL);
}

static void
add_counters (struct json_object *o, const struct job_counters *a,
              const struct job_counters *b)
{
  json_add_int (o, "bytes-read", a->read + b->read);
  json_add_int (o, "bytes-written", a->written + b->written);
  json_add_int (o, "bytes-zero", a->zero + b->zero);
  json_add_int (o, "bytes-skipped", a->skipped + b->skipped);
  json_add_int (o, "bytes-offloaded", a->offloaded + b->offloaded);
  json_add_int (o, "bytes-recopied", a->recopied + b->recopied);
}

static const char *const kinds[] = { "backup", "restore", "verify" };

static void
add_differences (struct json_object *o, const struct job *job)
{
  bool verify = job->kind == JOB_VERIFY;

  json_object_object_add (o, "first-difference", job->first_difference >= 0
                          ? json_object_new_int64 (job->first_difference)
                          : NULL);
  json_object_object_add (o, "bytes-different", verify
                          ? json_object_new_int64 (job->different) : NULL);
  json_object_object_add (o, "clusters-different", verify
                          ? json_object_new_int64 (job->clusters_different)
                          : NULL);
}

struct json_object *
job_json (const struct job *job)
{
  struct json_object *o = json_object_new_object ();
  bool runs = job->copier_used && job->copier.process.pidfd != -1;

  json_add_string (o, "id", job->id);
  json_add_string (o, "kind", kinds[job->kind]);
  json_add_string (o, "export", job->export_name);
  json_add_string (o, "source", job->source);
  json_add_string (o, "target", job->target);
  json_add_string (o, "sync", job->sync);
  json_add_string (o, "backing", job->backing);
  json_add_string (o, "compress", job->compress);
  json_add_string (o, "manifest", job->manifest);
  json_add_string (o, "since", job->since);
  json_add_string (o, "checkpoint", job->checkpoint);
  json_add_string (o, "snapshot", job->snapshot_name);
  json_add_string (o, "state", job_state_name (job->state));
  json_add_string (o, "error", job->error[0] ? job->error : NULL);
  json_add_instant (o, "instant", job->instant_ns);
  json_add_instant (o, "created", job->created_ns);
  json_add_instant (o, "ended", job->ended_ns);
  add_or_null (o, "pid", runs ? job->copier.process.pid : 0);
  json_add_int (o, "restarts", job->restarts
                + (job->copier_used ? job->copier.restarts : 0));
  json_add_int (o, "speed", job->speed);
  add_or_null (o, "max-requests", job->max_requests);
  add_or_null (o, "connections", job->connections);
  json_add_string (o, "on-source-error", job->on_source_error);
  json_add_string (o, "on-target-error", job->on_target_error);
  json_add_int (o, "retry-ms", job->retry_ms);
  add_or_null (o, "bytes-total", job->total);
  json_add_int (o, "bytes-done", job->done);
  add_counters (o, &job->before, &job->now);
  json_add_int (o, "bytes-lost", job->lost);
  json_add_int (o, "bytes-per-second", job->per_second);
  json_object_object_add (o, "eta-seconds", job->eta >= 0
                          ? json_object_new_int64 (job->eta) : NULL);
  json_add_string (o, "offload", job->offload[0] ? job->offload : NULL);
  json_object_object_add (o, "guest-copies", json_object_get (job->copies));
  add_differences (o, job);
  return o;
}

int
job_write_record (const struct job *job)
{
  static const struct job_counters none;
  struct json_object *o = job_json (job);
  struct json_object *before = json_object_new_object ();
  int r;

  add_counters (before, &job->before, &none);
  json_object_object_add (o, "before", before);
  json_object_object_add (o, "allow-incomplete",
                          json_object_new_boolean (job->allow_incomplete));
  json_add_string (o, "snapshot-uuid", job->uuid);
  json_add_string (o, "since-uuid", job->since_uuid);
  json_add_string (o, "checkpoint-uuid", job->checkpoint_uuid);
  r = write_file (job->record_path, json_object_to_json_string_ext
                  (o, JSON_C_TO_STRING_PRETTY
                   | JSON_C_TO_STRING_NOSLASHESCAPE), true);
  if (r == -1)
    log_error (&job->jobs->daemon->log, "job %s: %s: %m", job->id,
               job->record_path);
  json_object_put (o);
  return r;
}

/* ---------------------------------------------------------------- reading */

static const char *
get_string (struct json_object *o, const char *key)
{
  struct json_object *v;

  return json_object_object_get_ex (o, key, &v)
    && json_object_is_type (v, json_type_string)
    ? json_object_get_string (v) : "";
}

static int64_t
get_int (struct json_object *o, const char *key)
{
  struct json_object *v;

  return json_object_object_get_ex (o, key, &v)
    && json_object_is_type (v, json_type_int) ? json_object_get_int64 (v) : 0;
}

static void
get_counters (struct json_object *o, struct job_counters *c)
{
  c->read = get_int (o, "bytes-read");
  c->written = get_int (o, "bytes-written");
  c->zero = get_int (o, "bytes-zero");
  c->skipped = get_int (o, "bytes-skipped");
  c->offloaded = get_int (o, "bytes-offloaded");
  c->recopied = get_int (o, "bytes-recopied");
}

/* now is set so that before + now is what the record shows. */
static void
get_progress (struct json_object *o, struct job *job)
{
  struct json_object *before = NULL;
  struct job_counters sum;

  get_counters (o, &sum);
  json_object_object_get_ex (o, "before", &before);
  if (json_object_is_type (before, json_type_object))
    get_counters (before, &job->before);
  job->now = (struct job_counters) {
    .read = sum.read - job->before.read,
    .written = sum.written - job->before.written,
    .zero = sum.zero - job->before.zero,
    .skipped = sum.skipped - job->before.skipped,
    .offloaded = sum.offloaded - job->before.offloaded,
    .recopied = sum.recopied - job->before.recopied,
  };
  job->total = get_int (o, "bytes-total");
  job->done = get_int (o, "bytes-done");
  job->lost = get_int (o, "bytes-lost");
  job->per_second = get_int (o, "bytes-per-second");
  snprintf (job->offload, sizeof job->offload, "%s",
            get_string (o, "offload"));
}

static char *
get_name (struct json_object *o, const char *key)
{
  const char *name = get_string (o, key);

  return name[0] ? xstrdup (name) : NULL;
}

/* One of the words of an action; a record that does not have it says what was
 * done before there were others. */
static char *
get_action (struct json_object *o, const char *key)
{
  const char *action = get_string (o, key);

  return xstrdup (action[0] ? action : "report");
}

/* A record without it is of a time when there were only backups. */
static enum job_kind
get_kind (struct json_object *o)
{
  unsigned i;

  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
    if (strcmp (get_string (o, "kind"), kinds[i]) == 0)
      return i;
  return JOB_BACKUP;
}

/* What restores and verifications have of their own. */
static void
get_other (struct json_object *o, struct job *job)
{
  struct json_object *v;

  if (job->kind == JOB_BACKUP)
    return;
  free (job->snapshot_name);
  job->snapshot_name = get_name (o, "snapshot");
  job->allow_incomplete = json_object_object_get_ex (o, "allow-incomplete", &v)
    && json_object_get_boolean (v);
  if (json_object_object_get_ex (o, "first-difference", &v) && v)
    job->first_difference = json_object_get_int64 (v);
  job->different = get_int (o, "bytes-different");
  job->clusters_different = get_int (o, "clusters-different");
}

static void
get_rest (struct json_object *o, struct job *job)
{
  struct json_object *copies;

  job->export_name = get_name (o, "export");
  job->source = get_name (o, "source");
  job->target = xstrdup (get_string (o, "target"));
  job->sync = get_name (o, "sync");
  job->backing = get_name (o, "backing");
  job->compress = get_name (o, "compress");
  job->manifest = get_name (o, "manifest");
  job->since = get_name (o, "since");
  job->checkpoint = get_name (o, "checkpoint");
  snprintf (job->error, sizeof job->error, "%s", get_string (o, "error"));
  snprintf (job->uuid, sizeof job->uuid, "%s",
            get_string (o, "snapshot-uuid"));
  snprintf (job->since_uuid, sizeof job->since_uuid, "%s",
            get_string (o, "since-uuid"));
  snprintf (job->checkpoint_uuid, sizeof job->checkpoint_uuid, "%s",
            get_string (o, "checkpoint-uuid"));
  job->instant_ns = get_int (o, "instant-ns");
  job->created_ns = get_int (o, "created-ns");
  job->ended_ns = get_int (o, "ended-ns");
  job->restarts = get_int (o, "restarts");
  job->speed = get_int (o, "speed");
  job->max_requests = get_int (o, "max-requests");
  job->connections = get_int (o, "connections");
  job->on_source_error = get_action (o, "on-source-error");
  job->on_target_error = get_action (o, "on-target-error");
  job->retry_ms = get_int (o, "retry-ms");
  if (json_object_object_get_ex (o, "guest-copies", &copies))
    job->copies = json_object_get (copies);
}

struct job *
job_read_record (struct jobs *jobs, const char *id, const char **why)
{
  char *path = xasprintf ("%s/%s.json", jobs->dir, id);
  char *text = read_file (path, RECORD_MAX, NULL);
  struct json_object *o = text ? json_tokener_parse (text) : NULL;
  struct job *job = NULL;
  int state;

  *why = !text ? "it cannot be read" : "it is damaged";
  state = json_object_is_type (o, json_type_object)
    ? job_state_of_name (get_string (o, "state")) : -1;
  if (state != -1 && (get_kind (o) != JOB_BACKUP
                      || name_ok (get_string (o, "export")))) {
    job = job_new (jobs, id);
    job->state = state;
    job->kind = get_kind (o);
    get_rest (o, job);
    get_other (o, job);
    get_progress (o, job);
  }
  json_object_put (o);
  free (text);
  free (path);
  return job;
}
