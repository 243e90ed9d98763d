/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The command of the control socket that deletes snapshots. */

/* A snapshot that backup software reads is not taken away from it unless that
 * is asked for (`force'); then its clients get ESHUTDOWN, and the end.  Who
 * reads it is the front's to say.  A client that has just left may be in its
 * list for a moment, so that it is asked a few times before it is believed.
 *
 * Several exports' snapshots of one name are deleted side by side: if one of them
 * cannot be, the others are, and the first reason is the answer.  But nothing is
 * deleted if one does not exist or is needed from the beginning.
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

/* What one request asks for. */
struct deletions {
  struct request *request;
  size_t waiting;
  struct failure failure;       /* the first; code is NULL if there is none */
};

struct deletion {
  struct deletions *all;        /* NULL: has been told */
  struct daemon *daemon;
  char *export_name, *snapshot;
  unsigned asked;               /* times */
  ev_timer timer;               /* next question, or limit */
};

static void
one_less (struct deletions *all)
{
  if (--all->waiting > 0)
    return;
  if (all->failure.code)
    request_failed (all->request, &all->failure);
  else
    request_result (all->request, json_object_new_object ());
  free (all);
}

/* Tells how this one went; failure is NULL if well. */
static void
tell (struct deletion *deletion, const struct failure *failure)
{
  struct deletions *all = deletion->all;

  deletion->all = NULL;
  if (!all)
    return;
  if (failure && !all->failure.code)
    all->failure = *failure;
  one_less (all);
}

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
fail (struct deletion *deletion, const struct failure *failure)
{
  tell (deletion, failure);
  deletion_free (deletion);
}

static void
snapshot_deleted (void *opaque)
{
  struct deletion *deletion = opaque;

  tell (deletion, NULL);
  deletion_free (deletion);
}

static void
deletion_takes_long (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct deletion *deletion = w->data;
  struct failure failure;

  (void) loop;
  (void) revents;
  failure_set (&failure, "timeout", "the nbdkit of export %s does not answer; "
               "the snapshot is deleted as soon as it does",
               deletion->export_name);
  tell (deletion, &failure);
}

/* The snapshot, if it can be deleted; else NULL and *failure. */
static struct snapshot *
find_snapshot (const struct export *ex, const char *name,
               struct failure *failure)
{
  struct snapshot *s = snapshot_find (ex, name);

  if (!s)
    failure_set (failure, "unknown-snapshot", "export %s has no snapshot %s",
                 ex->name, name);
  else if (s->job)
    failure_set (failure, "in-use", "snapshot %s of export %s is used by job "
                 "%s", name, ex->name, job_id (s->job));
  else if (rearm_find (ex, name))
    failure_set (failure, "in-use", "snapshot %s of export %s is being moved",
                 name, ex->name);
  else if (s->state != SNAPSHOT_ACTIVE)
    failure_set (failure, "in-use", "snapshot %s of export %s is being %s",
                 name, ex->name, s->state == SNAPSHOT_ENDING ? "deleted"
                 : "created");
  else
    return s;
  return NULL;
}

static void
delete_now (struct deletion *deletion)
{
  const struct export *ex = export_find (deletion->daemon,
                                         deletion->export_name);
  struct failure failure;
  struct snapshot *s = NULL;

  if (ex && ex->conf)
    s = find_snapshot (ex, deletion->snapshot, &failure);
  else                          /* a reload took it, meanwhile */
    failure_set (&failure, "unknown-export", "there is no export %s",
                 deletion->export_name);
  if (!s) {
    fail (deletion, &failure);
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
  struct failure failure;
  char who[400];
  size_t n;

  if (!status && backup_front_runs (backup)) {
    failure_set (&failure, "timeout", "it is not known whether snapshot %s of "
                 "export %s is being read, as the front does not answer; "
                 "--force deletes it all the same", deletion->snapshot,
                 deletion->export_name);
    fail (deletion, &failure);
    return;
  }
  n = backup_readers (status, deletion->export_name, deletion->snapshot, who,
                      sizeof who);
  if (n == 0)
    delete_now (deletion);
  else if (++deletion->asked < ASK_TIMES)
    set_timer (deletion, ASK_PAUSE, ask_again);
  else {
    failure_set (&failure, "in-use", "snapshot %s of export %s is being read "
                 "by %s%s; --force deletes it all the same",
                 deletion->snapshot, deletion->export_name, who,
                 n > 1 ? " and others" : "");
    fail (deletion, &failure);
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

static void
begin (struct deletions *all, const struct export *ex, const char *name,
       bool force)
{
  struct deletion *deletion = xcalloc (1, sizeof *deletion);

  deletion->all = all;
  deletion->daemon = ex->daemon;
  deletion->export_name = xstrdup (ex->name);
  deletion->snapshot = xstrdup (name);
  if (force || !backup_front_runs (ex->daemon->backup))
    delete_now (deletion);
  else
    backup_ask (ex->daemon->backup, front_told, deletion);
}

void
do_snapshot_delete (struct request *request, struct json_object *args)
{
  const char *name = member_string (args, "name");
  struct deletions *all;
  struct failure failure;
  struct chosen chosen;
  size_t i;

  if (!choose_exports (request, args, &chosen))
    return;
  for (i = 0; i < chosen.nr; i++)
    if (!find_snapshot (chosen.exports[i], name, &failure)) {
      request_failed (request, &failure);
      return;
    }
  all = xcalloc (1, sizeof *all);
  all->request = request;
  all->waiting = chosen.nr + 1; /* until all have begun */
  for (i = 0; i < chosen.nr; i++)
    begin (all, chosen.exports[i], name, member_bool (args, "force"));
  one_less (all);
}
