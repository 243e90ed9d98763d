/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket that begin snapshots. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "export.h"
#include "job_commands.h"
#include "jobs.h"
#include "names.h"
#include "rearm.h"
#include "scope.h"
#include "status.h"

/* Snapshots that have begun, on their way to what was asked for. */
struct making {
  struct request *request;
  char *since;                  /* their scope, or NULL */
  bool rearm;
  struct failure failure;       /* code is NULL as long as all is well */
  char *record;                 /* of unfinished.h, or NULL */
  struct json_object *report;   /* members for the answer */
  size_t nr, waiting;
  struct snapshot **snapshots;
  struct checkpoint **checkpoints; /* made along; each may be NULL */
};

static void
free_making (struct making *m)
{
  if (m->record)
    remove_file (m->record);
  free (m->record);
  free (m->since);
  json_object_put (m->report);
  free (m->snapshots);
  free (m->checkpoints);
  free (m);
}

static void
answer (void *opaque)
{
  struct making *m = opaque;
  struct json_object *o = json_object_new_object ();
  struct json_object *array = json_object_new_array ();
  size_t i;

  for (i = 0; i < m->nr; i++)
    json_object_array_add (array, snapshot_json (m->snapshots[i]));
  json_object_object_add (o, "snapshots", array);
  json_add_members (o, m->report);
  request_result (m->request, o);
  free_making (m);
}

static void
one_gone (void *opaque)
{
  struct making *m = opaque;

  if (--m->waiting > 0)
    return;
  request_failed (m->request, &m->failure);
  free_making (m);
}

/* They have begun, but are not what was asked for. */
static void
undo (struct making *m)
{
  struct failure ignored;
  size_t i;

  m->waiting = m->nr;
  for (i = 0; i < m->nr; i++) {
    struct checkpoint *cp = m->checkpoints[i];

    if (cp && cp->name)
      checkpoint_delete (cp, &ignored);
    snapshot_end (m->snapshots[i], one_gone, m);
  }
}

/* All is as it was asked for; from here on it stays so whatever dies. */
static void
commit (struct making *m)
{
  size_t i;

  if (m->record)
    remove_file (m->record);
  free (m->record);
  m->record = NULL;
  for (i = 0; i < m->nr; i++) {
    if (m->checkpoints[i])
      m->checkpoints[i]->busy = false;
    m->snapshots[i]->state = SNAPSHOT_ACTIVE;
    export_next_step (m->snapshots[i]->export);
  }
  if (m->rearm)
    rearm_take_place (m->snapshots[0], answer, m);
  else
    answer (m);
}

static void
one_limited (void *opaque, const struct failure *failure)
{
  struct making *m = opaque;

  if (failure)
    m->failure = *failure;
  if (--m->waiting > 0)
    return;
  if (m->failure.code)
    undo (m);
  else
    commit (m);
}

/* Until they are, nobody shall see or end them. */
static void
limit_all (struct making *m)
{
  size_t i;

  m->waiting = m->nr;
  for (i = 0; i < m->nr; i++) {
    m->snapshots[i]->state = SNAPSHOT_CREATING;
    if (m->checkpoints[i])
      m->checkpoints[i]->busy = true;
    scope_limit (m->snapshots[i], m->since, m->checkpoints[i], one_limited,
                 m);
  }
}

static void
made (void *opaque, const struct failure *failure, struct created *created)
{
  struct making *m = opaque;
  size_t size;

  if (failure) {
    request_failed (m->request, failure);
    free_making (m);
    return;
  }
  m->nr = created->nr;
  m->report = json_object_get (created->report);
  size = m->nr * sizeof m->snapshots[0];
  m->snapshots = memcpy (xcalloc (1, size), created->snapshots, size);
  m->checkpoints = memcpy (xcalloc (1, size), created->checkpoints, size);
  m->record = created->record;
  created->record = NULL;
  if (m->since)
    limit_all (m);
  else
    commit (m);
}

/* False if the request has been answered with an error. */
static bool
check_name (struct request *request, const char *name, const char *what)
{
  if (!name || name_ok (name))
    return true;
  request_error (request, "bad-name", "'%s' is no name for a %s; expected "
                 NAME_RULE, name, what);
  return false;
}

static bool
check_scope (struct request *request, const char *scope, const char *since)
{
  bool dirty = scope && strcmp (scope, "dirty") == 0;

  if (scope && !dirty && strcmp (scope, "disk") != 0)
    request_error (request, "bad-request", "scope: expected disk or dirty");
  else if (dirty && !since)
    request_error (request, "bad-request", "scope: dirty needs a checkpoint "
                   "to start from, in since");
  else if (since && !dirty)
    request_error (request, "bad-request", "since goes with scope dirty");
  else
    return true;
  return false;
}

static void
make (struct request *request, struct create_params *params,
      const char *since)
{
  struct making *m = xcalloc (1, sizeof *m);

  m->request = request;
  m->rearm = params->rearm;
  m->since = since ? xstrdup (since) : NULL;
  snapshots_create (request->daemon, params, made, m);
}

void
do_snapshot_create (struct request *request, struct json_object *args)
{
  const char *name = member_string (args, "name");
  const char *since = member_string (args, "since");
  struct create_params params = {
    .checkpoint = member_string (args, "checkpoint"),
    .deadline_ms = member_int (args, "deadline-ms", 0),
    .release = member_bool (args, "release"),
  };
  struct create_wish wishes[EXPORTS_MAX];
  struct chosen chosen;
  size_t i;

  if (!check_name (request, name, "snapshot")
      || !check_name (request, params.checkpoint, "checkpoint")
      || !check_scope (request, member_string (args, "scope"), since)
      || !choose_exports (request, args, &chosen))
    return;
  for (i = 0; i < chosen.nr; i++)
    wishes[i] = (struct create_wish) { .export = chosen.exports[i],
                                       .name = name, .since = since };
  params.wishes = wishes;
  params.nr = chosen.nr;
  params.groups = chosen.groups;
  params.nr_groups = chosen.nr_groups;
  make (request, &params, since);
}

/* A snapshot that is limited to what has changed since a checkpoint stays so,
 * as far as there is still that checkpoint. */
void
do_snapshot_rearm (struct request *request, struct json_object *args)
{
  const char *name = member_string (args, "name");
  const struct snapshot *old;
  struct create_wish wish = { .name = name };
  struct create_params params = {
    .wishes = &wish, .nr = 1, .checkpoint = member_string (args, "checkpoint"),
    .deadline_ms = member_int (args, "deadline-ms", 0),
    .rearm = true,
  };

  if (!check_name (request, params.checkpoint, "checkpoint"))
    return;
  wish.export = choose_export (request, member_string (args, "export"));
  if (!wish.export)
    return;
  old = snapshot_find (wish.export, name);
  if (old && old->map.fixed && old->map.fixed->parent[0])
    wish.since = old->map.fixed->parent;
  params.release = old && old->map.fixed
    && (atomic_load (&old->map.live->flags) & BMFILE_CLIENTS_RELEASE);
  if (!old)
    request_error (request, "unknown-snapshot", "export %s has no snapshot "
                   "%s", wish.export->name, name);
  else if (old->job)
    request_error (request, "in-use", "snapshot %s of export %s is used by "
                   "job %s", name, wish.export->name, job_id (old->job));
  else
    make (request, &params, wish.since);
}
