/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* How the processes of one export come, stay and go. */

/* An export has an intent, and next_step does whatever leads there from the
 * states that its two services are in; every change calls it again.
 *
 *   RUN      qemu-nbd up (if the disk is qcow2), then nbdkit up
 *   RESTART  nbdkit stopped, then qemu-nbd stopped, then RUN with the
 *            configuration of then
 *   REMOVE   snapshots ended, then as RESTART, then the export is freed
 *   END      as RESTART, then the snapshots are made to outlast a restart of
 *            the host
 *   LEAVE    nothing: the daemon could not start, and what ran before goes on
 *
 * The listening socket is made before the first nbdkit and held by the daemon
 * from then on, whatever happens to nbdkit: a guest that connects meanwhile
 * waits in its queue.  A daemon that finds an nbdkit running gets the socket
 * back from it, with the answer to HELLO.
 *
 * nbdkit is up when the filter answers HELLO; qemu-nbd is when it greets.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk_trust.h"
#include "export.h"
#include "greeting.h"
#include "jobs.h"
#include "owner.h"

#define FIRST_FD 3              /* of socket activation */
/* Seconds for nbdkit and qemu-nbd to end: they may have much to flush. */
#define FLUSH_GRACE 60
/* Seconds that an nbdkit has to end with its clients; and again, for those
 * that have come back before it heard of its end. */
#define CLIENTS_GRACE 1.0

static void
close_fd (int *fd)
{
  if (*fd != -1)
    close (*fd);
  *fd = -1;
}

bool
export_is_up (const struct export *ex)
{
  return ex->intent == EXPORT_RUN && ex->nbdkit.state == SERVICE_RUNNING;
}

const char *
export_reason (const struct export *ex)
{
  if (ex->qemu.state == SERVICE_RESTARTING)
    return ex->qemu.reason;
  return ex->nbdkit.reason[0] ? ex->nbdkit.reason
    : service_state_name (ex->nbdkit.state);
}

/* ------------------------------------------------------- the two services */

/* It can make no files but in its directory, and not even there if it has a
 * user: the socket of the filter is made for it.  Readers of a disk that is no
 * file come by the guest's socket. */
static int
prepare_rights (struct export *ex, struct spawn *spawn)
{
  const struct daemon *d = ex->daemon;

  close_fd (&ex->control_fd);
  if (owner_give_all (ex) == -1)
    return -1;
  export_confine (ex, spawn);
  ex->control_fd = wire_listen (ex->control);
  if (ex->control_fd == -1
      || (ex->conf->disk.kind != CONFIG_DISK_RAW
          && owner_give_socket (d, ex->socket) == -1))
    return -1;
  spawn->fds[spawn->nr_fds++] = ex->control_fd;
  spawn->nr_hidden = 1;
  spawn->user = owner_user (d);
  return 0;
}

static int
prepare_nbdkit (struct service *s, struct spawn *spawn)
{
  struct export *ex = s->owner;

  if (mkdir_private (ex->dir, false) == -1) {
    service_because (s, "%s: %s", ex->dir, strerror (errno));
    return -1;
  }
  if (ex->listen_fd == -1)
    ex->listen_fd = unix_listen (ex->socket);
  if (ex->listen_fd == -1) {
    service_because (s, "%s: %s", ex->socket, strerror (errno));
    return -1;
  }
  remove_file (ex->control);
  disk_record (ex);
  spawn->fds[spawn->nr_fds++] = ex->listen_fd;
  spawn->activation = true;
  if (prepare_rights (ex, spawn) == -1) {
    service_because (s, "%s: %s", ex->dir, strerror (errno));
    return -1;
  }
  return export_nbdkit_argv (ex, &spawn->argv);
}

