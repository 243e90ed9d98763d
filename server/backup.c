/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The backup endpoint: the front, and the server that it has snapshots from. */

/*   backup software ──▶ nbdfleece-front ──▶ nbdkit -r fleece dir=STATE
 *                       RUN/backup.sock     RUN/backup.data.sock
 *                       and tcp addresses
 *
 * Both are services like any other, and may die alone: clients of a front that
 * waits for its backend are not told, and whoever connects while there is no
 * front waits in the queue of a socket that we keep (backup_sockets.c).  The
 * front ends first, so that what its clients have asked for is answered.
 *
 * What the configuration says of the endpoint can all change while it runs.
 * The front has it from RUN/backup.conf, which it reads at its start and on
 * SIGHUP.  The file has an id, which is never the same twice, and the front
 * tells at its status socket which id is in effect:
 *
 *   new options ──▶ file, id ──▶ front RUNNING? ──▶ SIGHUP ──▶ ask ──▶ that id
 *                       ▲            │ no                       │
 *                       └────────────┘ prepare() writes it      └▶ refusal
 *
 * A refusal (an address that somebody else has) leaves the front with the
 * options that it had, and is said where people look.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backup_internal.h"
#include "greeting.h"
#include "owner.h"

/* Threads of the snapshot server for each connection.  Each has a buffer as
 * long as its longest request, which the front makes 1 MiB. */
#define DATA_THREADS "8"

#define FRONT_GRACE 12          /* seconds; it takes up to 8 to end in order */
#define FIRST_FD 3              /* of socket activation */
#define ASK_PAUSE 0.03          /* seconds */
#define EFFECT_LIMIT 10.0

/* ------------------------------------------------------------------ services */

static int
prepare_data (struct service *s, struct spawn *spawn)
{
  struct backup *b = s->owner;
  const struct daemon *d = b->daemon;

  if (b->data_fd == -1)
    b->data_fd = unix_listen (b->data_socket);
  if (b->data_fd == -1) {
    service_because (s, "%s: %s", b->data_socket, strerror (errno));
    return -1;
  }
  if (owner_give_socket (d, b->data_socket) == -1) {
    service_because (s, "%s: %s", b->data_socket, strerror (errno));
    return -1;
  }
  spawn->fds[spawn->nr_fds++] = b->data_fd;
  spawn->activation = true;
  spawn->is_confined = true;
  spawn->user = owner_user (d);
  strings_add (&spawn->argv, "%s", d->programs.nbdkit);
  strings_add (&spawn->argv, "-f");
  strings_add (&spawn->argv, "-r");
  strings_add (&spawn->argv, "--threads=" DATA_THREADS);
  if (d->verbose > 1)
    strings_add (&spawn->argv, "-v");
  strings_add (&spawn->argv, "%s", d->programs.plugin);
  strings_add (&spawn->argv, "dir=%s", d->config->state_dir);
  return 0;
}

static int
write_options (struct backup *b)
{
  char *text = backup_options_text (b->daemon->config, b->id);
  int r = write_file (b->options_path, text, false);

  if (r == 0)
    r = owner_let_read (b->daemon, b->options_path);

  free (text);
  return r;
}

static void
note_scratches (struct backup *b)
{
  const struct config *config = b->daemon->config;
  size_t i;

  strings_free (&b->scratches);
  for (i = 0; i < config->nr_exports; i++)
    if (config->exports[i].scratch.directory)
      strings_add (&b->scratches, "%s",
                   config->exports[i].scratch.directory);
}

/* Clients may release clusters: bits of the map, data in the scratch. */
static void
confine_front (const struct backup *b, struct spawn *spawn)
{
  size_t i;

  spawn->is_confined = true;
  strings_add (&spawn->confined.files, "%s/exports",
               b->daemon->config->state_dir);
  for (i = 0; i < b->scratches.nr; i++)
    strings_add (&spawn->confined.files, "%s", b->scratches.v[i]);
}

/* The front can make no files: not even this socket. */
static int
add_status (struct backup *b, struct spawn *spawn)
{
  if (b->status_fd != -1)
    close (b->status_fd);
  b->status_fd = -1;
  if (spawn->nr_fds == SPAWN_FDS_MAX) {
    errno = EMFILE;
    return -1;
  }
  b->status_fd = unix_listen (b->status_path);
  if (b->status_fd == -1)
    return -1;
  spawn->fds[spawn->nr_fds++] = b->status_fd;
  return 0;
}

