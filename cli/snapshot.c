/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* snapshot create, rearm, list and delete. */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "command.h"
#include "human.h"
#include "instant.h"
#include "lists.h"

/* What was made, and where it is to be had. */
static void
print_created (json_object *result)
{
  json_object *snapshots = member_array (result, "snapshots"), *s, *uris;
  char buf[HUMAN_SIZE];
  size_t i, j;

  for (i = 0; snapshots && i < json_object_array_length (snapshots); i++) {
    s = json_object_array_get_idx (snapshots, i);
    print (stdout, "%s@%s of %s\n", member_text_or_dash (s, "export"),
           member_text_or_dash (s, "name"),
           member_instant (s, "instant-ns", buf));
    uris = member_array (s, "uris");
    for (j = 0; uris && j < json_object_array_length (uris); j++)
      print (stdout, "  %s\n", json_object_get_string
             (json_object_array_get_idx (uris, j)));
  }
  print_instant (result);
}

static void
add_text (json_object *request, const char *key,
          const struct option_value *value)
{
  if (value->given)
    json_object_object_add (request, key,
                            json_object_new_string (value->text));
}

static void
add_deadline (json_object *request, const struct option_value *value)
{
  if (value->given)
    json_object_object_add (request, "deadline-ms",
                            json_object_new_uint64 (value->number));
}

static void
add_flag (json_object *request, const char *key,
          const struct option_value *value)
{
  if (value->given)
    json_object_object_add (request, key, json_object_new_boolean (true));
}

static int
ask_and_print (struct cli *cli, json_object *request)
{
  json_object *result = client_call_for (cli, request, INSTANT_TIMEOUT);

  if (!result)
    return CLI_FAILED;
  warn_of_hooks (result);
  if (cli->json)
    cli_print_json (result);
  else
    print_created (result);
  json_object_put (result);
  return CLI_DONE;
}

int
run_snapshot_create (struct cli *cli, char **arguments, int nr_arguments,
                     const struct option_value *values)
{
  json_object *request = client_request ("snapshot-create");

  (void) nr_arguments;
  json_object_object_add (request, "exports", split_names (arguments[0]));
  json_object_object_add (request, "name",
                          json_object_new_string (arguments[1]));
  add_text (request, "checkpoint", &values[SNAPSHOT_CREATE_CHECKPOINT]);
  add_text (request, "since", &values[SNAPSHOT_CREATE_SINCE]);
  add_text (request, "scope", &values[SNAPSHOT_CREATE_SCOPE]);
  add_flag (request, "release", &values[SNAPSHOT_CREATE_RELEASE]);
  add_deadline (request, &values[SNAPSHOT_CREATE_DEADLINE]);
  return ask_and_print (cli, request);
}

int
run_snapshot_rearm (struct cli *cli, char **arguments, int nr_arguments,
                    const struct option_value *values)
{
  json_object *request = client_request ("snapshot-rearm");

  (void) nr_arguments;
  json_object_object_add (request, "export",
                          json_object_new_string (arguments[0]));
  json_object_object_add (request, "name",
                          json_object_new_string (arguments[1]));
  add_text (request, "checkpoint", &values[SNAPSHOT_REARM_CHECKPOINT]);
  add_deadline (request, &values[SNAPSHOT_REARM_DEADLINE]);
  return ask_and_print (cli, request);
}

int
run_snapshot_list (struct cli *cli, char **arguments, int nr_arguments,
                   const struct option_value *values)
{
  json_object *request = client_request ("snapshot-list"), *result, *array;

  (void) values;
  if (nr_arguments > 0)
    json_object_object_add (request, "export",
                            json_object_new_string (arguments[0]));
  result = client_call (cli, request);
  if (!result)
    return CLI_FAILED;
  array = member_array (result, "snapshots");
  if (cli->json)
    cli_print_json (result);
  else
    print_snapshots (&array, 1);
  json_object_put (result);
  return CLI_DONE;
}

int
run_snapshot_delete (struct cli *cli, char **arguments, int nr_arguments,
                     const struct option_value *values)
{
  json_object *request = client_request ("snapshot-delete"), *result;

  (void) nr_arguments;
  add_flag (request, "force", &values[SNAPSHOT_DELETE_FORCE]);
  json_object_object_add (request, "exports", split_names (arguments[0]));
  json_object_object_add (request, "name",
                          json_object_new_string (arguments[1]));
  result = client_call (cli, request);
  if (!result)
    return CLI_FAILED;
  if (cli->json)
    cli_print_json (result);
  json_object_put (result);
  return CLI_DONE;
}