static int
prepare_qemu (struct service *s, struct spawn *spawn)
{
  struct export *ex = s->owner;

  if (ex->qemu_fd == -1)
    ex->qemu_fd = unix_listen (ex->qemu_socket);
  if (ex->qemu_fd == -1
      || owner_give_socket (ex->daemon, ex->qemu_socket) == -1) {
    service_because (s, "%s: %s", ex->qemu_socket, strerror (errno));
    return -1;
  }
  spawn->fds[0] = ex->qemu_fd;
  spawn->nr_fds = 1;
  spawn->activation = true;
  spawn->user = owner_user (ex->daemon);
  return export_qemu_argv (ex, &spawn->argv);
}

static void
probe_qemu (struct service *s)
{
  struct export *ex = s->owner;

  greeting_probe (s, ex->qemu_socket);
}

/* Something was started by an earlier daemon with another configuration, or
 * is not needed any more. */
static bool
is_outdated (const struct export *ex, const struct service *s)
{
  return s->process.pidfd != -1 && s->state != SERVICE_STOPPING
    && (!service_is_current (s)
        || (s == &ex->qemu && ex->conf->disk.kind != CONFIG_DISK_QCOW2));
}

static void
is_up (struct export *ex)
{
  ex->ever_up = true;
  ex->nbdkit.reason[0] = '\0';
  log_info (&ex->daemon->log, "%s: up at %s", ex->name, ex->uri);
  snapshots_check (ex);
  checkpoints_check (ex);
  export_end_unknown (ex);
}

/* nbdkit takes no more clients once it has been told to end, but waits for
 * the next request of each that it has, and an idle guest has none. */
static void
clients_stay (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  export_hang_up (w->data);
}

static void
service_changed (struct service *s, enum service_state before)
{
  struct export *ex = s->owner;
  bool first = !ex->ever_up;

  (void) before;
  if (s == &ex->nbdkit && s->process.pidfd == -1) {
    ev_timer_stop (ex->daemon->loop, &ex->hang_up);
    export_disconnect (ex);
  }
  if (s == &ex->nbdkit && s->state == SERVICE_STOPPING)
    ev_timer_again (ex->daemon->loop, &ex->hang_up);
  if (s == &ex->nbdkit && s->state == SERVICE_RUNNING
      && ex->intent == EXPORT_RUN && !is_outdated (ex, s))
    is_up (ex);
  if (s->state == SERVICE_RESTARTING && first && !s->adopted
      && ex->intent == EXPORT_RUN)
    daemon_part_failed (ex->daemon, s->label, s->reason);
  export_next_step (ex);
}

static const struct service_ops nbdkit_ops = {
  .prepare = prepare_nbdkit, .probe = export_probe_filter, .changed = service_changed,
};

static const struct service_ops qemu_ops = {
  .prepare = prepare_qemu, .probe = probe_qemu, .changed = service_changed,
};

/* ------------------------------------------------------------ what to do */

static void
step_to_run (struct export *ex)
{
  bool qcow2 = ex->conf->disk.kind == CONFIG_DISK_QCOW2;

  if (is_outdated (ex, &ex->nbdkit) || is_outdated (ex, &ex->qemu)) {
    /* Not before HELLO: that is how we get the socket back. */
    if (ex->nbdkit.state == SERVICE_STARTING && ex->listen_fd == -1)
      return;
    log_info (&ex->daemon->log, "%s: starting it again with another "
              "configuration", ex->name);
    ex->intent = EXPORT_RESTART;
    export_next_step (ex);
    return;
  }
  if (qcow2 && ex->qemu.state == SERVICE_STOPPED)
    service_start (&ex->qemu);
  else if (ex->nbdkit.state == SERVICE_STOPPED
           && (!qcow2 || ex->qemu.state == SERVICE_RUNNING))
    service_start (&ex->nbdkit);
}

/* Snapshots go first: the filter has to let go of them.  True if there are
 * none any more. */
static bool
end_snapshots (struct export *ex)
{
  struct snapshot *s;

  if (snapshots_are_created (ex))
    return false;
  TAILQ_FOREACH (s, &ex->snapshots, entry)
    if (s->state == SNAPSHOT_ACTIVE) {
      jobs_snapshot_lost (s, ex->conf ? "its export has another disk now"
                          : "its export is not configured any more");
      if (s->state == SNAPSHOT_ACTIVE)
        snapshot_end (s, NULL, NULL);
    }
  return TAILQ_EMPTY (&ex->snapshots);
}

