/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the backup endpoint says about itself, and who reads what. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "backup_internal.h"
#include "names.h"

void
backup_ask (struct backup *b, front_answered done, void *opaque)
{
  front_ask (b->daemon->loop, &b->asks, b->status_path, done, opaque);
}

bool
backup_front_runs (const struct backup *b)
{
  return b->front.state == SERVICE_RUNNING;
}

/* A member that is an array, or NULL. */
static struct json_object *
array_of (struct json_object *o, const char *key)
{
  struct json_object *array;

  return o && json_object_object_get_ex (o, key, &array)
    && json_object_is_type (array, json_type_array) ? array : NULL;
}

size_t
backup_readers (struct json_object *status, const char *export_name,
                const char *snapshot, char *who, size_t size)
{
  struct json_object *clients = array_of (status, "clients"), *c;
  size_t nr = clients ? json_object_array_length (clients) : 0, n = 0, i;
  char *name = xasprintf ("%s@%s", export_name, snapshot);
  const char *text, *identity;

  for (i = 0; i < nr; i++) {
    c = json_object_array_get_idx (clients, i);
    text = member_string (c, "snapshot");
    if (!text || strcmp (text, name) != 0 || n++ > 0)
      continue;
    text = member_string (c, "address");
    identity = member_string (c, "identity");
    if (member_int (c, "pid", 0) > 0)
      snprintf (who, size, "the local process %d",
                (int) member_int (c, "pid", 0));
    else
      snprintf (who, size, "%s%s%s", text ? text : "?", identity ? " " : "",
                identity ? identity : "");
  }
  free (name);
  return n;
}

/* The member of another object, or null. */
static void
copy_member (struct json_object *to, struct json_object *from, const char *key)
{
  struct json_object *value = NULL;

  if (from)
    json_object_object_get_ex (from, key, &value);
  json_object_object_add (to, key, json_object_get (value));
}

static struct json_object *
client_json (struct json_object *c)
{
  static const char *const keys[] = {
    "contexts", "connections", "bytes", "bytes-per-second", "part-read",
    "connected-seconds", "idle-seconds",
  };
  struct json_object *o = json_object_new_object ();
  const char *name = member_string (c, "snapshot");
  char export_name[NAME_LENGTH_MAX + 1], snapshot[NAME_LENGTH_MAX + 1];
  bool ok = name && name_split (name, export_name, snapshot) == 0;
  size_t i;

  copy_member (o, c, "address");
  copy_member (o, c, "pid");
  copy_member (o, c, "identity");
  copy_member (o, c, "tls");
  json_add_string (o, "export", ok ? export_name : NULL);
  json_add_string (o, "snapshot", ok ? snapshot : NULL);
  for (i = 0; i < sizeof keys / sizeof keys[0]; i++)
    copy_member (o, c, keys[i]);
  return o;
}

/* NULL if it is not known who there is. */
static struct json_object *
clients_json (struct json_object *status)
{
  struct json_object *clients = array_of (status, "clients"), *array;
  size_t i;

  if (!clients)
    return NULL;
  array = json_object_new_array ();
  for (i = 0; i < json_object_array_length (clients); i++)
    json_object_array_add (array, client_json (json_object_array_get_idx
                                               (clients, i)));
  return array;
}

static struct json_object *
endpoints_json (const struct backup *b)
{
  struct json_object *array = backup_uris (b->daemon, NULL, NULL), *o, *uri;
  struct json_object *result = json_object_new_array ();
  const struct config *config = b->daemon->config;
  size_t i;

  for (i = 0; i < json_object_array_length (array); i++) {
    uri = json_object_array_get_idx (array, i);
    o = json_object_new_object ();
    json_object_object_add (o, "uri", json_object_get (uri));
    json_add_string (o, "tls", config_tls_name
                     (i == 0 ? CONFIG_TLS_OFF : config->listen[i - 1].tls));
    json_object_array_add (result, o);
  }
  json_object_put (array);
  return result;
}

static void
add_service (struct json_object *o, const struct service *s,
             const char *refusal)
{
  json_add_string (o, "state", service_state_name (s->state));
  json_add_string (o, "reason", s->reason[0] ? s->reason
                   : refusal[0] ? refusal : NULL);
  if (s->process.pidfd != -1)
    json_add_int (o, "pid", s->process.pid);
  else
    json_object_object_add (o, "pid", NULL);
  json_add_int (o, "restarts", s->restarts);
}

struct json_object *
backup_json (const struct backup *b, struct json_object *status)
{
  struct json_object *o = json_object_new_object ();
  struct json_object *data = json_object_new_object ();

  add_service (o, &b->front, b->refusal);
  add_service (data, &b->data, "");
  json_object_object_add (o, "snapshot-server", data);
  json_object_object_add (o, "endpoints", endpoints_json (b));
  copy_member (o, status, "connections");
  copy_member (o, status, "refused");
  json_object_object_add (o, "clients", clients_json (status));
  return o;
}
