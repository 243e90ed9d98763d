/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Progress lines, the result file, the progress bar. */

/* A progress line is shorter than PIPE_BUF, so on a named pipe it goes whole
 * or, if the reader does not keep up, not at all.  The pipe is opened for
 * reading too, so that a reader that dies and comes back finds it as it was,
 * and no SIGPIPE comes of it. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "offload.h"
#include "replace.h"
#include "report.h"

#define TICK 0.2                /* seconds between lines */
#define TICK_STILL 1.           /* while the job is paused */
#define SMOOTH 3.               /* seconds that the rate is an average of */
#define LOST_RANGES_MAX 1000    /* in the result */

struct reporter {
  int fd;                       /* progress; -1: none */
  bool bar;                     /* a person watches stderr */
  double last;                  /* when the last line was written */
  double then;                  /* when these were taken */
  uint64_t done, moved;
  double done_rate, moved_rate; /* bytes per second, smoothed */
};

static uint64_t
moved (const struct job *job)
{
  return job->stats.written + job->stats.offloaded;
}

int
report_open (struct job *job, struct message *why)
{
  struct reporter *r = calloc (1, sizeof *r);
  const char *path = job->opt->progress;

  if (!r)
    return message_set (why, "no memory");
  job->reporter = r;
  r->fd = -1;
  r->bar = isatty (STDERR_FILENO) && !path && !job->opt->quiet;
  if (!path)
    return 0;
  r->fd = open (path, O_RDWR | O_NONBLOCK | O_CREAT | O_APPEND | O_CLOEXEC,
                0600);
  if (r->fd == -1)
    return message_set (why, "%s: progress: %s", path, strerror (errno));
  return 0;
}

void
report_close (struct job *job)
{
  if (job->reporter && job->reporter->fd != -1)
    close (job->reporter->fd);
  free (job->reporter);
  job->reporter = NULL;
}

static void
add_int (struct json_object *o, const char *key, uint64_t n)
{
  json_object_object_add (o, key, json_object_new_int64 (n));
}

static void
add_text (struct json_object *o, const char *key, const char *s)
{
  json_object_object_add (o, key, json_object_new_string (s));
}

static bool
ended (const struct job *job)
{
  return job->state >= JOB_COMPLETED;
}

static uint64_t
rate (const struct job *job)
{
  double seconds = monotonic_now () - job->started;

  if (!ended (job))
    return job->reporter->moved_rate;
  return job->started > 0 && seconds > 0 ? moved (job) / seconds : 0;
}

static uint64_t
left (const struct job *job)
{
  uint64_t gone = job->stats.done + job->stats.lost;

  return gone < job->ledger.scope ? job->ledger.scope - gone : 0;
}

/* Seconds; < 0: not known. */
static double
eta (const struct job *job)
{
  double r = job->reporter->done_rate;

  if (ended (job))
    return 0;
  return job->state == JOB_RUNNING && r >= 1 ? left (job) / r : -1;
}

static void
add_comparison (struct json_object *o, const struct comparison *c)
{
  json_object_object_add (o, "first-difference", c->differs
                          ? json_object_new_int64 (c->first) : NULL);
  add_int (o, "bytes-different", c->bytes);
  add_int (o, "clusters-different", c->clusters);
}

static struct json_object *
document (const struct job *job)
{
  struct json_object *o = json_object_new_object ();
  const struct job_stats *s = &job->stats;
  double seconds = eta (job);

  add_text (o, "state", job_state_name (job->state));
  add_int (o, "bytes-total", job->ledger.scope);
  add_int (o, "bytes-done", s->done);
  add_int (o, "bytes-read", s->read);
  add_int (o, "bytes-written", s->written);
  add_int (o, "bytes-zero", s->zero);
  add_int (o, "bytes-skipped", s->skipped);
  add_int (o, "bytes-offloaded", s->offloaded);
  add_int (o, "bytes-recopied", s->recopied);
  add_int (o, "bytes-lost", s->lost);
  add_int (o, "bytes-per-second", rate (job));
  json_object_object_add (o, "eta-seconds", seconds < 0 ? NULL
                          : json_object_new_int64 (ceil (seconds)));
  add_text (o, "offload", offload_name (s->offloaded > 0 ? job->offload
                                        : OFFLOAD_NONE));
  add_text (o, "flush", job->target ? job->target->flush_kind : "none");
  json_object_object_add (o, "error", job->error.text[0]
                          ? json_object_new_string (job->error.text) : NULL);
  if (job->comparison)
    add_comparison (o, job->comparison);
  return o;
}

static void
take_rates (struct job *job)
{
  struct reporter *r = job->reporter;
  double dt = job->now - r->then, a;

  if (dt < TICK / 2)
    return;
  if (r->then > 0) {
    a = 1 - exp (-dt / SMOOTH);
    if (r->moved_rate == 0 && r->done_rate == 0)
      a = 1;
    /* done may go down, when the target lost something. */
    r->done_rate += a * ((job->stats.done > r->done
                          ? job->stats.done - r->done : 0) / dt
                         - r->done_rate);
    r->moved_rate += a * ((moved (job) - r->moved) / dt - r->moved_rate);
  }
  r->then = job->now;
  r->done = job->stats.done;
  r->moved = moved (job);
}

