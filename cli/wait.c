/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Waits for jobs. */

/* The daemon owns the job: whatever happens to us, it goes on.  So Ctrl-C,
 * which people expect to stop what they have started, must ask the daemon for
 * that; it goes over a connection of its own, because ours waits in job-wait.
 * A lost terminal (SIGHUP) or an orderly kill (SIGTERM) is no such wish.
 *
 * The daemon may end, too, and be started again: then it finds the job again,
 * and so do we, if that takes no longer than RECONNECT_TIMEOUT.
 *
 * Jobs that began together are waited for one after the other; they run all at
 * once, so that takes no longer.
 *
 * Signals are blocked from before the request that starts the job, and come
 * through a signalfd next to the socket, so that none falls between the start
 * of the job and our knowing about it.
 */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "human.h"
#include "job.h"
#include "progress.h"

#define CANCEL_TIMEOUT (120 * 1000)     /* milliseconds */
#define RECONNECT_TIMEOUT (60 * 1000)   /* milliseconds */
#define RECONNECTS_MAX 20               /* without a word about the job */

int
watch_signals (struct client *client)
{
  sigset_t set;

  sigemptyset (&set);
  sigaddset (&set, SIGINT);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGHUP);
  client->signals = signalfd (-1, &set, SFD_CLOEXEC);
  if (client->signals != -1 && sigprocmask (SIG_BLOCK, &set, NULL) == 0)
    return 0;
  cli_fail (client->cli, "failed", "signalfd: %s", strerror (errno));
  return -1;
}

json_object *
job_request (const char *command, const char *id)
{
  json_object *request = client_request (command);

  json_object_object_add (request, "job", json_object_new_string (id));
  return request;
}

/* Every line about jobs that may be going on without us: the one that was
 * waited for, and those after it. */
static void
leave (const struct wait *wait)
{
  const struct cli *cli = wait->client->cli;

  if (wait->nr == 1)
    cli_fail (cli, "interrupted", "job %s goes on; to wait for it again: "
              "nbdfleece job wait %s", wait->ids[0], wait->ids[0]);
  else
    cli_fail (cli, "interrupted", "jobs %s to %s go on; to wait for them "
              "again: nbdfleece job wait ID", wait->ids[0],
              wait->ids[wait->nr - 1]);
}

/* Whether that works or not (the job may have ended just now, or the daemon),
 * waiting goes on and will tell; but a further signal ends it.  Returns 0, or
 * -1 to leave. */
static int
ask_to_cancel (const struct wait *wait, const char *id)
{
  const struct client *client = wait->client;
  struct cli quiet = *client->cli;
  struct client other;
  json_object *result = NULL;
  enum client_message m = CLIENT_FAILED;
  int signal;

  quiet.json = false;           /* the one document is that of the end */
  if (client_open (&other, &quiet) == -1)
    return 0;
  other.signals = client->signals;
  if (client_send (&other, job_request ("job-cancel", id)) == 0)
    m = client_receive (&other, CANCEL_TIMEOUT, &result, &signal);
  if (m == CLIENT_RESULT)
    print (stderr, "nbdfleece: asked the daemon to cancel job %s; waiting for "
           "its end\n", id);
  else if (m == CLIENT_SIGNAL)
    leave (wait);
  json_object_put (result);
  other.signals = -1;           /* lent only */
  client_close (&other);
  return m == CLIENT_SIGNAL ? -1 : 0;
}

/* What the target holds, in one line, and where it came from in another. */
static void
print_summary (json_object *job)
{
  static const char *const keys[] = {
    "read", "written", "zero", "skipped", "recopied", "lost", "offloaded"
  };
  const char *offload = member_text_or_dash (job, "offload");
  const char *kind = member_text_or_dash (job, "kind");
  const char *manifest = member_text (job, "manifest");
  char size[HUMAN_SIZE], took[HUMAN_SIZE], rate[HUMAN_SIZE];
  char instant[HUMAN_SIZE], key[32];
  uint64_t created = 0, ended = 0;
  size_t i;

  if (!member_int (job, "created-ns", &created)
      || !member_int (job, "ended-ns", &ended) || ended < created)
    ended = created;
  human_seconds ((ended - created) / 1000000000, took);
  member_size (job, "bytes-total", size);
  member_rate (job, "bytes-per-second", rate);
  if (strcmp (kind, "restore") == 0)
    print (stdout, "job %s completed: %s of %s, in %s (%s) to %s\n",
           member_text_or_dash (job, "id"), size,
           member_text_or_dash (job, "source"), took, rate,
           member_text_or_dash (job, "target"));
  else if (strcmp (kind, "verify") == 0)
    print (stdout, "job %s completed: %s is the same as %s%s%s: %s, in %s\n",
           member_text_or_dash (job, "id"),
           member_text_or_dash (job, "target"),
           manifest ? "manifest " : member_text_or_dash (job, "export"),
           manifest ? "" : "@", manifest ? manifest
           : member_text_or_dash (job, "snapshot"), size, took);
  else
    print (stdout, "job %s completed: %s of %s, %s, in %s (%s) to %s\n",
           member_text_or_dash (job, "id"), size,
           member_text_or_dash (job, "export"),
           member_instant (job, "instant-ns", instant), took, rate,
           member_text_or_dash (job, "target"));
  for (i = 0; i < sizeof keys / sizeof keys[0]; i++) {
    snprintf (key, sizeof key, "bytes-%s", keys[i]);
    print (stdout, "%s%s %s", i == 0 ? "" : ", ", keys[i],
           member_size (job, key, size));
  }
  print (stdout, " (%s)\n", offload);
}

