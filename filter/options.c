/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Parsing the parameters from one table. */

#include <config.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "names.h"
#include "options.h"

struct option {
  const char *key;
  int (*parse) (const char *key, const char *value, void *to);
  size_t offset;                /* of the member of struct options */
};

static int
parse_name (const char *key, const char *value, void *to)
{
  if (!name_ok (value)) {
    nbdkit_error ("%s=%s: a name is %s", key, value, NAME_RULE);
    return -1;
  }
  *(const char **) to = value;
  return 0;
}

static int
parse_path (const char *key, const char *value, void *to)
{
  char *path = nbdkit_absolute_path (value);

  (void) key;
  if (!path)
    return -1;
  *(const char **) to = nbdkit_strdup_intern (path);
  free (path);
  return *(const char **) to ? 0 : -1;
}

/* fd:N, a socket that listens already, or a path. */
static int
parse_control (const char *key, const char *value, void *to)
{
  if (strncmp (value, "fd:", 3) != 0)
    return parse_path (key, value, to);
  *(const char **) to = value;
  return 0;
}

static int
parse_id (const char *key, const char *value, void *to)
{
  if (strlen (value) >= sizeof ((struct wire_hello *) 0)->config_id) {
    nbdkit_error ("%s: too long", key);
    return -1;
  }
  *(const char **) to = value;
  return 0;
}

/* file:PATH becomes absolute; anything else is a URI and stays. */
static int
parse_live (const char *key, const char *value, void *to)
{
  const char *path;

  if (strncmp (value, "file:", 5) != 0) {
    *(const char **) to = value;
    return 0;
  }
  if (parse_path (key, value + 5, &path) == -1)
    return -1;
  *(const char **) to = nbdkit_printf_intern ("file:%s", path);
  return *(const char **) to ? 0 : -1;
}

static int
parse_cluster_size (const char *key, const char *value, void *to)
{
  int64_t size;

  if (strcmp (value, "auto") == 0) {
    *(uint64_t *) to = 0;
    return 0;
  }
  size = nbdkit_parse_size (value);
  if (size == -1)
    return -1;
  if (size < BMFILE_CLUSTER_MIN || size > BMFILE_CLUSTER_MAX
      || (size & (size - 1)) != 0) {
    nbdkit_error ("%s=%s: must be auto or a power of two from 4K to 2M",
                  key, value);
    return -1;
  }
  *(uint64_t *) to = size;
  return 0;
}

static int
parse_limit (const char *key, const char *value, void *to)
{
  int64_t size = nbdkit_parse_size (value);

  (void) key;
  *(uint64_t *) to = size;
  return size == -1 ? -1 : 0;
}

/* A whole number with ms, s, m or h; s if there is none of them. */
static int
parse_timeout (const char *key, const char *value, void *to)
{
  static const struct { const char *suffix; uint64_t ns; } units[] = {
    { "ms", 1000000 }, { "s", 1000000000 }, { "", 1000000000 },
    { "m", UINT64_C (60000000000) }, { "h", UINT64_C (3600000000000) },
  };
  char *end;
  unsigned long n;
  size_t i;

  n = strtoul (value, &end, 10);
  for (i = 0; i < sizeof units / sizeof units[0]; i++)
    if (end != value && value[0] != '-' && strcmp (end, units[i].suffix) == 0
        && n <= UINT64_C (86400000000000) / units[i].ns) {
      *(uint64_t *) to = n * units[i].ns;
      return 0;
    }
  nbdkit_error ("%s=%s: must be a time such as 500ms or 10s, at most 24h",
                key, value);
  return -1;
}

static int
parse_on_cow_error (const char *key, const char *value, void *to)
{
  enum on_cow_error *policy = to;

  if (strcmp (value, "break-snapshot") == 0)
    *policy = BREAK_SNAPSHOT;
  else if (strcmp (value, "break-guest-write") == 0)
    *policy = BREAK_GUEST_WRITE;
  else {
    nbdkit_error ("%s=%s: must be break-snapshot or break-guest-write",
                  key, value);
    return -1;
  }
  return 0;
}