static const char *
human (double n, char buf[16])
{
  static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
  unsigned u = 0;

  while (n >= 1000 && u < 4) {
    n /= 1024;
    u++;
  }
  snprintf (buf, 16, u && n < 100 ? "%.1f %s" : "%.0f %s", n, units[u]);
  return buf;
}

static void
draw_bar (const struct job *job)
{
  uint64_t total = job->ledger.scope;
  int percent = total ? 100. * job->stats.done / total : 100;
  char bar[31], a[16], b[16], c[16], time[24] = "";
  double seconds = eta (job);
  int i;

  for (i = 0; i < 30; i++)
    bar[i] = i < percent * 30 / 100 ? '=' : ' ';
  bar[30] = '\0';
  if (seconds >= 0 && seconds < 1e6)
    snprintf (time, sizeof time, " %d:%02d left", (int) seconds / 60,
              (int) seconds % 60);
  fprintf (stderr, "\r%3d%% [%s] %s of %s, %s/s%s%s%s\033[K", percent, bar,
           human (job->stats.done, a), human (total, b),
           human (rate (job), c), time,
           job->state == JOB_RUNNING ? "" : " ",
           job->state == JOB_RUNNING ? "" : job_state_name (job->state));
}

static void
write_line (struct job *job)
{
  struct reporter *r = job->reporter;
  struct json_object *o;
  const char *s;
  char *line;
  int n;

  r->last = job->now;
  if (r->bar)
    draw_bar (job);
  if (r->fd == -1)
    return;
  o = document (job);
  s = json_object_to_json_string_ext (o, JSON_C_TO_STRING_PLAIN
                                      | JSON_C_TO_STRING_NOSLASHESCAPE);
  n = asprintf (&line, "%s\n", s);
  if (n > 0) {
    /* A full pipe drops the line. */
    if (n <= PIPE_BUF && write (r->fd, line, n) == -1)
      errno = 0;
    free (line);
  }
  json_object_put (o);
}

void
report_turn (struct job *job)
{
  struct reporter *r = job->reporter;
  double tick = job->state == JOB_RUNNING || job->state == JOB_FLUSHING
    ? TICK : TICK_STILL;
  double due = r->last + tick;

  if (!r->bar && r->fd == -1)
    return;
  if (job->now >= due) {
    take_rates (job);
    write_line (job);
    due = job->now + tick;
  }
  job_wake_in (job, due - job->now);
}

void
report_now (struct job *job)
{
  job->now = monotonic_now ();
  take_rates (job);
  write_line (job);
}

static struct json_object *
lost_ranges (struct job *job)
{
  struct json_object *a = json_object_new_array ();
  size_t i;

  range_list_coalesce (&job->lost);
  for (i = 0; i < job->lost.nr && i < LOST_RANGES_MAX; i++) {
    const struct range *r = &job->lost.list[i];
    struct json_object *o = json_object_new_object ();

    add_int (o, "offset", ledger_offset (&job->ledger, r->first));
    add_int (o, "length", ledger_length (&job->ledger, r->first, r->end));
    json_object_array_add (a, o);
  }
  return a;
}

static int
write_result (struct job *job, struct message *why)
{
  struct json_object *o = document (job);
  const char *path = job->opt->result;
  int r;

  json_object_object_add (o, "lost-ranges", lost_ranges (job));
  add_int (o, "lost-ranges-total", job->lost.nr);
  r = replace_file (path, json_object_to_json_string_ext
                    (o, JSON_C_TO_STRING_PRETTY
                     | JSON_C_TO_STRING_NOSLASHESCAPE));
  json_object_put (o);
  if (r == -1)
    return message_set (why, "%s: result: %s", path, strerror (errno));
  return 0;
}

static void
summary (const struct job *job)
{
  const struct job_stats *s = &job->stats;
  char a[16], b[16], c[16], d[16], e[16];

  fprintf (stderr, "\r\033[K%s: %s in %.1f s (%s/s): %s of data, %s of zeroes"
           " and holes", job_state_name (job->state),
           human (job->ledger.scope, a), monotonic_now () - job->started,
           human (rate (job), b), human (moved (job), c),
           human (s->zero + s->skipped, d));
  if (s->offloaded > 0)
    fprintf (stderr, ", %s by %s", human (s->offloaded, e),
             offload_name (job->offload));
  fputc ('\n', stderr);
}

int
report_end (struct job *job, struct message *why)
{
  if (job->reporter && job->reporter->bar && job->started > 0)
    summary (job);
  return job->opt->result ? write_result (job, why) : 0;
}
