/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The command of the control socket that deletes a snapshot. */

/* A snapshot that backup software reads is not taken away from it unless that
 * is asked for (`force'); then its clients get ESHUTDOWN, and the end.  Who
 * reads it is the front's to say.  A client that has just left may be in its
 * list for a moment, so that it is asked a few times before it is believed.
 *
 * A deletion that a filter does not answer is reported as an error after a
 * while; it is carried out as soon as it can be.
 */

#include <config.h>

#include <stdlib.h>

#include "backup.h"
#include "control.h"
#include "export.h"
#include "job_commands.h"
#include "jobs.h"
#include "rearm.h"

#define DELETE_LIMIT 15.0       /* seconds */
#define ASK_TIMES 8
#define ASK_PAUSE 0.1           /* seconds */

struct deletion {
  struct request *request;      /* NULL: answered */
  struct daemon *daemon;
  char *export_name, *snapshot;
  unsigned asked;               /* times */
  ev_timer timer;               /* next question, or limit */
};

static void
deletion_free (struct deletion *deletion)
{
  ev_timer_stop (deletion->daemon->loop, &deletion->timer);
  free (deletion->export_name);
  free (deletion->snapshot);
  free (deletion);
}

static void
set_timer (struct deletion *deletion, double after,
           void (*callback) (struct ev_loop *, ev_timer *, int))
{
  ev_timer_stop (deletion->daemon->loop, &deletion->timer);
  ev_timer_init (&deletion->timer, callback, after, 0);
  deletion->timer.data = deletion;
  ev_timer_start (deletion->daemon->loop, &deletion->timer);
}

static void
snapshot_deleted (void *opaque)
{
  struct deletion *deletion = opaque;

  if (deletion->request)
    request_result (deletion->request, json_object_new_object ());
  deletion_free (deletion);
}

static void
deletion_takes_long (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct deletion *deletion = w->data;

  (void) loop;
  (void) revents;
  request_error (deletion->request, "timeout", "the export's nbdkit does not "
                 "answer; the snapshot is deleted as soon as it does");
  deletion->request = NULL;
}

/* The snapshot, if it can be deleted; else NULL, and the request has been
 * answered. */
static struct snapshot *
find_snapshot (struct request *request, const char *export_name,
               const char *name)
{
  struct export *ex = choose_export (request, export_name);
  struct snapshot *s = ex ? snapshot_find (ex, name) : NULL;

  if (!ex)
    return NULL;
  if (!s)
    request_error (request, "unknown-snapshot", "export %s has no snapshot "
                   "%s", ex->name, name);
  else if (s->job)
    request_error (request, "in-use", "snapshot %s of export %s is used by "
                   "job %s", name, ex->name, job_id (s->job));
  else if (rearm_find (ex, name))
    request_error (request, "in-use", "snapshot %s of export %s is being "
                   "moved", name, ex->name);
  else if (s->state != SNAPSHOT_ACTIVE)
    request_error (request, "in-use", "snapshot %s of export %s is being %s",
                   name, ex->name, s->state == SNAPSHOT_ENDING ? "deleted"
                   : "created");
  else
    return s;
  return NULL;
}

static void
delete_now (struct deletion *deletion)
{
  struct snapshot *s = find_snapshot (deletion->request,
                                      deletion->export_name,
                                      deletion->snapshot);

  if (!s) {
    deletion_free (deletion);
    return;
  }
  set_timer (deletion, DELETE_LIMIT, deletion_takes_long);
  snapshot_end (s, snapshot_deleted, deletion);
}

static void ask_again (struct ev_loop *loop, ev_timer *w, int revents);

static void
front_told (void *opaque, struct json_object *status)
{
  struct deletion *deletion = opaque;
  struct backup *backup = deletion->daemon->backup;
  char who[400];
  size_t n;

  if (!status && backup_front_runs (backup)) {
    request_error (deletion->request, "timeout", "it is not known whether "
                   "snapshot %s of export %s is being read, as the front does "
                   "not answer; --force deletes it all the same",
                   deletion->snapshot, deletion->export_name);
    deletion_free (deletion);
    return;
  }
  n = backup_readers (status, deletion->export_name, deletion->snapshot, who,
                      sizeof who);
  if (n == 0)
    delete_now (deletion);
  else if (++deletion->asked < ASK_TIMES)
    set_timer (deletion, ASK_PAUSE, ask_again);
  else {
    request_error (deletion->request, "in-use", "snapshot %s of export %s is "
                   "being read by %s%s; --force deletes it all the same",
                   deletion->snapshot, deletion->export_name, who,
                   n > 1 ? " and others" : "");
    deletion_free (deletion);
  }
}

static void
ask_again (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct deletion *deletion = w->data;

  (void) loop;
  (void) revents;
  backup_ask (deletion->daemon->backup, front_told, deletion);
}

void
do_snapshot_delete (struct request *request, struct json_object *args)
{
  const char *export_name = member_string (args, "export");
  const char *name = member_string (args, "name");
  struct deletion *deletion;

  if (!find_snapshot (request, export_name, name))
    return;
  deletion = xcalloc (1, sizeof *deletion);
  deletion->request = request;
  deletion->daemon = request->daemon;
  deletion->export_name = xstrdup (export_name);
  deletion->snapshot = xstrdup (name);
  if (member_bool (args, "force") || !backup_front_runs (request->daemon->backup))
    delete_now (deletion);
  else
    backup_ask (request->daemon->backup, front_told, deletion);
}