static int
parse_uid (const char *key, const char *value, void *to)
{
  char *end;
  unsigned long n = strtoul (value, &end, 10);

  if (!*value || *end || n == 0 || n >= UINT32_MAX) {
    nbdkit_error ("%s=%s: must be the number of a user other than root", key,
                  value);
    return -1;
  }
  *(uint32_t *) to = n;
  return 0;
}

static int
parse_trim (const char *key, const char *value, void *to)
{
  if (strcmp (value, "copy") != 0 && strcmp (value, "defer") != 0) {
    nbdkit_error ("%s=%s: must be copy or defer", key, value);
    return -1;
  }
  *(bool *) to = value[0] == 'd';
  return 0;
}

static int
parse_tracking (const char *key, const char *value, void *to)
{
  if (strcmp (value, "normal") != 0 && strcmp (value, "durable") != 0) {
    nbdkit_error ("%s=%s: must be normal or durable", key, value);
    return -1;
  }
  *(bool *) to = value[0] == 'd';
  return 0;
}

#define AT(member) offsetof (struct options, member)

static const struct option table[] = {
  { "fleece-export", parse_name, AT (export_name) },
  { "fleece-state", parse_path, AT (state) },
  { "fleece-control", parse_control, AT (control) },
  { "fleece-id", parse_id, AT (id) },
  { "fleece-live", parse_live, AT (live) },
  { "fleece-snapshot", parse_name, AT (snapshot) },
  { "fleece-cluster-size", parse_cluster_size, AT (cluster_size) },
  { "fleece-scratch-limit", parse_limit, AT (scratch_limit) },
  { "fleece-cow-timeout", parse_timeout, AT (cow_timeout_ns) },
  { "fleece-on-cow-error", parse_on_cow_error, AT (on_cow_error) },
  { "fleece-trim", parse_trim, AT (defer_trim) },
  { "fleece-tracking", parse_tracking, AT (durable_tracking) },
  { "fleece-log-idle", parse_timeout, AT (log_idle_ns) },
  { "fleece-readers", parse_uid, AT (readers) },
};

const char options_help[] =
  "fleece-export=NAME            (required) The name of the export.\n"
  "fleece-state=DIR              Directory of this export's maps.\n"
  "fleece-control=PATH|fd:N      Listen for control requests here.\n"
  "fleece-id=STRING              Reported to whoever asks who is there.\n"
  "fleece-live=file:PATH|URI     Where readers find the live disk.\n"
  "fleece-snapshot=NAME          Begin this snapshot at start.\n"
  "fleece-cluster-size=auto|SIZE Unit of copying, 4K to 2M (default auto).\n"
  "fleece-scratch-limit=SIZE     Most data kept per snapshot (default none).\n"
  "fleece-cow-timeout=TIME       Longest wait for the scratch (default none).\n"
  "fleece-on-cow-error=break-snapshot|break-guest-write\n"
  "                              What breaks if old data cannot be kept.\n"
  "fleece-trim=copy|defer        Copy what a trim frees, or trim later.\n"
  "fleece-tracking=normal|durable\n"
  "                              Whether checkpoints outlast the host's crash.\n"
  "fleece-log-idle=TIME          Durable: how long a region that is not written\n"
  "                              to stays active (default 30s).\n"
  "fleece-readers=UID            Clients with this user may only read.";

int
options_set (struct options *o, const char *key, const char *value)
{
  size_t i;

  for (i = 0; i < sizeof table / sizeof table[0]; i++)
    if (strcmp (key, table[i].key) == 0)
      return table[i].parse (key, value, (char *) o + table[i].offset) == -1
        ? -1 : 1;
  return 0;
}

int
options_complete (const struct options *o)
{
  if (!o->export_name) {
    nbdkit_error ("the fleece filter needs fleece-export=NAME");
    return -1;
  }
  if (o->durable_tracking && !o->state) {
    nbdkit_error ("fleece-tracking=durable needs fleece-state");
    return -1;
  }
  if (o->snapshot && (!o->state || !o->live)) {
    nbdkit_error ("fleece-snapshot needs fleece-state and fleece-live");
    return -1;
  }
  return 0;
}