static void
remove_sockets (struct export *ex)
{
  close_fd (&ex->listen_fd);
  close_fd (&ex->qemu_fd);
  close_fd (&ex->control_fd);
  remove_file (ex->socket);
  remove_file (ex->control);
  remove_file (ex->qemu_socket);
}

static void
all_stopped (struct export *ex)
{
  struct daemon *d = ex->daemon;

  switch (ex->intent) {
  case EXPORT_RUN:
  case EXPORT_LEAVE:
    break;
  case EXPORT_RESTART:
    if (ex->other_disk)
      checkpoints_distrust (ex, "the export has another disk now");
    ex->other_disk = false;
    remove_file (ex->qemu_socket);
    close_fd (&ex->qemu_fd);
    ex->intent = EXPORT_RUN;
    ex->adopted = false;
    export_next_step (ex);
    break;
  case EXPORT_REMOVE:
    remove_sockets (ex);
    disk_forget (ex);
    checkpoints_remove (ex);
    rmdir (ex->dir);            /* stays if something else is in it */
    log_info (&d->log, "%s: removed", ex->name);
    export_free (ex);
    daemon_part_changed (d);
    break;
  case EXPORT_END:
    remove_sockets (ex);
    disk_release (ex);
    daemon_part_changed (d);
    break;
  }
}

/* One step may lead to the next by itself, and in the end the export may be
 * gone: so it is taken from the loop, where nobody holds a pointer. */
static void
take_step (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct export *ex = w->data;

  (void) loop;
  (void) revents;
  if (ex->intent == EXPORT_RUN) {
    step_to_run (ex);
    daemon_part_changed (ex->daemon);
    return;
  }
  if (ex->intent == EXPORT_LEAVE
      || ((ex->intent == EXPORT_REMOVE || ex->other_disk)
          && !end_snapshots (ex)))
    return;
  if (ex->nbdkit.state != SERVICE_STOPPED)
    service_stop (&ex->nbdkit);
  else if (ex->qemu.state != SERVICE_STOPPED)
    service_stop (&ex->qemu);
  else if (!ex->merging)
    all_stopped (ex);
}

void
export_next_step (struct export *ex)
{
  if (!ev_is_active (&ex->again))
    ev_timer_set (&ex->again, 0, 0);
  ev_timer_start (ex->daemon->loop, &ex->again);
}

/* --------------------------------------------------------------- outside */

struct export *
export_find (const struct daemon *d, const char *name)
{
  struct export *ex;

  TAILQ_FOREACH (ex, &d->exports, entry)
    if (strcmp (ex->name, name) == 0)
      return ex;
  return NULL;
}

static void
set_conf (struct export *ex, const struct config_export *conf)
{
  char id[CONFIG_ID_SIZE];

  ex->conf = conf;
  free (ex->scratch_dir);
  ex->scratch_dir = xstrdup (conf && conf->scratch.directory
                             ? conf->scratch.directory : ex->dir);
  if (!conf)
    return;
  config_export_id (ex->daemon->config, conf, id);
  snprintf (ex->nbdkit.config_id, sizeof ex->nbdkit.config_id, "%s", id);
  snprintf (ex->qemu.config_id, sizeof ex->qemu.config_id, "%s", id);
}

static void
init_services (struct export *ex)
{
  struct daemon *d = ex->daemon;
  const char *run = d->config->run_dir;
  char *name = xasprintf ("%s.qemu", ex->name);
  char *label = xasprintf ("%s (qemu-nbd)", ex->name);

  service_init (&ex->nbdkit, d->loop, &d->log, &nbdkit_ops, ex, "export", run,
                ex->name, ex->name);
  service_init (&ex->qemu, d->loop, &d->log, &qemu_ops, ex, "qemu", run, name,
                label);
  ex->nbdkit.grace = ex->qemu.grace = FLUSH_GRACE;
  free (name);
  free (label);
}

