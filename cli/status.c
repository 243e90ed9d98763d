/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* status: everything at a glance; and reload. */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client.h"
#include "command.h"
#include "human.h"
#include "lists.h"
#include "table.h"

#define NR(array) (sizeof array / sizeof array[0])

static void
print_daemon (json_object *daemon)
{
  const time_t now = time (NULL);
  char buf[HUMAN_SIZE], pid[HUMAN_SIZE];
  uint64_t started;

  if (!daemon)
    return;
  print (stdout, "nbdfleeced %s, pid %s, up %s, configured by %s\n",
         member_text_or_dash (daemon, "version"),
         member_number (daemon, "pid", pid),
         member_int (daemon, "started-ns", &started)
         && now >= (time_t) (started / 1000000000)
         ? human_seconds (now - started / 1000000000, buf) : "-",
         member_text_or_dash (daemon, "config"));
}

/* "group db: vdb vdc" */
static void
print_groups (json_object *groups)
{
  json_object *group, *exports;
  size_t i, j;

  for (i = 0; groups && i < json_object_array_length (groups); i++) {
    group = json_object_array_get_idx (groups, i);
    exports = member_array (group, "exports");
    print (stdout, "group %s:", member_text_or_dash (group, "name"));
    for (j = 0; exports && j < json_object_array_length (exports); j++)
      print (stdout, " %s", json_object_get_string
             (json_object_array_get_idx (exports, j)));
    print (stdout, "\n");
  }
}

/* The state of a server, and why if that is not as it should be. */
static void
print_state (const char *what, json_object *server)
{
  const char *state = member_text_or_dash (server, "state");
  const char *reason = member_text (server, "reason");
  char buf[HUMAN_SIZE];

  print (stdout, "%s: %s, started again %s times%s%s\n", what, state,
         member_number (server, "restarts", buf),
         reason ? ", lately because: " : "", reason ? reason : "");
}

static void
print_backup (json_object *backup)
{
  json_object *endpoints, *e, *data;
  size_t i;

  if (!backup)
    return;
  endpoints = member_array (backup, "endpoints");
  for (i = 0; endpoints && i < json_object_array_length (endpoints); i++) {
    e = json_object_array_get_idx (endpoints, i);
    print (stdout, "backup from %s (tls %s)\n",
           member_text_or_dash (e, "uri"), member_text_or_dash (e, "tls"));
  }
  if (strcmp (member_text_or_dash (backup, "state"), "running") != 0
      || member_text (backup, "reason"))
    print_state ("the server for backups", backup);
  data = member_object (backup, "snapshot-server");
  if (data && (strcmp (member_text_or_dash (data, "state"), "running") != 0
               || member_text (data, "reason")))
    print_state ("the snapshots' server", data);
}

static void
add_export (struct table *table, json_object *ex)
{
  json_object *latency = member_object (ex, "cow-latency-us");
  char buf[HUMAN_SIZE];
  uint64_t n;

  if (member_int (ex, "cow-requests", &n) && n == 0)
    latency = NULL;             /* of nothing */

  table_add (table, member_text_or_dash (ex, "name"));
  table_add (table, member_text_or_dash (ex, "state"));
  table_add (table, member_size (ex, "size", buf));
  table_add (table, member_size (ex, "cluster-size", buf));
  table_add (table, member_number (ex, "writes", buf));
  table_add (table, member_size (ex, "written-bytes", buf));
  table_add (table, member_number (ex, "cow-requests", buf));
  table_add (table, latency ? member_us (latency, "p50", buf) : "-");
  table_add (table, latency ? member_us (latency, "p99", buf) : "-");
  table_add (table, latency ? member_us (latency, "max", buf) : "-");
  table_add (table, member_text_or_dash (ex, "disk"));
}

static void
print_exports (json_object *exports)
{
  static const struct column columns[] = {
    { "EXPORT", false }, { "STATE", false }, { "SIZE", true },
    { "CLUSTER", true }, { "WRITES", true }, { "WRITTEN", true },
    { "COPIES", true }, { "P50", true }, { "P99", true }, { "MAX", true },
    { "DISK", false },
  };
  struct table table = { .columns = columns, .nr_columns = NR (columns) };
  json_object *ex;
  char what[256];
  size_t i;

  if (json_object_array_length (exports) == 0) {
    print (stdout, "no exports\n");
    return;
  }
  for (i = 0; i < json_object_array_length (exports); i++)
    add_export (&table, json_object_array_get_idx (exports, i));
  table_print (&table, stdout);
  for (i = 0; i < json_object_array_length (exports); i++) {
    ex = json_object_array_get_idx (exports, i);
    snprintf (what, sizeof what, "export %s",
              member_text_or_dash (ex, "name"));
    if (member_text (ex, "reason"))
      print_state (what, ex);
    if (member_text (ex, "restoring"))
      print (stdout, "%s: no client is let in, because of restore job %s\n",
             what, member_text (ex, "restoring"));
  }
}

/* The snapshots of all exports in one table. */
static void
print_all_snapshots (json_object *exports)
{
  const size_t nr = json_object_array_length (exports);
  json_object **arrays = calloc (nr + 1, sizeof *arrays);
  size_t i;

  for (i = 0; arrays && i < nr; i++)
    arrays[i] = member_array (json_object_array_get_idx (exports, i),
                              "snapshots");
  if (arrays)
    print_snapshots (arrays, nr);
  free (arrays);
}

int
run_status (struct cli *cli, char **arguments, int nr_arguments,
            const struct option_value *values)
{
  json_object *result = client_call (cli, client_request ("status"));
  json_object *exports;

  (void) arguments;
  (void) nr_arguments;
  (void) values;
  if (!result)
    return CLI_FAILED;
  exports = member_array (result, "exports");
  if (cli->json)
    cli_print_json (result);
  else {
    print_daemon (member_object (result, "daemon"));
    print_backup (member_object (result, "backup"));
    if (exports) {
      print (stdout, "\n");
      print_exports (exports);
      print_groups (member_array (result, "groups"));
      print (stdout, "\n");
      print_all_snapshots (exports);
      if (member_object (result, "backup"))
        print_readers (member_array (member_object (result, "backup"),
                                     "clients"));
    }
    print (stdout, "\n");
    print_jobs (member_array (result, "jobs"));
  }
  json_object_put (result);
  return CLI_DONE;
}

static void
print_names (json_object *result, const char *key)
{
  json_object *names = member_array (result, key);
  size_t i;

  for (i = 0; names && i < json_object_array_length (names); i++)
    print (stdout, "%s %s\n", key, json_object_get_string
           (json_object_array_get_idx (names, i)));
}

int
run_reload (struct cli *cli, char **arguments, int nr_arguments,
            const struct option_value *values)
{
  json_object *result = client_call (cli, client_request ("reload"));

  (void) arguments;
  (void) nr_arguments;
  (void) values;
  if (!result)
    return CLI_FAILED;
  if (cli->json)
    cli_print_json (result);
  else {
    print_names (result, "added");
    print_names (result, "removed");
    print_names (result, "changed");
  }
  json_object_put (result);
  return CLI_DONE;
}
