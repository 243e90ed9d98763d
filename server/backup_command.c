/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The command of the control socket that starts jobs. */

/* Everything that can be refused is refused here, before anything is made.
 * What is asked about checkpoints is asked again after the instant, since only
 * then the answer counts; what is caught here costs nothing, though.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "export.h"
#include "job.h"
#include "job_commands.h"
#include "names.h"
#include "status.h"

#define PLACE "{export}"        /* in a target */

/* How long a copier tries to get back to a server that went away: our own,
 * which is started again, or the target's. */
#define RETRY_MS (60 * 1000)

/* What is asked of each job. */
struct order {
  struct request *request;
  struct json_object *args;
  const char *target, *sync, *since, *checkpoint;
  const char *on_source_error, *on_target_error;
  const char *backing, *compress, *manifest;
  struct chosen chosen;
  struct export **exports;      /* of chosen */
  char *targets[EXPORTS_MAX];
  size_t nr;
};

static int
bad_request (struct failure *failure, const char *what)
{
  failure_set (failure, "bad-request", "%s", what);
  return -1;
}

/* A checkpoint to start from says what to copy. */
static int
choose_sync (struct order *o, struct failure *failure)
{
  static const char *const words[] = { "full", "top", "incremental", NULL };
  size_t i;

  if (!o->sync)
    o->sync = o->since ? "incremental" : "full";
  for (i = 0; words[i] && strcmp (words[i], o->sync) != 0; i++)
    ;
  if (!words[i])
    return bad_request (failure, "sync: expected full, top or incremental");
  if (strcmp (o->sync, "incremental") == 0 && !o->since)
    return bad_request (failure, "sync: incremental needs a checkpoint to "
                        "start from, in since");
  if (strcmp (o->sync, "incremental") != 0 && o->since)
    return bad_request (failure, "since goes with sync incremental");
  return 0;
}

static int
check_action (const char *key, const char **action, struct failure *failure)
{
  static const char *const words[] = { "report", "stop", "ignore", "enospc" };
  size_t i;

  if (!*action)
    *action = words[0];
  for (i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcmp (words[i], *action) == 0)
      return 0;
  failure_set (failure, "bad-request", "%s: expected report, stop, ignore or "
               "enospc", key);
  return -1;
}

static int
check_since (const struct order *o, const struct export *ex,
             struct failure *failure)
{
  const struct checkpoint *cp;

  if (!o->since)
    return 0;
  cp = checkpoint_find (ex, o->since);
  if (!cp)
    failure_set (failure, "unknown-checkpoint", "export %s has no checkpoint "
                 "%s; make a full backup", ex->name, o->since);
  else if (cp->creating || cp->busy || cp->job)
    failure_set (failure, "in-use", "checkpoint %s of export %s is still "
                 "being made", o->since, ex->name);
  else
    return chain_check (cp, NULL, 0, failure);
  return -1;
}

static int
check_checkpoint (const struct order *o, const struct export *ex,
                  struct failure *failure)
{
  if (!o->checkpoint)
    return 0;
  if (!name_ok (o->checkpoint))
    failure_set (failure, "bad-name", "'%s' is no name for a checkpoint; "
                 "expected " NAME_RULE, o->checkpoint);
  else if (checkpoint_find (ex, o->checkpoint))
    failure_set (failure, "exists", "export %s: checkpoint %s exists already",
                 ex->name, o->checkpoint);
  else
    return 0;
  return -1;
}

/* The target of one export, with its name put in; the caller frees it. */
static char *
fill_in (const char *target, const char *name)
{
  const char *place = strstr (target, PLACE);
  char *filled, *rest;

  if (!place)
    return xstrdup (target);
  rest = fill_in (place + strlen (PLACE), name);
  filled = xasprintf ("%.*s%s%s", (int) (place - target), target, name, rest);
  free (rest);
  return filled;
}

/* What goes with images in qcow2 format only. */
static int
check_qcow2 (const struct order *o, struct failure *failure)
{
  if ((o->backing || o->compress) && strncmp (o->target, "qcow2:", 6) != 0)
    return bad_request (failure, "backing and compress go with a qcow2: target");
  if (o->compress && strcmp (o->compress, "zlib") != 0
      && strcmp (o->compress, "zstd") != 0)
    return bad_request (failure, "compress: expected zlib or zstd");
  if (o->nr > 1 && o->backing && !strstr (o->backing, PLACE))
    return bad_request (failure, "backing: several exports need " PLACE
                        " in it");
  if (o->nr > 1 && o->manifest && !strstr (o->manifest, PLACE))
    return bad_request (failure, "manifest: several exports need " PLACE
                        " in it");
  return 0;
}

/* Backing file and manifest of one export. */
static int
check_files (const struct order *o, size_t i, struct failure *failure)
{
  const struct jobs *jobs = o->request->daemon->jobs;
  char *backing = o->backing ? fill_in (o->backing, o->exports[i]->name) : NULL;
  char *manifest = o->manifest ? fill_in (o->manifest, o->exports[i]->name)
    : NULL;
  int r = 0;

  if (backing)
    r = target_check_readable (backing, failure);
  if (r == 0 && manifest && manifest[0] != '/')
    r = bad_request (failure, "manifest: expected an absolute path");
  if (r == 0 && manifest)
    r = target_check (jobs, manifest, failure);
  free (backing);
  free (manifest);
  return r;
}