struct export *
export_new (struct daemon *d, const char *name,
            const struct config_export *conf)
{
  struct export *ex = xcalloc (1, sizeof *ex);
  const char *run = d->config->run_dir;

  ex->daemon = d;
  ex->listen_fd = ex->qemu_fd = ex->control_fd = -1;
  ex->name = xstrdup (name);
  ex->dir = xasprintf ("%s/exports/%s", d->config->state_dir, name);
  ex->socket = xasprintf ("%s/%s.sock", run, name);
  ex->qemu_socket = xasprintf ("%s/%s.qemu.sock", run, name);
  ex->control = xasprintf ("%s/%s.ctl", run, name);
  ex->uri = unix_uri (name, ex->socket);
  TAILQ_INIT (&ex->snapshots);
  TAILQ_INIT (&ex->checkpoints);
  ev_timer_init (&ex->again, take_step, 0, 0);
  ex->again.data = ex;
  ev_timer_init (&ex->hang_up, clients_stay, 0, CLIENTS_GRACE);
  ex->hang_up.data = ex;
  init_services (ex);
  set_conf (ex, conf);
  TAILQ_INSERT_TAIL (&d->exports, ex, entry);

  ex->intent = conf ? EXPORT_RUN : EXPORT_REMOVE;
  ex->adopted = service_adopt (&ex->nbdkit);
  snapshots_load (ex);
  checkpoints_load (ex);
  if (conf && !disk_is_recorded (ex) && (!TAILQ_EMPTY (&ex->snapshots)
                                         || !TAILQ_EMPTY (&ex->checkpoints))) {
    ex->other_disk = true;
    ex->intent = EXPORT_RESTART;
  }
  else if (conf && !ex->adopted)
    disk_distrust (ex);
  if (service_adopt (&ex->qemu))
    ex->qemu_fd = process_take_listener (&ex->qemu.process, FIRST_FD);
  export_next_step (ex);
  return ex;
}

void
export_configure (struct export *ex, const struct config_export *conf,
                  bool restart)
{
  set_conf (ex, conf);
  if (restart && ex->intent == EXPORT_RUN)
    ex->intent = EXPORT_RESTART;
  if (restart && !disk_is_recorded (ex))
    ex->other_disk = true;
  export_next_step (ex);
}

void
export_remove (struct export *ex)
{
  ex->intent = EXPORT_REMOVE;
  set_conf (ex, NULL);
  export_next_step (ex);
}

void
export_end (struct export *ex)
{
  ex->intent = EXPORT_END;
  ex->other_disk = false;       /* the next daemon will see it */
  export_next_step (ex);
}

void
export_leave (struct export *ex)
{
  ex->intent = EXPORT_LEAVE;
}

bool
export_has_ended (const struct export *ex)
{
  return ex->intent == EXPORT_LEAVE
    || (ex->intent == EXPORT_END && ex->nbdkit.state == SERVICE_STOPPED
        && ex->qemu.state == SERVICE_STOPPED && !ev_is_active (&ex->again));
}

void
export_free (struct export *ex)
{
  struct daemon *d = ex->daemon;

  export_disconnect (ex);
  ev_timer_stop (d->loop, &ex->again);
  ev_timer_stop (d->loop, &ex->hang_up);
  while (!TAILQ_EMPTY (&ex->snapshots))
    snapshot_free (TAILQ_FIRST (&ex->snapshots));
  while (!TAILQ_EMPTY (&ex->checkpoints))
    checkpoint_free (TAILQ_FIRST (&ex->checkpoints));
  TAILQ_REMOVE (&d->exports, ex, entry);
  service_free (&ex->nbdkit);
  service_free (&ex->qemu);
  close_fd (&ex->listen_fd);
  close_fd (&ex->qemu_fd);
  close_fd (&ex->control_fd);
  free (ex->name);
  free (ex->dir);
  free (ex->socket);
  free (ex->qemu_socket);
  free (ex->control);
  free (ex->uri);
  free (ex->scratch_dir);
  free (ex->chain_unknown);
  free (ex);
}
