/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket: what they take and what they do. */

/* One table says which members a command has, of which type and range; they
 * are checked before the command is called, so the functions below only ask
 * for values.  docs/control-protocol.md is the same table for people.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup.h"
#include "control.h"
#include "export.h"
#include "job_commands.h"
#include "jobs.h"
#include "status.h"

#define MEMBERS_MAX 24
#define RETRY_MS_MAX (24 * 3600 * 1000)
#define SPEED_MAX (INT64_C (1) << 60) /* the copier's limit, too */

enum member_type { MEMBER_END, MEMBER_STRING, MEMBER_STRINGS, MEMBER_INTEGER,
                   MEMBER_BOOLEAN };

struct member {
  const char *name;
  enum member_type type;
  bool optional;
  int64_t min, max;             /* MEMBER_INTEGER */
};

struct command {
  const char *name;
  void (*execute) (struct request *request, struct json_object *args);
  struct member members[MEMBERS_MAX];
};

/* ---------------------------------------------------------------- version */

static void
do_version (struct request *request, struct json_object *args)
{
  struct json_object *o = json_object_new_object ();

  (void) args;
  json_add_string (o, "version", PACKAGE_VERSION);
  json_add_int (o, "protocol", CONTROL_PROTOCOL);
  json_add_int (o, "pid", getpid ());
  json_add_string (o, "nbdkit-version",
                   request->daemon->programs.nbdkit_version);
  request_result (request, o);
}

static void
do_status (struct request *request, struct json_object *args)
{
  (void) args;
  status_request (request);
}

/* -------------------------------------------------------------- snapshots */

static void
do_snapshot_list (struct request *request, struct json_object *args)
{
  const char *name = member_string (args, "export");
  struct export *ex = name ? choose_export (request, name) : NULL;
  struct json_object *o;

  if (name && !ex)
    return;
  o = json_object_new_object ();
  json_object_object_add (o, "snapshots",
                          snapshots_json (request->daemon, ex));
  request_result (request, o);
}

/* ----------------------------------------------------------------- reload */

static struct json_object *
strings_json (const struct strings *s)
{
  struct json_object *array = json_object_new_array ();
  size_t i;

  for (i = 0; i < s->nr; i++)
    json_object_array_add (array, json_object_new_string (s->v[i]));
  return array;
}

struct reloading {
  struct request *request;
  struct json_object *result;
};

static void
backup_is_reloaded (void *opaque, const char *refusal)
{
  struct reloading *r = opaque;

  if (refusal) {
    request_error (r->request, "failed", "the configuration was read again, "
                   "but the backup endpoint keeps the one before: %s",
                   refusal);
    json_object_put (r->result);
  }
  else
    request_result (r->request, r->result);
  free (r);
}

static void
do_reload (struct request *request, struct json_object *args)
{
  struct reload result = { 0 };
  struct failure failure;
  struct reloading *r;

  (void) args;
  if (daemon_reload (request->daemon, &result, &failure) == -1) {
    request_failed (request, &failure);
    return;
  }
  r = xcalloc (1, sizeof *r);
  r->request = request;
  r->result = json_object_new_object ();
  json_object_object_add (r->result, "added", strings_json (&result.added));
  json_object_object_add (r->result, "removed",
                          strings_json (&result.removed));
  json_object_object_add (r->result, "changed",
                          strings_json (&result.changed));
  reload_free (&result);
  backup_when_in_effect (request->daemon->backup, backup_is_reloaded, r);
}

/* ------------------------------------------------------------------ table */

