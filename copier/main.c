/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* nbdfleece-copy: copies a snapshot to a target. */

/* Everything is checked before the target is touched: source, map, copy bitmap
 * and target, in this order.  Whatever happens, the result file says how it
 * ended, and one line on stderr says what went wrong. */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"
#include "copier.h"
#include "guard.h"
#include "report.h"

enum exit_status {
  EXIT_COMPLETED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INCOMPLETE = 3,
  EXIT_CANCELLED = 4,
};

static bool
is_proof (const struct copier *c)
{
  return strncmp (c->opt.source, MANIFEST, strlen (MANIFEST)) == 0;
}

static int
set_up (struct copier *c, struct message *why)
{
  struct job *job = &c->job;

  job->opt = &c->opt;
  job->complete = keep_complete;
  job->opaque = c;
  job->state = job->verdict = JOB_CREATED;
  c->map.scratch = -1;
  job->ledger.copy_fd = -1;
  c->digests.journal = -1;
  if (loop_init (&c->loop) == -1)
    return message_set (why, "%s", strerror (errno));
  job->loop = &c->loop;
  if (report_open (job, why) == -1)
    return -1;
  c->control = control_new (job, why);
  if (!c->control)
    return -1;
  job->pool = pool_new (&c->loop, c->opt.threads);
  if (!job->pool)
    return message_set (why, "threads: %s", strerror (errno));
  if (is_proof (c) ? open_proved (c, why) == -1
      : open_source (c, why) == -1 || open_ledger (c, why) == -1
      || keep_begin (c, why) == -1 || top_narrow (c, why) == -1
      || open_target (c, why) == -1)
    return -1;
  if (job_init (job) == -1)
    return message_set (why, "no memory");
  return 0;
}

/* Sources and targets go after the threads, which may be in them. */
static void
tear_down (struct copier *c)
{
  struct job *job = &c->job;

  pool_free (job->pool);
  if (job->target)
    job->target->ops->free (job->target);
  if (job->source)
    job->source->ops->free (job->source);
  control_free (c->control);
  job_free (job);
  report_close (job);
  ledger_close (&job->ledger);
  mapfile_close (&c->map);
  keep_end (c);
  comparison_free (&c->comparison);
  manifest_free (&c->expected);
  digests_close (&c->digests);
  loop_free (&c->loop);
}

static enum exit_status
status_of (const struct job *job)
{
  switch (job->state) {
  case JOB_COMPLETED: return EXIT_COMPLETED;
  case JOB_INCOMPLETE: return EXIT_INCOMPLETE;
  case JOB_CANCELLED: return EXIT_CANCELLED;
  default: return EXIT_FAILED;
  }
}

int
main (int argc, char *argv[])
{
  static struct copier c;       /* zeroed; too large for the stack */
  struct message why = { "" };
  enum exit_status status;

  switch (options_parse (&c.opt, argc, argv, &why)) {
  case OPTIONS_DONE:
    return EXIT_COMPLETED;
  case OPTIONS_USAGE:
    fprintf (stderr, "nbdfleece-copy: %s\n", why.text);
    return EXIT_USAGE;
  case OPTIONS_OK:
    break;
  }
  signal (SIGPIPE, SIG_IGN);
  signal (SIGXFSZ, SIG_IGN);
  guard_install ();
  if (set_up (&c, &why) == 0)
    job_run (&c.job);
  else {
    c.job.error = why;
    job_set_state (&c.job, c.job.verdict == JOB_CANCELLED ? JOB_CANCELLED
                   : JOB_FAILED);
  }
  if (report_end (&c.job, &why) == -1)
    fprintf (stderr, "nbdfleece-copy: %s\n", why.text);
  if (c.job.error.text[0])
    fprintf (stderr, "nbdfleece-copy: %s\n", c.job.error.text);
  status = status_of (&c.job);
  if (c.job.abandoned)
    _exit (status);             /* threads hang in what they do */
  tear_down (&c);
  return status;
}
