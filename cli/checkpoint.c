/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* checkpoint list and delete. */

#include <config.h>

#include "client.h"
#include "command.h"
#include "human.h"
#include "lists.h"

int
run_checkpoint_list (struct cli *cli, char **arguments, int nr_arguments,
                     const struct option_value *values)
{
  json_object *request = client_request ("checkpoint-list"), *result;

  (void) nr_arguments;
  (void) values;
  json_object_object_add (request, "export",
                          json_object_new_string (arguments[0]));
  result = client_call (cli, request);
  if (!result)
    return CLI_FAILED;
  if (cli->json)
    cli_print_json (result);
  else
    print_checkpoints (member_array (result, "checkpoints"));
  json_object_put (result);
  return CLI_DONE;
}

int
run_checkpoint_delete (struct cli *cli, char **arguments, int nr_arguments,
                       const struct option_value *values)
{
  json_object *request = client_request ("checkpoint-delete"), *result;

  (void) nr_arguments;
  (void) values;
  json_object_object_add (request, "export",
                          json_object_new_string (arguments[0]));
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
