/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* restore and verify: jobs like backup. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "job.h"
#include "target.h"

static void
add_text (json_object *request, const char *key, const char *text)
{
  json_object_object_add (request, key, json_object_new_string (text));
}

static void
add_number (json_object *request, const char *key,
            const struct option_value *value)
{
  if (value->given)
    json_object_object_add (request, key,
                            json_object_new_uint64 (value->number));
}

static int
add_path (struct cli *cli, json_object *request, const char *key,
          const char *path)
{
  char *absolute = absolute_target (path);

  if (!absolute)
    return cli_fail (cli, "failed", "the working directory: %s",
                     strerror (errno));
  add_text (request, key, absolute);
  free (absolute);
  return CLI_DONE;
}

int
run_restore (struct cli *cli, char **arguments, int nr_arguments,
             const struct option_value *values)
{
  json_object *request = client_request ("restore");
  int status = add_path (cli, request, "image", arguments[0]);

  (void) nr_arguments;
  if (status == CLI_DONE && !is_name (arguments[1]))
    status = add_path (cli, request, "target", arguments[1]);
  else
    add_text (request, "export", arguments[1]);
  if (status != CLI_DONE) {
    json_object_put (request);
    return status;
  }
  if (values[RESTORE_ALLOW_INCOMPLETE].given)
    json_object_object_add (request, "allow-incomplete",
                            json_object_new_boolean (true));
  add_number (request, "speed", &values[RESTORE_SPEED]);
  add_number (request, "max-requests", &values[RESTORE_MAX_REQUESTS]);
  add_number (request, "connections", &values[RESTORE_CONNECTIONS]);
  return start_job (cli, request, values[RESTORE_DETACH].given);
}

/* EXPORT@SNAPSHOT or a job.  0, or CLI_USAGE. */
static int
add_subject (const struct cli *cli, json_object *request, const char *subject)
{
  const char *at = strchr (subject, '@');

  if (*subject && strspn (subject, "0123456789") == strlen (subject)) {
    add_text (request, "job", subject);
    return CLI_DONE;
  }
  if (!at || at == subject || !at[1])
    return cli_usage (cli, "'%s': expected EXPORT@SNAPSHOT or the id of a job",
                      subject);
  json_object_object_add (request, "export", json_object_new_string_len
                          (subject, at - subject));
  add_text (request, "snapshot", at + 1);
  return CLI_DONE;
}

int
run_verify (struct cli *cli, char **arguments, int nr_arguments,
            const struct option_value *values)
{
  const struct option_value *manifest = &values[VERIFY_MANIFEST];
  const int nr_wanted = manifest->given ? 1 : 2;
  json_object *request;
  int status;

  if (nr_arguments != nr_wanted)
    return cli_usage (cli, "expected %s", manifest->given
                      ? "TARGET alone with --manifest"
                      : "EXPORT@SNAPSHOT or a job, and TARGET");
  request = client_request ("verify");
  status = manifest->given
    ? add_path (cli, request, "manifest", manifest->text)
    : add_subject (cli, request, arguments[0]);
  if (status == CLI_DONE)
    status = add_path (cli, request, "target", arguments[nr_arguments - 1]);
  if (status != CLI_DONE) {
    json_object_put (request);
    return status;
  }
  add_number (request, "speed", &values[VERIFY_SPEED]);
  add_number (request, "max-requests", &values[VERIFY_MAX_REQUESTS]);
  add_number (request, "connections", &values[VERIFY_CONNECTIONS]);
  return start_job (cli, request, values[VERIFY_DETACH].given);
}
