/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A job's copier: started, listened to, started again. */

/* The copier is a service like others, but one that is meant to end.  It says
 * how it ended in a result file; without one it was killed or crashed, and is
 * started again with the same copy bitmap, in which only what the target has
 * flushed is done.  After TRIES_MAX times without getting any further the job
 * fails.
 *
 * Orders and progress go through named pipes, which we hold open, so that
 * they outlast each of us.  An order that the copier has not read when it dies
 * is read by its successor; a pause that it had read is repeated to it.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job.h"

#define TRIES_MAX 5
#define RESULT_MAX (1024 * 1024)
/* A cancelled copier may take so long to end, in seconds. */
#define CANCEL_LIMIT 40.0

static int64_t
get_int (struct json_object *o, const char *key)
{
  struct json_object *v;

  return json_object_object_get_ex (o, key, &v)
    && json_object_is_type (v, json_type_int) ? json_object_get_int64 (v) : -1;
}

static uint64_t
get_bytes (struct json_object *o, const char *key)
{
  int64_t n = get_int (o, key);

  return n > 0 ? n : 0;
}

static void
get_text (struct json_object *o, const char *key, char *text, size_t size)
{
  struct json_object *v;

  text[0] = '\0';
  if (json_object_object_get_ex (o, key, &v)
      && json_object_is_type (v, json_type_string))
    snprintf (text, size, "%s", json_object_get_string (v));
}

/* Takes a progress line or a result.  Returns the state in it, or -1. */
static int
take_document (struct job *job, struct json_object *o)
{
  char state[24];
  int i;

  get_text (o, "state", state, sizeof state);
  i = job_state_of_name (state);
  if (i == -1)
    return -1;
  job->now = (struct job_counters) {
    .read = get_bytes (o, "bytes-read"),
    .written = get_bytes (o, "bytes-written"),
    .zero = get_bytes (o, "bytes-zero"),
    .skipped = get_bytes (o, "bytes-skipped"),
    .offloaded = get_bytes (o, "bytes-offloaded"),
    .recopied = get_bytes (o, "bytes-recopied"),
  };
  if (get_bytes (o, "bytes-total") > 0)
    job->total = get_bytes (o, "bytes-total");
  job->done = get_bytes (o, "bytes-done");
  job->lost = get_bytes (o, "bytes-lost");
  job->per_second = get_bytes (o, "bytes-per-second");
  job->eta = get_int (o, "eta-seconds");
  get_text (o, "offload", job->offload, sizeof job->offload);
  get_text (o, "error", job->error, sizeof job->error);
  if (job->kind == JOB_VERIFY) {
    job->first_difference = get_int (o, "first-difference");
    job->different = get_bytes (o, "bytes-different");
    job->clusters_different = get_bytes (o, "clusters-different");
  }
  return i;
}

/* ---------------------------------------------------------------- progress */

/* The end of a job is for its result to tell. */
static void
take_line (struct job *job)
{
  struct json_object *o = json_tokener_parse (job->line);
  int state = json_object_is_type (o, json_type_object)
    ? take_document (job, o) : -1;

  json_object_put (o);
  if (state == -1)
    return;
  if (state > JOB_CREATED && state < JOB_COMPLETED && state != (int) job->state)
    job_set_state (job, state);
  else
    job_changed (job);
}

static void
read_progress (struct job *job)
{
  char text[4096];
  ssize_t r, i;

  while (job->progress_fd != -1
         && (r = read (job->progress_fd, text, sizeof text)) > 0)
    for (i = 0; i < r; i++) {
      if (text[i] != '\n') {
        if (job->line_length < sizeof job->line - 1)
          job->line[job->line_length++] = text[i];
        continue;
      }
      job->line[job->line_length] = '\0';
      job->line_length = 0;
      take_line (job);
    }
}

static void
progress_readable (struct ev_loop *loop, ev_io *w, int revents)
{
  (void) loop;
  (void) revents;
  read_progress (w->data);
}

