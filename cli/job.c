/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* job list, show, wait, cancel, pause, resume and speed. */

#include <config.h>

#include <inttypes.h>
#include <string.h>

#include "command.h"
#include "human.h"
#include "job.h"
#include "lists.h"
#include "units.h"

int
run_job_list (struct cli *cli, char **arguments, int nr_arguments,
              const struct option_value *values)
{
  json_object *result = client_call (cli, client_request ("job-list"));

  (void) arguments;
  (void) nr_arguments;
  (void) values;
  if (!result)
    return CLI_FAILED;
  if (cli->json)
    cli_print_json (result);
  else
    print_jobs (member_array (result, "jobs"));
  json_object_put (result);
  return CLI_DONE;
}

/* How a member is shown to people. */
typedef const char *(*member_function) (json_object *object, const char *key,
                                        char buf[HUMAN_SIZE]);

static const char *
member_plain (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  (void) buf;
  return member_text_or_dash (object, key);
}

static const char *
member_speed (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  uint64_t n;

  return member_int (object, key, &n) && n == 0 ? "none"
    : member_rate (object, key, buf);
}

/* Which of the guest's writes had to copy first: how much, and where most. */
static void
print_copies (json_object *copies)
{
  json_object *parts = copies ? member_array (copies, "parts") : NULL;
  json_object *most = NULL;
  uint64_t max = 0, n;
  char a[HUMAN_SIZE], b[HUMAN_SIZE];
  size_t i;

  for (i = 0; parts && i < json_object_array_length (parts); i++)
    if (member_int (json_object_array_get_idx (parts, i), "bytes", &n)
        && n > max) {
      max = n;
      most = json_object_array_get_idx (parts, i);
    }
  if (!copies) {
    print (stdout, "%-16s  -\n", "guest-copies");
    return;
  }
  print (stdout, "%-16s  %s, %s of it zeroes", "guest-copies",
         member_size (copies, "bytes", a), member_size (copies, "bytes-zero", b));
  if (most)
    print (stdout, "; most in the %s", member_size (most, "length", a));
  if (most)
    print (stdout, " from %s on: %s", member_size (most, "offset", a),
           member_size (most, "bytes", b));
  print (stdout, "\n");
}

static void
print_job (json_object *job)
{
  static const struct { const char *key; member_function show; } rows[] = {
    { "kind", member_plain }, { "export", member_plain },
    { "source", member_plain }, { "target", member_plain },
    { "sync", member_plain }, { "backing", member_plain },
    { "compress", member_plain }, { "manifest", member_plain },
    { "since", member_plain },
    { "checkpoint", member_plain }, { "snapshot", member_plain },
    { "state", member_plain }, { "error", member_plain },
    { "instant-ns", member_instant }, { "created-ns", member_instant },
    { "ended-ns", member_instant }, { "pid", member_number },
    { "restarts", member_number }, { "speed", member_speed },
    { "max-requests", member_number }, { "connections", member_number },
    { "on-source-error", member_plain }, { "on-target-error", member_plain },
    { "retry-ms", member_number },
    { "bytes-total", member_size }, { "bytes-done", member_size },
    { "bytes-read", member_size }, { "bytes-written", member_size },
    { "bytes-zero", member_size }, { "bytes-skipped", member_size },
    { "bytes-offloaded", member_size }, { "bytes-recopied", member_size },
    { "bytes-lost", member_size }, { "bytes-per-second", member_rate },
    { "eta-seconds", member_seconds }, { "offload", member_plain },
    { "first-difference", member_number }, { "bytes-different", member_size },
    { "clusters-different", member_number },
  };
  char buf[HUMAN_SIZE];
  size_t i, len;

  print (stdout, "%-16s  %s\n", "job", member_text_or_dash (job, "id"));
  for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    len = strlen (rows[i].key);
    if (len > 3 && strcmp (rows[i].key + len - 3, "-ns") == 0)
      len -= 3;
    print (stdout, "%-16.*s  %s\n", (int) len, rows[i].key,
           rows[i].show (job, rows[i].key, buf));
  }
  print_copies (member_object (job, "guest-copies"));
}

int
run_job_show (struct cli *cli, char **arguments, int nr_arguments,
              const struct option_value *values)
{
  json_object *result, *job;
  int status = CLI_DONE;

  (void) nr_arguments;
  (void) values;
  result = client_call (cli, job_request ("job-show", arguments[0]));
  if (!result)
    return CLI_FAILED;
  job = member_object (result, "job");
  if (cli->json)
    cli_print_json (result);
  else if (job)
    print_job (job);
  else
    status = cli_fail (cli, "protocol", "the daemon's reply has no job");
  json_object_put (result);
  return status;
}

int
run_job_wait (struct cli *cli, char **arguments, int nr_arguments,
              const struct option_value *values)
{
  const char *id = arguments[0];
  struct client client;
  struct wait wait = { .client = &client, .ids = &id, .nr = 1 };
  int status = CLI_FAILED;

  (void) nr_arguments;
  (void) values;
  if (client_open (&client, cli) == -1)
    return CLI_FAILED;
  if (watch_signals (&client) == 0)
    status = wait_for_jobs (&wait);
  client_close (&client);
  return status;
}

/* An order to a job.  What it has come to, job show tells. */
static int
order (struct cli *cli, json_object *request, const char *id, const char *what)
{
  json_object *result = client_call (cli, request);

  if (!result)
    return CLI_FAILED;
  if (cli->json)
    cli_print_json (result);
  else
    print (stdout, "asked job %s to %s\n", id, what);
  json_object_put (result);
  return CLI_DONE;
}

int
run_job_cancel (struct cli *cli, char **arguments, int nr_arguments,
                const struct option_value *values)
{
  (void) nr_arguments;
  (void) values;
  return order (cli, job_request ("job-cancel", arguments[0]), arguments[0],
                "end");
}

int
run_job_pause (struct cli *cli, char **arguments, int nr_arguments,
               const struct option_value *values)
{
  (void) nr_arguments;
  (void) values;
  return order (cli, job_request ("job-pause", arguments[0]), arguments[0],
                "pause");
}

int
run_job_resume (struct cli *cli, char **arguments, int nr_arguments,
                const struct option_value *values)
{
  (void) nr_arguments;
  (void) values;
  return order (cli, job_request ("job-resume", arguments[0]), arguments[0],
                "go on");
}

int
run_job_speed (struct cli *cli, char **arguments, int nr_arguments,
               const struct option_value *values)
{
  json_object *request;
  uint64_t speed;

  (void) nr_arguments;
  (void) values;
  if (parse_speed (arguments[1], &speed) == -1)
    return cli_usage (cli, "'%s': " SPEED_EXPECTED, arguments[1]);
  request = job_request ("job-speed", arguments[0]);
  json_object_object_add (request, "speed", json_object_new_uint64 (speed));
  return order (cli, request, arguments[0],
                speed == 0 ? "go as fast as it can" : "keep to that speed");
}
