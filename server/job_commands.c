/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket that have to do with jobs. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "job.h"
#include "job_commands.h"

static void
answer_with_job (struct request *request, const struct job *job)
{
  struct json_object *o = json_object_new_object ();

  json_object_object_add (o, "job", job_json (job));
  request_result (request, o);
}

/* The job that a request is about, or NULL if there is none, and the request
 * has been answered. */
static struct job *
find_job (struct request *request, struct json_object *args)
{
  const char *id = member_string (args, "job");
  struct job *job = job_find (request->daemon->jobs, id);

  if (!job)
    request_error (request, "unknown-job", "there is no job %s", id);
  return job;
}

/* The same, and it has not ended. */
static struct job *
find_running_job (struct request *request, struct json_object *args)
{
  struct job *job = find_job (request, args);

  if (!job || !job_has_ended (job))
    return job;
  request_error (request, "bad-state", "job %s has ended: %s", job->id,
                 job_state_name (job->state));
  return NULL;
}

/* ------------------------------------------------------------------ looking */

void
do_job_list (struct request *request, struct json_object *args)
{
  struct json_object *o = json_object_new_object ();

  (void) args;
  json_object_object_add (o, "jobs", jobs_json (request->daemon->jobs, true));
  request_result (request, o);
}

void
do_job_show (struct request *request, struct json_object *args)
{
  struct job *job = find_job (request, args);

  if (!job)
    return;
  job_count_copies (job);
  answer_with_job (request, job);
}

/* The client has gone away. */
static void
abandoned (struct request *request)
{
  struct waiter *w = request->opaque;

  TAILQ_REMOVE (&w->job->waiters, w, entry);
  free (w);
  request_result (request, NULL);
}

void
do_job_wait (struct request *request, struct json_object *args)
{
  struct job *job = find_job (request, args);
  struct json_object *event;
  struct waiter *w;

  if (!job)
    return;
  if (job->cleaned) {
    answer_with_job (request, job);
    return;
  }
  w = xcalloc (1, sizeof *w);
  w->job = job;
  w->request = request;
  w->progress = member_bool (args, "progress");
  request->opaque = w;
  request->abandoned = abandoned;
  TAILQ_INSERT_TAIL (&job->waiters, w, entry);
  if (w->progress) {
    event = json_object_new_object ();
    json_object_object_add (event, "job", job_json (job));
    request_event (request, event);
  }
}

/* ------------------------------------------------------------------ orders */

static void
pass_on (struct request *request, struct job *job, const char *order)
{
  if (job_order (job, order) == -1)
    request_error (request, "failed", "job %s cannot be told", job->id);
  else
    answer_with_job (request, job);
}

void
do_job_pause (struct request *request, struct json_object *args)
{
  struct job *job = find_running_job (request, args);

  if (job)
    pass_on (request, job, "pause");
}

void
do_job_resume (struct request *request, struct json_object *args)
{
  struct job *job = find_running_job (request, args);

  if (job)
    pass_on (request, job, "resume");
}

void
do_job_cancel (struct request *request, struct json_object *args)
{
  struct job *job = find_running_job (request, args);

  if (!job)
    return;
  job_cancel (job);
  answer_with_job (request, job);
}

void
do_job_speed (struct request *request, struct json_object *args)
{
  struct job *job = find_running_job (request, args);

  if (!job)
    return;
  job->speed = member_int (args, "speed", 0);
  job_write_record (job);
  if (job_order_speed (job, job->speed) == -1)
    request_error (request, "failed", "job %s cannot be told", job->id);
  else
    answer_with_job (request, job);
}