static int
open_pipe (const char *path)
{
  struct stat st;
  int fd;

  if (mkfifo (path, 0600) == -1 && errno != EEXIST)
    return -1;
  fd = open (path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
  if (fd == -1)
    return -1;
  if (fstat (fd, &st) == 0 && S_ISFIFO (st.st_mode))
    return fd;
  close (fd);
  errno = EEXIST;
  return -1;
}

static int
open_pipes (struct job *job)
{
  if (job->progress_fd == -1) {
    job->progress_fd = open_pipe (job->progress_path);
    if (job->progress_fd == -1)
      return -1;
    ev_io_init (&job->progress, progress_readable, job->progress_fd, EV_READ);
    job->progress.data = job;
    ev_io_start (job->jobs->daemon->loop, &job->progress);
  }
  if (job->control_fd == -1)
    job->control_fd = open_pipe (job->control_path);
  return job->control_fd == -1 ? -1 : 0;
}

/* ----------------------------------------------------------------- service */

static int
prepare (struct service *s, struct spawn *spawn)
{
  struct job *job = s->owner;

  if (open_pipes (job) == -1) {
    service_because (s, "%s: %s", job->progress_path, strerror (errno));
    return -1;
  }
  remove_file (job->result_path);
  job_argv (job, &spawn->argv);
  return 0;
}

/* It works as long as it runs. */
static void
probe (struct service *s)
{
  service_ready (s);
}

/* What it says about its end.  True if there is a result, which the job then
 * has taken. */
static bool
take_result (struct job *job, enum job_state *state)
{
  char *text = read_file (job->result_path, RESULT_MAX, NULL);
  struct json_object *o = text ? json_tokener_parse (text) : NULL;
  int s = json_object_is_type (o, json_type_object)
    ? take_document (job, o) : -1;

  json_object_put (o);
  free (text);
  if (s < JOB_COMPLETED)
    return false;
  *state = s;
  return true;
}

static bool
exited (struct service *s)
{
  struct job *job = s->owner;
  enum job_state state;

  read_progress (job);
  return job->jobs->ending || job->cancelled || take_result (job, &state);
}

static void
add_to_before (struct job *job)
{
  job->before.read += job->now.read;
  job->before.written += job->now.written;
  job->before.zero += job->now.zero;
  job->before.skipped += job->now.skipped;
  job->before.offloaded += job->now.offloaded;
  job->before.recopied += job->now.recopied;
  job->now = (struct job_counters) { 0 };
}

/* It died without a result, or could not be started. */
static void
try_again (struct job *job)
{
  char error[600];

  job->touched = true;
  add_to_before (job);
  job->tries = job->done > job->done_at_start ? 1 : job->tries + 1;
  job->done_at_start = job->done;
  if (job->tries < TRIES_MAX) {
    job_write_record (job);
    return;
  }
  snprintf (error, sizeof error, "the copier died %u times without getting "
            "any further: %s", job->tries, job->copier.reason);
  job_end (job, JOB_FAILED, error);
}

static void
has_stopped (struct job *job)
{
  enum job_state state;

  if (job->jobs->ending)
    daemon_part_changed (job->jobs->daemon);
  else if (take_result (job, &state)) {
    job_explain (job);
    job_end (job, state, job->error);
  }
  else if (job->cancelled) {
    job->touched = true;
    job_end (job, JOB_CANCELLED, "");
  }
}

static void
changed (struct service *s, enum service_state before)
{
  struct job *job = s->owner;

  (void) before;
  if (s->state == SERVICE_RUNNING && job->state == JOB_CREATED)
    job_set_state (job, JOB_RUNNING);
  else if (s->state == SERVICE_RESTARTING)
    try_again (job);
  else if (s->state == SERVICE_STOPPED)
    has_stopped (job);
  else if (s->state == SERVICE_STARTING && job->state == JOB_PAUSED)
    job_order (job, "pause");
}

static const struct service_ops ops = {
  .keeps_messages = true,       /* it works as soon as it is there */
  .prepare = prepare, .probe = probe, .exited = exited, .changed = changed,
};

static void
takes_too_long (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct job *job = w->data;

  (void) loop;
  (void) revents;
  log_warning (&job->jobs->daemon->log, "job %s: its copier does not end, "
               "killing it", job->id);
  service_kill (&job->copier);
}

void
job_copier_init (struct job *job)
{
  struct daemon *d = job->jobs->daemon;
  char *name = xasprintf ("job-%s.copy", job->id);
  char *label = xasprintf ("job %s", job->id);

  service_init (&job->copier, d->loop, &d->log, &ops, job, "copy",
                d->config->run_dir, name, label);
  /* An id may be given again when the state directory was emptied. */
  if (job->uuid[0])
    snprintf (job->copier.config_id, sizeof job->copier.config_id, "%s",
              job->uuid);
  else
    snprintf (job->copier.config_id, sizeof job->copier.config_id, "%lld",
              (long long) job->created_ns);
  job->copier_used = true;
  ev_timer_init (&job->limit, takes_too_long, CANCEL_LIMIT, 0);
  job->limit.data = job;
  free (name);
  free (label);
}

void
job_copier_start (struct job *job)
{
  enum job_state state;

  if (!job->copier_used)
    job_copier_init (job);
  job->done_at_start = job->done;
  if (open_pipes (job) == -1)
    log_warning (&job->jobs->daemon->log, "job %s: %s: %m", job->id,
                 job->progress_path);
  if (service_adopt (&job->copier))
    return;
  if (take_result (job, &state)) {
    job_end (job, state, job->error);
    return;
  }
  add_to_before (job);
  service_start (&job->copier);
}

static int
write_order (struct job *job, const char *line)
{
  ssize_t length = strlen (line);

  if (job->control_fd != -1
      && write (job->control_fd, line, length) == length)
    return 0;
  log_warning (&job->jobs->daemon->log, "job %s: %s: %m", job->id,
               job->control_path);
  return -1;
}

int
job_order (struct job *job, const char *command)
{
  char line[64];

  snprintf (line, sizeof line, "{\"command\":\"%s\"}\n", command);
  return write_order (job, line);
}

int
job_order_speed (struct job *job, uint64_t speed)
{
  char line[96];

  snprintf (line, sizeof line, "{\"command\":\"speed\","
            "\"bytes-per-second\":%llu}\n", (unsigned long long) speed);
  return write_order (job, line);
}

void
job_cancel (struct job *job)
{
  struct ev_loop *loop = job->jobs->daemon->loop;

  if (job->cancelled)
    return;
  job->cancelled = true;
  if (!job->copier_used)
    return;                     /* job_start.c will see it */
  if (job->copier.process.pidfd == -1) {
    service_stop (&job->copier);
    return;
  }
  job_order (job, "cancel");
  ev_timer_start (loop, &job->limit);
}

void
job_copier_free (struct job *job)
{
  struct ev_loop *loop = job->jobs->daemon->loop;

  if (job->progress_fd != -1) {
    ev_io_stop (loop, &job->progress);
    close (job->progress_fd);
  }
  if (job->control_fd != -1)
    close (job->control_fd);
  job->progress_fd = job->control_fd = -1;
  if (!job->copier_used)
    return;
  ev_timer_stop (loop, &job->limit);
  process_signal (&job->copier.process, SIGKILL);
  job->restarts += job->copier.restarts;
  service_free (&job->copier);
  job->copier_used = false;
}

void
job_copier_suspend (struct job *job)
{
  job_write_record (job);
  if (job->copier_used)
    service_kill (&job->copier);
}