/* Tells how the job ended.  Returns an exit status. */
static int
tell_end (const struct wait *wait, json_object *job)
{
  const char *state = job ? member_text_or_dash (job, "state") : "unknown";
  const char *error = job ? member_text (job, "error") : NULL;
  const bool completed = strcmp (state, "completed") == 0;

  if (completed) {
    if (!wait->client->cli->json)
      print_summary (job);
    return CLI_DONE;
  }
  print (stderr, "nbdfleece: job %s %s%s%s%s\n",
         job ? member_text_or_dash (job, "id") : "-",
         strcmp (state, "incomplete") == 0 ? "is " : "", state,
         error ? ": " : "", error ? error : "");
  return CLI_FAILED;
}

/* Returns 0 to go on waiting, -1 to leave. */
static int
take_signal (struct wait *wait, int signal)
{
  size_t i;

  if (signal != SIGINT || !wait->may_cancel) {
    leave (wait);
    return -1;
  }
  wait->may_cancel = false;     /* the second one ends the waiting */
  for (i = 0; i < wait->nr; i++)
    if (ask_to_cancel (wait, wait->ids[i]) == -1)
      return -1;
  return 0;
}

static int
send_wait (struct client *client, const char *id)
{
  json_object *request = job_request ("job-wait", id);

  json_object_object_add (request, "progress", json_object_new_boolean (true));
  return client_send (client, request);
}

/* Finds the daemon again; times counts how often that was tried since it last
 * said something.  Returns 0, or -1 after telling why not. */
static int
find_daemon (const struct wait *wait, unsigned times)
{
  struct client *client = wait->client;
  const char *id = wait->ids[0];
  int signal;

  if (times == 0)
    print (stderr, "nbdfleece: the daemon closed the connection; job %s goes "
           "on; trying to reach the daemon again\n", id);
  switch (times < RECONNECTS_MAX
          ? client_reopen (client, RECONNECT_TIMEOUT, &signal) : CLIENT_LOST) {
  case CLIENT_RESULT:
    return send_wait (client, id);
  case CLIENT_SIGNAL:
    leave (wait);
    return -1;
  default:
    cli_fail (client->cli, "connection-lost", "the daemon did not come back; "
              "job %s may go on without it", id);
    return -1;
  }
}

/* Waits for the first one.  The job as it was at its end, the caller's to put;
 * or NULL after telling why not. */
static json_object *
wait_for_one (struct wait *wait)
{
  struct client *client = wait->client;
  enum client_message m = CLIENT_RESULT;
  struct progress progress;
  json_object *object, *job, *ended = NULL;
  unsigned times_lost = 0;
  int signal, r;

  progress_start (&progress, client->cli->json);
  r = send_wait (client, wait->ids[0]);
  while (r == 0) {
    m = client_receive (client, -1, &object, &signal);
    job = member_object (object, "job");
    if (m == CLIENT_EVENT && job) {
      progress_show (&progress, job);
      times_lost = 0;
    }
    else
      progress_clear (&progress);
    if (m == CLIENT_SIGNAL)
      r = take_signal (wait, signal);
    else if (m == CLIENT_LOST)
      r = find_daemon (wait, times_lost++);
    else if (m != CLIENT_EVENT)
      r = -1;                   /* the end of it, this way or that */
    if (m == CLIENT_RESULT && job)
      ended = json_object_get (job);
    else if (m == CLIENT_RESULT)
      cli_fail (client->cli, "protocol", "the daemon's reply has no job");
    json_object_put (object);
  }
  return ended;
}

/* Takes over jobs, of which there is one at least. */
static void
print_document (const struct wait *wait, json_object *jobs)
{
  json_object *document = wait->document ? json_object_get (wait->document)
    : json_object_new_object ();
  json_object *first = json_object_array_get_idx (jobs, 0);

  json_object_object_add (document, "job", json_object_array_length (jobs) == 1
                          ? json_object_get (first) : NULL);
  if (wait->document)
    json_object_object_add (document, "jobs", json_object_get (jobs));
  cli_print_json (document);
  json_object_put (document);
  json_object_put (jobs);
}

int
wait_for_jobs (struct wait *wait)
{
  json_object *jobs, *job;
  int status = CLI_DONE;

  wait->client->persistent = true;
  if (wait->interrupted && take_signal (wait, SIGINT) == -1)
    return CLI_FAILED;
  jobs = json_object_new_array ();
  for (; wait->nr > 0; wait->nr--, wait->ids++) {
    job = wait_for_one (wait);
    if (!job) {
      json_object_put (jobs);
      return CLI_FAILED;
    }
    if (tell_end (wait, job) != CLI_DONE)
      status = CLI_FAILED;
    json_object_array_add (jobs, job);
  }
  if (wait->client->cli->json)
    print_document (wait, jobs);
  else
    json_object_put (jobs);
  return status;
}