static int
prepare_front (struct service *s, struct spawn *spawn)
{
  struct backup *b = s->owner;
  const struct daemon *d = b->daemon;

  b->effect = EFFECT_UNKNOWN;
  if (backup_sockets_fit (&b->sockets, d->config, s->reason,
                          sizeof s->reason) == -1)
    return -1;
  if (write_options (b) == -1) {
    service_because (s, "%s: %s", b->options_path, strerror (errno));
    return -1;
  }
  memcpy (spawn->fds, b->sockets.fds, b->sockets.nr * sizeof spawn->fds[0]);
  spawn->nr_fds = b->sockets.nr;
  spawn->activation = true;
  spawn->user = owner_user (d);
  note_scratches (b);
  confine_front (b, spawn);
  if (add_status (b, spawn) == -1) {
    service_because (s, "%s: %s", b->status_path, strerror (errno));
    return -1;
  }
  strings_add (&spawn->argv, "%s", d->programs.front);
  backup_options_fixed (d->config, &spawn->argv);
  strings_add (&spawn->argv, "--config=%s", b->options_path);
  if (d->verbose > 1)
    strings_add (&spawn->argv, "--verbose");
  return 0;
}

static void
probe_data (struct service *s)
{
  greeting_probe (s, ((struct backup *) s->owner)->data_socket);
}

static void
probe_front (struct service *s)
{
  greeting_probe (s, ((struct backup *) s->owner)->socket);
}

static void
next_step (struct backup *b)
{
  ev_timer_stop (b->daemon->loop, &b->again);
  ev_timer_set (&b->again, 0, 0);
  ev_timer_start (b->daemon->loop, &b->again);
}

static void
changed (struct service *s, enum service_state before)
{
  struct backup *b = s->owner;

  (void) before;
  if (s->state == SERVICE_RUNNING)
    s->reason[0] = '\0';
  if (s->state == SERVICE_RESTARTING && !b->ever_up && !s->adopted
      && b->intent == BACKUP_RUN)
    daemon_part_failed (b->daemon, s->label, s->reason);
  next_step (b);
}

static const struct service_ops data_ops = {
  .prepare = prepare_data, .probe = probe_data, .changed = changed,
};

static const struct service_ops front_ops = {
  .prepare = prepare_front, .probe = probe_front, .changed = changed,
};

/* ------------------------------------------------------------------- options */

static void
ask_later (struct backup *b, double after)
{
  ev_timer_stop (b->daemon->loop, &b->ask);
  ev_timer_set (&b->ask, after, 0);
  ev_timer_start (b->daemon->loop, &b->ask);
}

/* Whether the options are in effect is known now, or will not be. */
static void
effect_is (struct backup *b, enum backup_effect effect, const char *refusal)
{
  struct backup_waiter *w;

  b->effect = effect;
  snprintf (b->refusal, sizeof b->refusal, "%s", refusal);
  ev_timer_stop (b->daemon->loop, &b->effect_limit);
  while ((w = LIST_FIRST (&b->waiters)) != NULL) {
    LIST_REMOVE (w, entry);
    w->done (w->opaque, refusal[0] ? refusal : NULL);
    free (w);
  }
  daemon_part_changed (b->daemon);
}

static void
told (void *opaque, struct json_object *status)
{
  struct backup *b = opaque;
  const char *id = status ? member_string (status, "id") : NULL;
  const char *refusal = status ? member_string (status, "refusal") : NULL;
  int64_t reloads = status ? member_int (status, "reloads", 0) : 0;

  b->asked = false;
  if (b->front.state != SERVICE_RUNNING || b->effect == EFFECT_REFUSED)
    return;
  if (id && strcmp (id, b->id) == 0) {
    if (b->effect == EFFECT_SIGNALLED)
      backup_sockets_take (&b->sockets, &b->front.process, b->daemon->config);
    effect_is (b, EFFECT_KNOWN, "");
  }
  else if (id && b->effect == EFFECT_UNKNOWN) {
    b->effect = EFFECT_SIGNALLED;
    b->reloads = reloads;
    process_signal (&b->front.process, SIGHUP);
    ask_later (b, ASK_PAUSE);
  }
  else if (refusal && b->effect == EFFECT_SIGNALLED && reloads > b->reloads) {
    log_error (&b->daemon->log, "backup: the new configuration is not in "
               "effect: %s", refusal);
    effect_is (b, EFFECT_REFUSED, refusal);
  }
  else
    ask_later (b, ASK_PAUSE);
}

