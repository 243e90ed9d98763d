/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The control pipe and signals. */

/* A command is one line, a JSON object:
 *
 *   {"command": "pause" | "resume" | "cancel"}
 *   {"command": "speed", "bytes-per-second": N}     0: no limit
 *
 * There is no reply: the state in the progress tells.  A line that is not a
 * command, or is too long, is passed over with a word on stderr.
 *
 * SIGINT, SIGTERM and SIGHUP cancel the job; a second one ends the process at
 * once, as a kill would. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "control.h"

#define LINE_MAX_BYTES 4096

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
#define NR_SIGNALS (sizeof signals / sizeof signals[0])

struct control {
  struct job *job;
  ev_signal signals[NR_SIGNALS];
  ev_io watcher;
  int fd;                       /* -1: no pipe */
  char line[LINE_MAX_BYTES];
  size_t length;
  bool too_long;                /* passing over the rest of such a line */
};

static void
set_speed (struct job *job, struct json_object *o)
{
  struct json_object *n;
  int64_t rate;

  if (!json_object_object_get_ex (o, "bytes-per-second", &n)
      || !json_object_is_type (n, json_type_int)
      || (rate = json_object_get_int64 (n)) < 0) {
    fputs ("nbdfleece-copy: control: speed: bytes-per-second must be a number"
           " from 0 on\n", stderr);
    return;
  }
  job_set_speed (job, rate);
}

static void
carry_out (struct job *job, const char *line)
{
  struct json_object *o = json_tokener_parse (line), *name;
  const char *s = "";

  if (json_object_is_type (o, json_type_object)
      && json_object_object_get_ex (o, "command", &name)
      && json_object_is_type (name, json_type_string))
    s = json_object_get_string (name);
  if (strcmp (s, "pause") == 0)
    job_pause (job);
  else if (strcmp (s, "resume") == 0)
    job_resume (job);
  else if (strcmp (s, "cancel") == 0)
    job_cancel (job);
  else if (strcmp (s, "speed") == 0)
    set_speed (job, o);
  else
    fputs ("nbdfleece-copy: control: not a command\n", stderr);
  json_object_put (o);
}

static void
take_byte (struct control *c, char byte)
{
  if (byte != '\n') {
    if (c->length < sizeof c->line - 1)
      c->line[c->length++] = byte;
    else
      c->too_long = true;
    return;
  }
  c->line[c->length] = '\0';
  if (c->too_long)
    fputs ("nbdfleece-copy: control: line too long\n", stderr);
  else if (c->length > 0)
    carry_out (c->job, c->line);
  c->length = 0;
  c->too_long = false;
}

static void
readable (struct ev_loop *ev, ev_io *w, int revents)
{
  struct control *c = w->data;
  char buf[1024];
  ssize_t n, i;

  (void) ev;
  (void) revents;
  n = read (c->fd, buf, sizeof buf);
  for (i = 0; i < n; i++)
    take_byte (c, buf[i]);
}

static void
signalled (struct ev_loop *ev, ev_signal *w, int revents)
{
  struct control *c = w->data;

  (void) ev;
  (void) revents;
  if (c->job->verdict == JOB_CANCELLED) {
    signal (w->signum, SIG_DFL);
    raise (w->signum);
  }
  job_cancel (c->job);
}

static int
open_pipe (struct control *c, const char *path, struct message *why)
{
  struct stat st;

  /* For writing too, so that the end of one writer is not the end. */
  c->fd = open (path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (c->fd == -1)
    return message_set (why, "%s: control: %s", path, strerror (errno));
  if (fstat (c->fd, &st) == -1 || !S_ISFIFO (st.st_mode)) {
    errno = EINVAL;
    return message_set (why, "%s: control: not a named pipe", path);
  }
  ev_io_set (&c->watcher, c->fd, EV_READ);
  ev_io_start (c->job->loop->ev, &c->watcher);
  return 0;
}

struct control *
control_new (struct job *job, struct message *why)
{
  struct control *c = calloc (1, sizeof *c);
  size_t i;

  if (!c) {
    message_set (why, "no memory");
    return NULL;
  }
  c->job = job;
  c->fd = -1;
  ev_io_init (&c->watcher, readable, -1, EV_READ);
  c->watcher.data = c;
  for (i = 0; i < NR_SIGNALS; i++) {
    ev_signal_init (&c->signals[i], signalled, signals[i]);
    c->signals[i].data = c;
    ev_signal_start (job->loop->ev, &c->signals[i]);
  }
  if (job->opt->control && open_pipe (c, job->opt->control, why) == -1) {
    control_free (c);
    return NULL;
  }
  return c;
}

void
control_free (struct control *c)
{
  size_t i;

  if (!c)
    return;
  ev_io_stop (c->job->loop->ev, &c->watcher);
  for (i = 0; i < NR_SIGNALS; i++)
    ev_signal_stop (c->job->loop->ev, &c->signals[i]);
  if (c->fd != -1)
    close (c->fd);
  free (c);
}
