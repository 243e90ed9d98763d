/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Starting, reloading and ending the daemon as a whole. */

/* Start, each step when the one before is complete:
 *
 *   0  what hooks of a daemon that was killed left frozen is thawed; nobody
 *      waits for that, but snapshots that are asked for meanwhile
 *   1  exports: adopted, or started
 *   2  the backup endpoint (which shows snapshots: after their exports have
 *      taken them up)
 *   3  unfinished jobs
 *   4  the control socket, and whoever waits for us is told
 *
 * If anything fails the first time, the daemon ends with that as the error:
 * what it started is stopped, what ran before is left alone.  From then on
 * nothing ends it but a signal.
 *
 * End, on SIGTERM or SIGINT: jobs are stopped where they are and go on with
 * the next daemon; hooks that were to hold somebody still are stopped, and
 * those that let go of him run to their end; the backup endpoint ends; the exports end, each nbdkit
 * before its qemu-nbd; sockets and locks go.  Snapshots stay.
 *
 * SIGHUP: the file is read and checked as a whole before anything changes.
 */

#include <config.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup.h"
#include "confine.h"
#include "control.h"
#include "export.h"
#include "guard.h"
#include "hooks.h"
#include "jobs.h"
#include "names.h"
#include "notify.h"
#include "owner.h"
#include "rearm.h"
#include "unfinished.h"

/* Until everything has to be up, in seconds. */
#define START_LIMIT 60.0

static void
leave_loop (struct daemon *d)
{
  ev_break (d->loop, EVBREAK_ALL);
}

/* ------------------------------------------------------------------ start */

/* Tells the process that started us how it went; then its stderr is not ours
 * any more. */
static void
tell_caller (struct daemon *d, int status)
{
  char byte = status;
  int null;

  if (d->caller == -1)
    return;
  log_to_syslog (&d->log);
  null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  if (null != -1) {
    dup2 (null, STDERR_FILENO);
    close (null);
  }
  if (write (d->caller, &byte, 1) != 1)
    log_debug (&d->log, "nobody waits for us: %m");
  close (d->caller);
  d->caller = -1;
}

static void
everything_is_up (struct daemon *d)
{
  struct failure failure;

  d->control = control_new (d, &failure);
  if (!d->control) {
    daemon_part_failed (d, "control socket", failure.message);
    return;
  }
  d->phase = DAEMON_RUNNING;
  ev_timer_stop (d->loop, &d->start_limit);
  log_info (&d->log, "ready");
  notify ("READY=1");
  tell_caller (d, 0);
}

static bool
exports_are_up (const struct daemon *d)
{
  const struct export *ex;

  TAILQ_FOREACH (ex, &d->exports, entry)
    if (!export_is_up (ex))
      return false;
  return true;
}

static void
continue_start (struct daemon *d)
{
  if (!exports_are_up (d))
    return;
  if (!d->backup) {
    unfinished_discard (d);
    rearms_finish (d);
    d->backup = backup_new (d);
  }
  else if (backup_is_up (d->backup)) {
    d->jobs = jobs_new (d);
    everything_is_up (d);
  }
}

static bool
everything_has_ended (const struct daemon *d)
{
  const struct export *ex;

  TAILQ_FOREACH (ex, &d->exports, entry)
    if (!export_has_ended (ex))
      return false;
  return (!d->backup || backup_has_ended (d->backup))
    && jobs_have_ended (d->jobs) && TAILQ_EMPTY (&d->works)
    && TAILQ_EMPTY (&d->hooks);
}

/* The exports end when nobody reads them any more. */
static void
continue_stop (struct daemon *d)
{
  struct export *ex;

  if (d->backup && !backup_has_ended (d->backup))
    return;
  if (everything_has_ended (d)) {
    leave_loop (d);
    return;
  }
  TAILQ_FOREACH (ex, &d->exports, entry)
    if (ex->intent != EXPORT_END && ex->intent != EXPORT_LEAVE)
      export_end (ex);
}

void
daemon_part_changed (struct daemon *d)
{
  if (d->phase == DAEMON_STARTING)
    continue_start (d);
  else if (d->phase == DAEMON_STOPPING)
    continue_stop (d);
}

void
daemon_part_failed (struct daemon *d, const char *part, const char *reason)
{
  struct export *ex;

  if (d->phase != DAEMON_STARTING)
    return;
  log_error (&d->log, "cannot start %s: %s", part, reason);
  d->status = 1;
  TAILQ_FOREACH (ex, &d->exports, entry)
    if (ex->adopted)
      export_leave (ex);
  if (d->backup && backup_was_adopted (d->backup))
    backup_leave (d->backup);
  daemon_stop (d);
}

static void
start_takes_too_long (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct daemon *d = w->data;
  const struct export *ex;

  (void) loop;
  (void) revents;
  TAILQ_FOREACH (ex, &d->exports, entry)
    if (!export_is_up (ex)) {
      daemon_part_failed (d, ex->name, "it does not answer");
      return;
    }
  daemon_part_failed (d, "the backup endpoint", "it does not answer");
}

/* Exports that an earlier configuration had: whatever runs is stopped, and
 * their snapshots, which nobody keeps true, are removed. */
