/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* backup: starts jobs and sees them through. */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "human.h"
#include "instant.h"
#include "job.h"
#include "target.h"

#define JOBS_MAX 64             /* exports of one request */

/* What cannot be made absolute, since there is no working directory, the daemon
 * refuses. */
static void
add_file (json_object *request, const char *key,
          const struct option_value *value)
{
  char *path;

  if (!value->given)
    return;
  path = absolute_target (value->text);
  json_object_object_add (request, key, json_object_new_string
                          (path ? path : value->text));
  free (path);
}

static json_object *
backup_request (const char *names, const char *target,
                const struct option_value *values)
{
  static const struct { int value; const char *key; } texts[] = {
    { BACKUP_SYNC, "sync" }, { BACKUP_SINCE, "since" },
    { BACKUP_CHECKPOINT, "checkpoint" }, { BACKUP_COMPRESS, "compress" },
    { BACKUP_ON_SOURCE_ERROR, "on-source-error" },
    { BACKUP_ON_TARGET_ERROR, "on-target-error" },
  }, numbers[] = {
    { BACKUP_SPEED, "speed" }, { BACKUP_MAX_REQUESTS, "max-requests" },
    { BACKUP_CONNECTIONS, "connections" }, { BACKUP_RETRY, "retry-ms" },
  };
  json_object *request = client_request ("backup");
  size_t i;

  json_object_object_add (request, "exports", split_names (names));
  json_object_object_add (request, "target", json_object_new_string (target));
  add_file (request, "backing", &values[BACKUP_BACKING]);
  add_file (request, "manifest", &values[BACKUP_MANIFEST]);
  for (i = 0; i < sizeof texts / sizeof texts[0]; i++)
    if (values[texts[i].value].given)
      json_object_object_add (request, texts[i].key, json_object_new_string
                              (values[texts[i].value].text));
  for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
    if (values[numbers[i].value].given)
      json_object_object_add (request, numbers[i].key, json_object_new_uint64
                              (values[numbers[i].value].number));
  return request;
}

/* What the reply says besides the jobs: of the instant. */
static json_object *
report_of (json_object *result)
{
  json_object *report = json_object_new_object ();

  json_object_object_foreach (result, key, value)
    if (strcmp (key, "job") != 0 && strcmp (key, "jobs") != 0)
      json_object_object_add (report, key, json_object_get (value));
  return report;
}

/* Waits for the reply to the request that starts the job.  An interrupt in
 * the meantime is for later; *interrupted says that there was one. */
static json_object *
receive_started (struct client *client, bool *interrupted)
{
  json_object *result;
  enum client_message m;
  int signal;

  for (;;) {
    m = client_receive (client, INSTANT_TIMEOUT, &result, &signal);
    if (m == CLIENT_RESULT)
      return result;
    json_object_put (result);
    if (m == CLIENT_SIGNAL && signal == SIGINT && !*interrupted)
      *interrupted = true;
    else if (m == CLIENT_SIGNAL) {
      cli_fail (client->cli, "interrupted", "interrupted; the job may have "
                "been started, see: nbdfleece job list");
      return NULL;
    }
    else if (m != CLIENT_FAILED) {
      cli_fail (client->cli, "protocol", "the daemon's reply is an event");
      return NULL;
    }
    else
      return NULL;
  }
}

/* The ids of the jobs in the reply, which keeps them; how many, 0 after telling
 * that there are none. */
static size_t
job_ids (const struct cli *cli, json_object *result,
         const char *ids[JOBS_MAX])
{
  json_object *jobs = member_array (result, "jobs");
  const size_t nr = jobs ? json_object_array_length (jobs) : 1;
  json_object *job;
  size_t i;

  for (i = 0; i < nr && i < JOBS_MAX; i++) {
    job = jobs ? json_object_array_get_idx (jobs, i)
      : member_object (result, "job");
    ids[i] = job ? member_text (job, "id") : NULL;
    if (!ids[i])
      break;
  }
  if (i == nr && nr > 0)
    return nr;
  cli_fail (cli, "protocol", "the daemon's reply has no job");
  return 0;
}

static int
start_and_wait (struct cli *cli, struct client *client, bool detach)
{
  const char *ids[JOBS_MAX];
  struct wait wait = { .client = client, .ids = ids, .may_cancel = true };
  json_object *result;
  int status = CLI_FAILED;
  size_t i;

  result = receive_started (client, &wait.interrupted);
  if (!result)
    return CLI_FAILED;
  warn_of_hooks (result);
  wait.nr = job_ids (cli, result, ids);
  if (wait.nr > 0 && !detach) {
    if (cli->json)
      wait.document = report_of (result);
    else
      print_instant (result);
    status = wait_for_jobs (&wait);
    json_object_put (wait.document);
  }
  else if (wait.nr > 0) {
    status = CLI_DONE;
    if (cli->json)
      cli_print_json (result);
    for (i = 0; !cli->json && i < wait.nr; i++)
      print (stdout, "%s\n", ids[i]);
  }
  json_object_put (result);
  return status;
}

int
start_job (struct cli *cli, json_object *request, bool detach)
{
  struct client client;
  int status = CLI_FAILED;

  if (client_open (&client, cli) == -1) {
    json_object_put (request);
    return CLI_FAILED;
  }
  if (detach || watch_signals (&client) == 0) {
    if (client_send (&client, request) == 0)
      status = start_and_wait (cli, &client, detach);
  }
  else
    json_object_put (request);
  client_close (&client);
  return status;
}

int
run_backup (struct cli *cli, char **arguments, int nr_arguments,
            const struct option_value *values)
{
  char *target = absolute_target (arguments[1]);
  json_object *request;

  (void) nr_arguments;
  if (!target)
    return cli_fail (cli, "failed", "the working directory: %s",
                     strerror (errno));
  request = backup_request (arguments[0], target, values);
  free (target);
  return start_job (cli, request, values[BACKUP_DETACH].given);
}