static const struct command commands[] = {
  { "version", do_version, { { 0 } } },
  { "status", do_status, { { 0 } } },
  { "snapshot-create", do_snapshot_create, {
      { "exports", MEMBER_STRINGS, false, 0, 0 },
      { "name", MEMBER_STRING, false, 0, 0 },
      { "since", MEMBER_STRING, true, 0, 0 },
      { "scope", MEMBER_STRING, true, 0, 0 },
      { "checkpoint", MEMBER_STRING, true, 0, 0 },
      { "release", MEMBER_BOOLEAN, true, 0, 0 },
      { "deadline-ms", MEMBER_INTEGER, true, 1, WIRE_DEADLINE_MS_MAX },
    } },
  { "snapshot-rearm", do_snapshot_rearm, {
      { "export", MEMBER_STRING, false, 0, 0 },
      { "name", MEMBER_STRING, false, 0, 0 },
      { "checkpoint", MEMBER_STRING, true, 0, 0 },
      { "deadline-ms", MEMBER_INTEGER, true, 1, WIRE_DEADLINE_MS_MAX },
    } },
  { "snapshot-list", do_snapshot_list, {
      { "export", MEMBER_STRING, true, 0, 0 },
    } },
  { "snapshot-delete", do_snapshot_delete, {
      { "export", MEMBER_STRING, true, 0, 0 },
      { "exports", MEMBER_STRINGS, true, 0, 0 },
      { "name", MEMBER_STRING, false, 0, 0 },
      { "force", MEMBER_BOOLEAN, true, 0, 0 },
    } },
  { "checkpoint-list", do_checkpoint_list, {
      { "export", MEMBER_STRING, false, 0, 0 },
    } },
  { "checkpoint-delete", do_checkpoint_delete, {
      { "export", MEMBER_STRING, false, 0, 0 },
      { "name", MEMBER_STRING, false, 0, 0 },
    } },
  { "backup", do_backup, {
      { "export", MEMBER_STRING, true, 0, 0 },
      { "exports", MEMBER_STRINGS, true, 0, 0 },
      { "target", MEMBER_STRING, false, 0, 0 },
      { "sync", MEMBER_STRING, true, 0, 0 },
      { "since", MEMBER_STRING, true, 0, 0 },
      { "checkpoint", MEMBER_STRING, true, 0, 0 },
      { "backing", MEMBER_STRING, true, 0, 0 },
      { "compress", MEMBER_STRING, true, 0, 0 },
      { "manifest", MEMBER_STRING, true, 0, 0 },
      { "speed", MEMBER_INTEGER, true, 0, SPEED_MAX },
      { "max-requests", MEMBER_INTEGER, true, 1, 1024 },
      { "connections", MEMBER_INTEGER, true, 1, 16 },
      { "on-source-error", MEMBER_STRING, true, 0, 0 },
      { "on-target-error", MEMBER_STRING, true, 0, 0 },
      { "retry-ms", MEMBER_INTEGER, true, 0, RETRY_MS_MAX },
    } },
  { "restore", do_restore, {
      { "image", MEMBER_STRING, false, 0, 0 },
      { "export", MEMBER_STRING, true, 0, 0 },
      { "target", MEMBER_STRING, true, 0, 0 },
      { "allow-incomplete", MEMBER_BOOLEAN, true, 0, 0 },
      { "speed", MEMBER_INTEGER, true, 0, SPEED_MAX },
      { "max-requests", MEMBER_INTEGER, true, 1, 1024 },
      { "connections", MEMBER_INTEGER, true, 1, 16 },
    } },
  { "verify", do_verify, {
      { "export", MEMBER_STRING, true, 0, 0 },
      { "snapshot", MEMBER_STRING, true, 0, 0 },
      { "job", MEMBER_STRING, true, 0, 0 },
      { "manifest", MEMBER_STRING, true, 0, 0 },
      { "target", MEMBER_STRING, true, 0, 0 },
      { "speed", MEMBER_INTEGER, true, 0, SPEED_MAX },
      { "max-requests", MEMBER_INTEGER, true, 1, 1024 },
      { "connections", MEMBER_INTEGER, true, 1, 16 },
    } },
  { "job-list", do_job_list, { { 0 } } },
  { "job-show", do_job_show, {
      { "job", MEMBER_STRING, false, 0, 0 },
    } },
  { "job-wait", do_job_wait, {
      { "job", MEMBER_STRING, false, 0, 0 },
      { "progress", MEMBER_BOOLEAN, true, 0, 0 },
    } },
  { "job-pause", do_job_pause, {
      { "job", MEMBER_STRING, false, 0, 0 },
    } },
  { "job-resume", do_job_resume, {
      { "job", MEMBER_STRING, false, 0, 0 },
    } },
  { "job-cancel", do_job_cancel, {
      { "job", MEMBER_STRING, false, 0, 0 },
    } },
  { "job-speed", do_job_speed, {
      { "job", MEMBER_STRING, false, 0, 0 },
      { "speed", MEMBER_INTEGER, false, 0, SPEED_MAX },
    } },
  { "reload", do_reload, { { 0 } } },
};

