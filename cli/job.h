/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Jobs: waiting for them, and telling how they ended. */

#ifndef NBDFLEECE_JOB_H
#define NBDFLEECE_JOB_H

#include "client.h"

/* Blocks SIGINT, SIGTERM and SIGHUP, to be received by the client while it
 * waits.  Returns 0, or -1 after telling why not. */
extern int watch_signals (struct client *client);

/* Jobs that are waited for together. */
struct wait {
  struct client *client;        /* open */
  const char **ids;
  size_t nr;                    /* 1 or more */
  bool may_cancel;              /* an interrupt asks to cancel them */
  bool interrupted;             /* there was one already */
  json_object *document;        /* what to add `job' and `jobs' to for --json;
                                 * NULL: an object with `job' alone */
};

/* Waits until all jobs have ended, one after the other, and shows how far the
 * one is that it waits for.  An interrupt (SIGINT) asks to cancel all of them
 * if may_cancel; else, like SIGTERM, SIGHUP and a second interrupt always, it
 * ends the waiting and leaves them alone.  Tells how each ended.  Returns an
 * exit status. */
extern int wait_for_jobs (struct wait *wait);

/* The requests that have a job's id and nothing else. */
extern json_object *job_request (const char *command, const char *id);

/* Sends a request that starts a job and waits for the end of that, unless
 * detach; takes the request.  Returns an exit status. */
extern int start_job (struct cli *cli, json_object *request, bool detach);

#endif /* NBDFLEECE_JOB_H */
