/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Records beside images. */

/* Nothing in a raw file or a qcow2 image says which disk it was made of, and
 * when.  A chain of incrementals depends on just that: an incremental on top
 * of the wrong image is a disk that never was.  So each file that a copy has
 * filled gets a record, a small JSON file with the same name and ".nbdfleece",
 * to be kept and moved along with it.
 *
 * The record is written as `writing' before the image changes, and anew when
 * the image is complete and synced.  So a record that says completed is true
 * for as long as only we write to the image. */

#include <config.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <json-c/json.h>

#include "record.h"
#include "replace.h"

#define RECORD_VERSION 1
#define VERSION_KEY "nbdfleece-record"
#define SUFFIX ".nbdfleece"
#define SIZE_MAX_BYTES (64 * 1024)

static const char *const state_names[] = {
  "writing", "completed", "incomplete",
};
#define NR_STATES (sizeof state_names / sizeof state_names[0])

const char *
record_state_name (enum record_state state)
{
  return state_names[state];
}

static void
add_text (struct json_object *o, const char *key, const char *s)
{
  json_object_object_add (o, key, s[0] ? json_object_new_string (s) : NULL);
}

static void
add_number (struct json_object *o, const char *key, uint64_t n)
{
  json_object_object_add (o, key, json_object_new_int64 (n));
}

int
json_get_text (struct json_object *o, const char *key, char *text, size_t size)
{
  struct json_object *v;

  text[0] = '\0';
  if (!json_object_object_get_ex (o, key, &v))
    return -1;
  if (!v)
    return 0;
  if (!json_object_is_type (v, json_type_string)
      || (size_t) json_object_get_string_len (v) >= size
      || strlen (json_object_get_string (v))
      != (size_t) json_object_get_string_len (v))
    return -1;
  strcpy (text, json_object_get_string (v));
  return 0;
}

int
json_get_number (struct json_object *o, const char *key, uint64_t *n)
{
  struct json_object *v;

  *n = 0;
  if (!json_object_object_get_ex (o, key, &v))
    return -1;
  if (!v)
    return 0;
  if (!json_object_is_type (v, json_type_int) || json_object_get_int64 (v) < 0)
    return -1;
  *n = json_object_get_int64 (v);
  return 0;
}

void
identity_to_json (const struct identity *id, struct json_object *o)
{
  char instant[INSTANT_SIZE] = "";

  if (id->instant_ns)
    format_instant (id->instant_ns, instant);
  add_text (o, "export", id->export_name);
  add_text (o, "snapshot", id->snapshot);
  add_text (o, "uuid", id->uuid);
  add_text (o, "instant", instant);
  json_object_object_add (o, "instant-ns", id->instant_ns
                          ? json_object_new_int64 (id->instant_ns) : NULL);
  add_number (o, "size", id->size);
  add_number (o, "cluster-size", id->cluster_size);
  add_text (o, "checkpoint", id->checkpoint);
  add_text (o, "checkpoint-uuid", id->checkpoint_uuid);
  add_text (o, "since", id->since);
  add_text (o, "since-uuid", id->since_uuid);
}

int
identity_from_json (struct identity *id, struct json_object *o)
{
  struct { const char *key; char *text; size_t size; } texts[] = {
    { "export", id->export_name, sizeof id->export_name },
    { "snapshot", id->snapshot, sizeof id->snapshot },
    { "uuid", id->uuid, sizeof id->uuid },
    { "checkpoint", id->checkpoint, sizeof id->checkpoint },
    { "checkpoint-uuid", id->checkpoint_uuid, sizeof id->checkpoint_uuid },
    { "since", id->since, sizeof id->since },
    { "since-uuid", id->since_uuid, sizeof id->since_uuid },
  };
  uint64_t instant;
  size_t i;

  for (i = 0; i < sizeof texts / sizeof texts[0]; i++)
    if (json_get_text (o, texts[i].key, texts[i].text, texts[i].size) == -1)
      return -1;
  if (json_get_number (o, "instant-ns", &instant) == -1
      || json_get_number (o, "size", &id->size) == -1 || id->size == 0
      || json_get_number (o, "cluster-size", &id->cluster_size) == -1)
    return -1;
  id->instant_ns = instant;
  return 0;
}

static int
record_path (const char *image, char path[PATH_MAX])
{
  if (snprintf (path, PATH_MAX, "%s" SUFFIX, image) < PATH_MAX)
    return 0;
  errno = ENAMETOOLONG;
  return -1;
}

static int
from_json (struct record *r, struct json_object *o)
{
  uint64_t version;
  char state[16];
  size_t i;

  if (!json_object_is_type (o, json_type_object)
      || json_get_number (o, VERSION_KEY, &version) == -1
      || version != RECORD_VERSION
      || json_get_text (o, "state", state, sizeof state) == -1
      || json_get_text (o, "format", r->format, sizeof r->format) == -1
      || json_get_text (o, "backing", r->backing, sizeof r->backing) == -1
      || json_get_text (o, "backing-uuid", r->backing_uuid,
                        sizeof r->backing_uuid) == -1
      || identity_from_json (&r->id, o) == -1)
    return -1;
  for (i = 0; i < NR_STATES; i++)
    if (strcmp (state, state_names[i]) == 0) {
      r->state = i;
      return 0;
    }
  return -1;
}

int
record_read (const char *image, struct record *r, struct message *why)
{
  char path[PATH_MAX];
  struct json_object *o;
  struct stat st;
  int ok;

  memset (r, 0, sizeof *r);
  if (record_path (image, path) == -1)
    return 0;
  if (stat (path, &st) == -1) {
    if (errno == ENOENT)
      return 0;
    return message_set (why, "%s: %s", path, strerror (errno));
  }
  if (!S_ISREG (st.st_mode) || st.st_size > SIZE_MAX_BYTES)
    return message_set (why, "%s: not a record of a backup", path);
  o = json_object_from_file (path);
  ok = from_json (r, o);
  json_object_put (o);
  if (ok == -1)
    return message_set (why, "%s: not a record of a backup, or damaged", path);
  return 1;
}

int
record_write (const char *image, const struct record *r, struct message *why)
{
  struct json_object *o = json_object_new_object ();
  char path[PATH_MAX];
  int ok;

  add_number (o, VERSION_KEY, RECORD_VERSION);
  add_text (o, "state", state_names[r->state]);
  identity_to_json (&r->id, o);
  add_text (o, "format", r->format);
  add_text (o, "backing", r->backing);
  add_text (o, "backing-uuid", r->backing_uuid);
  ok = record_path (image, path);
  if (ok == 0)
    ok = replace_file (path, json_object_to_json_string_ext
                       (o, JSON_C_TO_STRING_PRETTY
                        | JSON_C_TO_STRING_NOSLASHESCAPE));
  json_object_put (o);
  if (ok == -1)
    return message_set (why, "%s" SUFFIX ": %s", image, strerror (errno));
  return 0;
}

void
record_remove (const char *image)
{
  char path[PATH_MAX];

  if (record_path (image, path) == 0)
    unlink (path);
}