static void
find_removed_exports (struct daemon *d)
{
  char *path = xasprintf ("%s/exports", d->config->state_dir);
  DIR *dir = opendir (path);
  struct dirent *e;

  while (dir && (e = readdir (dir)))
    if (name_ok (e->d_name) && !config_find_export (d->config, e->d_name))
      export_new (d, e->d_name, NULL);
  if (dir)
    closedir (dir);
  free (path);
}

static int
make_state_dir (const struct daemon *d, const char *name)
{
  char *path = xasprintf ("%s/%s", d->config->state_dir, name);
  int r = mkdir_private (path, false);

  if (r == -1)
    log_error (&d->log, "%s: %m", path);
  free (path);
  return r;
}

/* The user gets to his files: by our directories, and those above them. */
static int
let_user_in (const struct daemon *d)
{
  char *path = xasprintf ("%s/exports", d->config->state_dir);
  int err = 0, r = 0;

  if (owner_let_list (d, d->config->state_dir) == -1
      || owner_let_pass (d, d->config->run_dir) == -1
      || owner_let_list (d, path) == -1) {
    log_error (&d->log, "%s, %s: cannot be given to a group: %m",
               d->config->state_dir, d->config->run_dir);
    r = -1;
  }
  else if (owner_user (d))
    err = user_try_access (&d->user, path, R_OK | X_OK);
  if (err) {
    log_error (&d->log, "state-dir %s: user %s does not get there: %s",
               d->config->state_dir, d->user.name, strerror (err));
    r = -1;
  }
  free (path);
  return r;
}

static int
start_all (struct daemon *d)
{
  size_t i;

  if (make_state_dir (d, "exports") == -1 || make_state_dir (d, "jobs") == -1
      || let_user_in (d) == -1)
    return -1;
  hooks_recover (d);
  for (i = 0; i < d->config->nr_exports; i++)
    export_new (d, d->config->exports[i].name, &d->config->exports[i]);
  find_removed_exports (d);
  daemon_part_changed (d);
  return 0;
}

/* -------------------------------------------------------------------- end */

void
daemon_stop (struct daemon *d)
{
  if (d->phase == DAEMON_STOPPING)
    return;
  d->phase = DAEMON_STOPPING;
  ev_timer_stop (d->loop, &d->start_limit);
  notify ("STOPPING=1");
  log_info (&d->log, "stopping");
  jobs_end (d->jobs);
  hooks_end (d);
  if (d->backup && !backup_has_ended (d->backup))
    backup_end (d->backup);
  continue_stop (d);
}

static void
got_term (struct ev_loop *loop, ev_signal *w, int revents)
{
  (void) loop;
  (void) revents;
  daemon_stop (w->data);
}

static void
got_hangup (struct ev_loop *loop, ev_signal *w, int revents)
{
  struct daemon *d = w->data;
  struct reload result = { 0 };
  struct failure failure;

  (void) loop;
  (void) revents;
  if (daemon_reload (d, &result, &failure) == -1)
    log_error (&d->log, "nothing is changed: %s", failure.message);
  reload_free (&result);
}

static void
watch_signal (struct daemon *d, ev_signal *w, int sig,
              void (*callback) (struct ev_loop *, ev_signal *, int))
{
  ev_signal_init (w, callback, sig);
  w->data = d;
  ev_signal_start (d->loop, w);
}

static void
free_all (struct daemon *d)
{
  control_free (d->control);
  jobs_free (d->jobs);
  backup_free (d->backup);
  while (!TAILQ_EMPTY (&d->exports))
    export_free (TAILQ_FIRST (&d->exports));
  ev_signal_stop (d->loop, &d->term);
  ev_signal_stop (d->loop, &d->interrupt);
  ev_signal_stop (d->loop, &d->hangup);
  ev_timer_stop (d->loop, &d->start_limit);
  ev_loop_destroy (d->loop);
}

void
daemon_init (struct daemon *d)
{
  TAILQ_INIT (&d->exports);
  TAILQ_INIT (&d->creates);
  TAILQ_INIT (&d->works);
  TAILQ_INIT (&d->hooks);
}

int
daemon_run (struct daemon *d)
{
  d->loop = ev_loop_new (EVFLAG_AUTO);
  if (!d->loop) {
    log_error (&d->log, "libev does not start");
    return 1;
  }
  signal (SIGPIPE, SIG_IGN);
  signal (SIGXFSZ, SIG_IGN);
  guard_install ();
  daemon_init (d);
  d->started_ns = now_ns ();
  if (confine_version () == 0)
    log_warning (&d->log, "this kernel has no Landlock: only its own words "
                 "keep the snapshot server from writing to files");
  else
    log_debug (&d->log, "Landlock %d keeps processes to their own files",
               confine_version ());
  watch_signal (d, &d->term, SIGTERM, got_term);
  watch_signal (d, &d->interrupt, SIGINT, got_term);
  watch_signal (d, &d->hangup, SIGHUP, got_hangup);
  ev_timer_init (&d->start_limit, start_takes_too_long, START_LIMIT, 0);
  d->start_limit.data = d;
  ev_timer_start (d->loop, &d->start_limit);

  d->status = 0;
  if (start_all (d) == -1)
    d->status = 1;
  else
    ev_run (d->loop, 0);
  free_all (d);
  tell_caller (d, d->status);
  log_info (&d->log, "ended");
  return d->status;
}