static void
ask_front (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct backup *b = w->data;

  (void) revents;
  if (b->asked || b->front.state != SERVICE_RUNNING
      || b->effect == EFFECT_KNOWN || b->effect == EFFECT_REFUSED)
    return;
  b->asked = true;
  front_ask (loop, &b->asks, b->status_path, told, b);
}

static void
no_effect (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  if (((struct backup *) w->data)->effect != EFFECT_KNOWN)
    effect_is (w->data, EFFECT_REFUSED, "the front does not answer");
}

static void
new_options (struct backup *b)
{
  const struct config *config = b->daemon->config;
  size_t rules = config->nr_allow, i;

  for (i = 0; i < config->nr_exports; i++)
    rules += config->exports[i].nr_allow;
  if (config->nr_listen > 0 && rules == 0)
    log_warning (&b->daemon->log, "backup: nobody sees anything through TCP, "
                 "as no 'allow' says who may");
  free (b->id);
  b->id = xasprintf ("%" PRIi64 ".%u", b->daemon->started_ns,
                     ++b->nr_options);
  b->effect = EFFECT_UNKNOWN;
  b->refusal[0] = '\0';
}

void
backup_when_in_effect (struct backup *b,
                       void (*done) (void *opaque, const char *refusal),
                       void *opaque)
{
  struct backup_waiter *w = xcalloc (1, sizeof *w);

  w->done = done;
  w->opaque = opaque;
  LIST_INSERT_HEAD (&b->waiters, w, entry);
  ask_later (b, 0);
}

/* --------------------------------------------------------------------- steps */

static bool
both_in (const struct backup *b, enum service_state state)
{
  return b->data.state == state && b->front.state == state;
}

static void
start_stopped (struct backup *b)
{
  if (b->data.state == SERVICE_STOPPED)
    service_start (&b->data);
  if (b->front.state == SERVICE_STOPPED)
    service_start (&b->front);
  if (both_in (b, SERVICE_RUNNING)) {
    if (!b->ever_up)
      log_info (&b->daemon->log, "snapshots are served at %s", b->socket);
    b->ever_up = true;
  }
  if (b->front.state == SERVICE_RUNNING)
    ask_later (b, 0);
  daemon_part_changed (b->daemon);
}

static void
take_step (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct backup *b = w->data;

  (void) loop;
  (void) revents;
  if (b->intent == BACKUP_RUN) {
    start_stopped (b);
    return;
  }
  if (b->intent == BACKUP_LEAVE)
    return;
  service_stop (&b->front);
  if (b->front.state == SERVICE_STOPPED)
    service_stop (&b->data);
  if (!both_in (b, SERVICE_STOPPED))
    return;
  if (b->intent == BACKUP_RESTART) {
    b->intent = BACKUP_RUN;
    b->adopted = false;
    next_step (b);
  }
  else
    daemon_part_changed (b->daemon);
}

/* What an earlier daemon has started is taken over, and started again if it is
 * of another version. */
static void
adopt (struct backup *b)
{
  bool data = service_adopt (&b->data), front = service_adopt (&b->front);

  if (data)
    b->data_fd = process_take_listener (&b->data.process, FIRST_FD);
  if (front)
    backup_sockets_take (&b->sockets, &b->front.process, b->daemon->config);
  b->adopted = data || front;
  if ((data && !service_is_current (&b->data))
      || (front && !service_is_current (&b->front)))
    b->intent = BACKUP_RESTART;
  /* The front shall have the options of this daemon. */
  if (front && write_options (b) == -1)
    log_error (&b->daemon->log, "%s: %m", b->options_path);
}

static void
set_config_id (struct backup *b, struct service *s)
{
  char id[CONFIG_ID_SIZE];

  config_backup_id (b->daemon->config, id);
  snprintf (s->config_id, sizeof s->config_id, "%s-%s", PACKAGE_VERSION, id);
}

static void
init_service (struct backup *b, struct service *s,
              const struct service_ops *ops, const char *name)
{
  service_init (s, b->daemon->loop, &b->daemon->log, ops, b, "backup",
                b->daemon->config->run_dir, name, name);
  set_config_id (b, s);
}

static void
init_timer (struct backup *b, ev_timer *timer, double after,
            void (*callback) (struct ev_loop *, ev_timer *, int))
{
  ev_timer_init (timer, callback, after, 0);
  timer->data = b;
}

