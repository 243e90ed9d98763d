/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Keeping a process running: start, watch, start again, stop. */

/*            start                ready
 *   STOPPED ───────▶ STARTING ─────────▶ RUNNING
 *      ▲     adopt      │ ▲                │
 *      │                │ └──time──┐       │ dies
 *      │                └──dies──▶ RESTARTING ◀─┘
 *      │ dies                      │
 *      └────── STOPPING ◀──stop── any
 *
 * A process that has run for a while is started again at once, since a guest
 * may be waiting; one that dies soon is given longer and longer pauses.  What
 * it said last is the reason that people are told: the exit status of a
 * process that is no child of ours is not to be had.
 */

#include <config.h>

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "service.h"

/* All in seconds. */
#define PROBE_INTERVAL 0.01
#define DELAY_FIRST 0.1
#define DELAY_MAX 30.0
#define LONG_ENOUGH 10.0        /* it worked: the next try is at once */
#define GRACE 5

const char *
service_state_name (enum service_state state)
{
  switch (state) {
  case SERVICE_STOPPED: return "stopped";
  case SERVICE_STARTING: return "starting";
  case SERVICE_RUNNING: return "running";
  case SERVICE_RESTARTING: return "restarting";
  case SERVICE_STOPPING: return "stopping";
  }
  return "?";
}

void
service_because (struct service *s, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (s->reason, sizeof s->reason, format, args);
  va_end (args);
}

static void
set_state (struct service *s, enum service_state state)
{
  enum service_state before = s->state;

  if (state == before)
    return;
  log_debug (s->log, "%s: %s -> %s", s->label, service_state_name (before),
             service_state_name (state));
  s->state = state;
  s->ops->changed (s, before);
}

static void
set_timer (struct service *s, double after, double repeat)
{
  ev_timer_stop (s->loop, &s->timer);
  ev_timer_set (&s->timer, after, repeat);
  ev_timer_start (s->loop, &s->timer);
}

static void
timer_ended (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct service *s = w->data;

  (void) loop;
  (void) revents;
  if (s->state == SERVICE_STARTING)
    s->ops->probe (s);
  else if (s->state == SERVICE_RESTARTING) {
    s->restarts++;
    service_start (s);
  }
  else if (s->state == SERVICE_STOPPING) {
    log_warning (s->log, "%s: pid %d does not end, killing it", s->label,
                 (int) s->process.pid);
    process_signal (&s->process, SIGKILL);
  }
}

static void
try_later (struct service *s, bool at_once)
{
  if (at_once)
    s->delay = 0;
  else if (s->delay == 0)
    s->delay = DELAY_FIRST;
  set_timer (s, s->delay, 0);
  s->delay = s->delay == 0 ? DELAY_FIRST : s->delay * 2;
  if (s->delay > DELAY_MAX)
    s->delay = DELAY_MAX;
  set_state (s, SERVICE_RESTARTING);
}

void
service_forget (struct service *s)
{
  if (s->process.pidfd == -1)
    return;
  ev_io_stop (s->loop, &s->exited);
  ev_timer_stop (s->loop, &s->timer);
  process_forget (&s->process);
  if (s->probe_fd != -1)
    close (s->probe_fd);
  s->probe_fd = -1;
}

static void
has_exited (struct ev_loop *loop, ev_io *w, int revents)
{
  struct service *s = w->data;
  pid_t pid = s->process.pid;
  bool at_once = s->adopted
    || (s->state == SERVICE_RUNNING
        && ev_now (s->loop) - s->since >= LONG_ENOUGH);

  (void) loop;
  (void) revents;
  logpipe_drain (&s->messages);
  service_forget (s);
  remove_file (s->pidfile);
  if (s->state == SERVICE_STOPPING
      || (s->ops->exited && s->ops->exited (s))) {
    set_state (s, SERVICE_STOPPED);
    return;
  }
  service_because (s, "%s", s->messages.last[0] ? s->messages.last
                   : s->state == SERVICE_STARTING ? "it ended while starting"
                   : "it was killed or ended without a word");
  log_warning (s->log, "%s: pid %d died: %s", s->label, (int) pid, s->reason);
  try_later (s, at_once);
}

static void
watch (struct service *s)
{
  s->since = ev_now (s->loop);
  ev_io_init (&s->exited, has_exited, s->process.pidfd, EV_READ);
  s->exited.data = s;
  ev_io_start (s->loop, &s->exited);
  set_timer (s, 0, PROBE_INTERVAL);
  set_state (s, SERVICE_STARTING);
}