/* What is being restored is neither what it was nor what it is to be. */
static int
check_restore (const struct export *ex, struct failure *failure)
{
  const struct job *job = jobs_find_restore (ex->daemon->jobs, ex);

  if (!job)
    return 0;
  failure_set (failure, "in-use", "export %s is being restored by job %s",
               ex->name, job->id);
  return -1;
}

static int
check_order (struct order *o, struct failure *failure)
{
  const struct jobs *jobs = o->request->daemon->jobs;
  size_t i;

  if (choose_sync (o, failure) == -1
      || check_action ("on-source-error", &o->on_source_error, failure) == -1
      || check_action ("on-target-error", &o->on_target_error, failure) == -1)
    return -1;
  if (o->nr > 1 && !strstr (o->target, PLACE)) {
    failure_set (failure, "bad-target", "%s: several exports need " PLACE
                 " in it", o->target);
    return -1;
  }
  if (check_qcow2 (o, failure) == -1)
    return -1;
  for (i = 0; i < o->nr; i++) {
    o->targets[i] = fill_in (o->target, o->exports[i]->name);
    if (check_restore (o->exports[i], failure) == -1
        || check_since (o, o->exports[i], failure) == -1
        || check_checkpoint (o, o->exports[i], failure) == -1
        || target_check (jobs, o->targets[i], failure) == -1
        || check_files (o, i, failure) == -1)
      return -1;
  }
  return 0;
}

/* Numbers from 1 on; one that is not taken by a snapshot of that name. */
static struct job *
make_job (const struct order *o, size_t i)
{
  const struct export *ex = o->exports[i];
  struct jobs *jobs = o->request->daemon->jobs;
  char id[24], name[32];
  struct job *job;

  do {
    snprintf (id, sizeof id, "%" PRIu64, ++jobs->last_id);
    snprintf (name, sizeof name, "job-%s", id);
  } while (snapshot_find (ex, name));
  job = job_new (jobs, id);
  job->export_name = xstrdup (ex->name);
  job->target = xstrdup (o->targets[i]);
  job->sync = xstrdup (o->sync);
  job->backing = o->backing ? fill_in (o->backing, ex->name) : NULL;
  job->compress = o->compress ? xstrdup (o->compress) : NULL;
  job->manifest = o->manifest ? fill_in (o->manifest, ex->name) : NULL;
  job->since = o->since ? xstrdup (o->since) : NULL;
  job->checkpoint = o->checkpoint ? xstrdup (o->checkpoint) : NULL;
  job->speed = member_int (o->args, "speed", 0);
  job->max_requests = member_int (o->args, "max-requests", 0);
  job->connections = member_int (o->args, "connections", 0);
  job->on_source_error = xstrdup (o->on_source_error);
  job->on_target_error = xstrdup (o->on_target_error);
  job->retry_ms = member_int (o->args, "retry-ms", RETRY_MS);
  return job;
}

static void
started (void *opaque, const struct failure *failure, struct job **jobs,
         size_t nr, struct json_object *report)
{
  struct json_object *o, *array;
  size_t i;

  if (failure) {
    request_failed (opaque, failure);
    return;
  }
  o = json_object_new_object ();
  array = json_object_new_array ();
  for (i = 0; i < nr; i++)
    json_object_array_add (array, job_json (jobs[i]));
  json_object_object_add (o, "job", nr == 1 ? job_json (jobs[0]) : NULL);
  json_object_object_add (o, "jobs", array);
  json_add_members (o, report);
  request_result (opaque, o);
}

static void
start (const struct order *o)
{
  struct job *jobs[EXPORTS_MAX];
  size_t i;

  jobs_prune (o->request->daemon->jobs);
  for (i = 0; i < o->nr; i++)
    jobs[i] = make_job (o, i);
  jobs_start (o->request->daemon, jobs, o->nr, o->chosen.groups,
              o->chosen.nr_groups, started, o->request);
}

void
do_backup (struct request *request, struct json_object *args)
{
  struct order o = {
    .request = request, .args = args,
    .target = member_string (args, "target"),
    .sync = member_string (args, "sync"),
    .since = member_string (args, "since"),
    .backing = member_string (args, "backing"),
    .compress = member_string (args, "compress"),
    .manifest = member_string (args, "manifest"),
    .checkpoint = member_string (args, "checkpoint"),
    .on_source_error = member_string (args, "on-source-error"),
    .on_target_error = member_string (args, "on-target-error"),
  };
  struct failure failure;
  size_t i;

  if (!choose_exports (request, args, &o.chosen))
    return;
  o.exports = o.chosen.exports;
  o.nr = o.chosen.nr;
  if (check_order (&o, &failure) == -1)
    request_failed (request, &failure);
  else
    start (&o);
  for (i = 0; i < o.nr; i++)
    free (o.targets[i]);
}