struct backup *
backup_new (struct daemon *d)
{
  struct backup *b = xcalloc (1, sizeof *b);

  b->daemon = d;
  b->data_fd = b->status_fd = -1;
  b->socket = backup_file (d->config, BACKUP_SOCKET);
  b->data_socket = backup_file (d->config, BACKUP_DATA_SOCKET);
  b->status_path = backup_file (d->config, BACKUP_STATUS);
  b->options_path = backup_file (d->config, BACKUP_OPTIONS);
  LIST_INIT (&b->asks);
  LIST_INIT (&b->waiters);
  init_timer (b, &b->again, 0, take_step);
  init_timer (b, &b->ask, 0, ask_front);
  init_timer (b, &b->effect_limit, EFFECT_LIMIT, no_effect);
  init_service (b, &b->data, &data_ops, "backup.data");
  init_service (b, &b->front, &front_ops, "backup");
  b->front.grace = FRONT_GRACE;
  new_options (b);
  note_scratches (b);
  adopt (b);
  next_step (b);
  return b;
}

/* A directory for scratches in which the front may not write yet: it cannot be
 * given more rights than it was started with. */
static bool
needs_more_rights (const struct backup *b)
{
  const struct config *config = b->daemon->config;
  size_t i, j;

  for (i = 0; i < config->nr_exports; i++) {
    const char *dir = config->exports[i].scratch.directory;

    for (j = 0; dir && j < b->scratches.nr
           && strcmp (b->scratches.v[j], dir) != 0; j++)
      ;
    if (dir && j == b->scratches.nr)
      return true;
  }
  return false;
}

void
backup_configure (struct backup *b)
{
  struct daemon *d = b->daemon;

  new_options (b);
  set_config_id (b, &b->data);
  set_config_id (b, &b->front);
  if (confine_version () > 0 && b->intent == BACKUP_RUN
      && needs_more_rights (b)) {
    log_info (&d->log, "backup: starting it again: there is another directory "
              "for scratches");
    b->intent = BACKUP_RESTART;
    next_step (b);
  }
  if (b->front.state == SERVICE_RUNNING || b->front.state == SERVICE_STARTING)
    if (write_options (b) == -1)
      log_error (&d->log, "%s: %m", b->options_path);
  ev_timer_stop (d->loop, &b->effect_limit);
  ev_timer_set (&b->effect_limit, EFFECT_LIMIT, 0);
  ev_timer_start (d->loop, &b->effect_limit);
  ask_later (b, 0);
}

bool
backup_is_up (const struct backup *b)
{
  return b->intent == BACKUP_RUN && both_in (b, SERVICE_RUNNING)
    && (b->effect == EFFECT_KNOWN || b->effect == EFFECT_REFUSED);
}

void
backup_end (struct backup *b)
{
  b->intent = BACKUP_END;
  next_step (b);
}

bool
backup_has_ended (const struct backup *b)
{
  return b->intent == BACKUP_LEAVE
    || (b->intent == BACKUP_END && both_in (b, SERVICE_STOPPED));
}

void
backup_leave (struct backup *b)
{
  b->intent = BACKUP_LEAVE;
}

bool
backup_was_adopted (const struct backup *b)
{
  return b->adopted;
}

void
backup_free (struct backup *b)
{
  struct backup_waiter *w;

  if (!b)
    return;
  ev_timer_stop (b->daemon->loop, &b->again);
  ev_timer_stop (b->daemon->loop, &b->ask);
  ev_timer_stop (b->daemon->loop, &b->effect_limit);
  front_asks_forget (&b->asks);
  while ((w = LIST_FIRST (&b->waiters)) != NULL) {
    LIST_REMOVE (w, entry);
    free (w);
  }
  backup_sockets_close (&b->sockets);
  if (b->data_fd != -1)
    close (b->data_fd);
  if (b->status_fd != -1)
    close (b->status_fd);
  if (b->data.state == SERVICE_STOPPED)
    remove_file (b->data_socket);
  if (b->front.state == SERVICE_STOPPED) {
    remove_file (b->socket);
    remove_file (b->status_path);
    remove_file (b->options_path);
  }
  service_free (&b->data);
  service_free (&b->front);
  strings_free (&b->scratches);
  free (b->id);
  free (b->socket);
  free (b->data_socket);
  free (b->status_path);
  free (b->options_path);
  free (b);
}