void
service_init (struct service *s, struct ev_loop *loop, const struct log *log,
              const struct service_ops *ops, void *owner, const char *purpose,
              const char *run_dir, const char *name, const char *label)
{
  *s = (struct service) {
    .loop = loop, .log = log, .ops = ops, .owner = owner, .grace = GRACE,
    .process.pidfd = -1, .messages.fd = -1, .probe_fd = -1,
  };
  s->label = xstrdup (label);
  s->id_prefix = xasprintf ("%s:%s:%s:", purpose, run_dir, name);
  s->pidfile = xasprintf ("%s/%s.pid", run_dir, name);
  s->logfile = xasprintf ("%s/%s.log", run_dir, name);
  ev_timer_init (&s->timer, timer_ended, 0, 0);
  s->timer.data = s;
}

static int
open_messages (struct service *s)
{
  if (s->messages.fd != -1
      || logpipe_open (&s->messages, s->loop, s->log, s->label,
                       s->logfile) == 0)
    return 0;
  service_because (s, "%s: %m", s->logfile);
  return -1;
}

static int
spawn_it (struct service *s)
{
  struct spawn spawn = { .pidfile = s->pidfile, .id = s->id };
  int r = -1;

  s->adopted = false;
  if (open_messages (s) == -1)
    return -1;
  logpipe_reset (&s->messages);
  spawn.stderr_fd = logpipe_writer (s->logfile);
  if (spawn.stderr_fd == -1) {
    service_because (s, "%s: %m", s->logfile);
    return -1;
  }
  snprintf (s->id, sizeof s->id, "%s%s", s->id_prefix, s->config_id);
  if (s->ops->prepare (s, &spawn) == 0)
    r = process_spawn (&spawn, &s->process, s->reason, sizeof s->reason);
  close (spawn.stderr_fd);
  strings_free (&spawn.argv);
  confined_free (&spawn.confined);
  return r;
}

void
service_start (struct service *s)
{
  ev_timer_stop (s->loop, &s->timer);
  if (spawn_it (s) == 0) {
    log_info (s->log, "%s: started, pid %d", s->label, (int) s->process.pid);
    watch (s);
    return;
  }
  log_error (s->log, "%s: %s", s->label, s->reason);
  /* Back to this state even from itself: somebody waits for the news. */
  s->state = SERVICE_STARTING;
  try_later (s, false);
}

bool
service_adopt (struct service *s)
{
  if (process_find (s->pidfile, s->id_prefix, &s->process, s->id) == -1) {
    remove_file (s->pidfile);
    return false;
  }
  if (open_messages (s) == -1)
    log_warning (s->log, "%s: %s", s->label, s->reason);
  s->reason[0] = '\0';
  s->adopted = true;
  log_info (s->log, "%s: found running, pid %d", s->label,
            (int) s->process.pid);
  watch (s);
  return true;
}

bool
service_is_current (const struct service *s)
{
  return strcmp (s->id + strlen (s->id_prefix), s->config_id) == 0;
}

void
service_ready (struct service *s)
{
  if (s->state != SERVICE_STARTING)
    return;
  ev_timer_stop (s->loop, &s->timer);
  /* What it said while it started is, mostly, no reason for a later death. */
  logpipe_drain (&s->messages);
  if (!s->ops->keeps_messages)
    logpipe_reset (&s->messages);
  set_state (s, SERVICE_RUNNING);
}

static void
end_it (struct service *s, int sig, double grace)
{
  if (s->process.pidfd == -1) {
    ev_timer_stop (s->loop, &s->timer);
    set_state (s, SERVICE_STOPPED);
    return;
  }
  process_signal (&s->process, sig);
  set_timer (s, grace, grace);
  set_state (s, SERVICE_STOPPING);
}

void
service_stop (struct service *s)
{
  if (s->state != SERVICE_STOPPED && s->state != SERVICE_STOPPING)
    end_it (s, SIGTERM, s->grace);
}

void
service_kill (struct service *s)
{
  if (s->state != SERVICE_STOPPED)
    end_it (s, SIGKILL, s->grace);
}

void
service_free (struct service *s)
{
  bool running = s->process.pidfd != -1;

  if (!s->label)
    return;
  service_forget (s);
  ev_timer_stop (s->loop, &s->timer);
  logpipe_close (&s->messages);
  if (!running) {
    remove_file (s->pidfile);
    remove_file (s->logfile);
  }
  free (s->label);
  free (s->id_prefix);
  free (s->pidfile);
  free (s->logfile);
  s->label = NULL;
}