const char *
member_string (struct json_object *args, const char *key)
{
  struct json_object *value;

  return json_object_object_get_ex (args, key, &value)
    ? json_object_get_string (value) : NULL;
}

int64_t
member_int (struct json_object *args, const char *key, int64_t fallback)
{
  struct json_object *value;

  return json_object_object_get_ex (args, key, &value)
    ? json_object_get_int64 (value) : fallback;
}

bool
member_bool (struct json_object *args, const char *key)
{
  struct json_object *value;

  return json_object_object_get_ex (args, key, &value)
    && json_object_get_boolean (value);
}

/* Text with a NUL in it would look shorter than it is. */
static bool
is_string (struct json_object *value)
{
  return json_object_is_type (value, json_type_string)
    && strlen (json_object_get_string (value))
    == (size_t) json_object_get_string_len (value);
}

static bool
is_array_of_strings (struct json_object *value)
{
  size_t i;

  if (!json_object_is_type (value, json_type_array))
    return false;
  for (i = 0; i < json_object_array_length (value); i++)
    if (!is_string (json_object_array_get_idx (value, i)))
      return false;
  return true;
}

/* NULL if the value is what the member has to be, else what that is. */
static const char *
check_member (const struct member *m, struct json_object *value)
{
  int64_t n;

  switch (m->type) {
  case MEMBER_END:
    break;
  case MEMBER_STRING:
    return is_string (value) ? NULL : "a string";
  case MEMBER_STRINGS:
    return is_array_of_strings (value) ? NULL : "an array of strings";
  case MEMBER_BOOLEAN:
    return json_object_is_type (value, json_type_boolean) ? NULL
      : "true or false";
  case MEMBER_INTEGER:
    n = json_object_get_int64 (value);
    return json_object_is_type (value, json_type_int) && n >= m->min
      && n <= m->max ? NULL : "an integer";
  }
  return NULL;
}

static const struct member *
find_member (const struct command *command, const char *name)
{
  const struct member *m;

  for (m = command->members; m->type != MEMBER_END; m++)
    if (strcmp (m->name, name) == 0)
      return m;
  return NULL;
}

/* False if the request has been answered with an error. */
static bool
check_args (struct request *request, const struct command *command,
            struct json_object *args)
{
  const struct member *m;
  const char *expected;

  json_object_object_foreach (args, key, value) {
    if (strcmp (key, "command") == 0 || strcmp (key, "id") == 0)
      continue;
    m = find_member (command, key);
    if (!m) {
      request_error (request, "bad-request", "%s has no member '%s'",
                     command->name, key);
      return false;
    }
    expected = check_member (m, value);
    if (!expected)
      continue;
    if (m->type == MEMBER_INTEGER)
      request_error (request, "bad-request", "%s: expected an integer from "
                     "%" PRIi64 " to %" PRIi64, key, m->min, m->max);
    else
      request_error (request, "bad-request", "%s: expected %s", key,
                     expected);
    return false;
  }
  for (m = command->members; m->type != MEMBER_END; m++)
    if (!m->optional && !json_object_object_get_ex (args, m->name, NULL)) {
      request_error (request, "bad-request", "%s is missing", m->name);
      return false;
    }
  return true;
}

void
command_execute (struct request *request, struct json_object *args)
{
  const char *name = member_string (args, "command");
  size_t i;

  if (request->daemon->phase == DAEMON_STOPPING) {
    request_error (request, "stopping", "the daemon is ending");
    return;
  }
  for (i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (strcmp (commands[i].name, name) != 0)
      continue;
    if (check_args (request, &commands[i], args))
      commands[i].execute (request, args);
    return;
  }
  request_error (request, "unknown-command", "there is no command '%s'",
                 name);
}
