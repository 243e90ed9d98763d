/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Backup jobs: what other parts of the daemon see of them. */

#ifndef NBDFLEECE_JOBS_H
#define NBDFLEECE_JOBS_H

#include <json-c/json.h>

#include "daemon.h"
#include "snapshot.h"

struct job;

/* Reads the records of all jobs and goes on with those that have not ended.
 * The exports are up. */
extern struct jobs *jobs_new (struct daemon *d);

/* The daemon ends: stops the copiers where they are; the next daemon goes on
 * with the jobs.  Harmless on NULL, as is jobs_free. */
extern void jobs_end (struct jobs *jobs);
extern bool jobs_have_ended (const struct jobs *jobs);
extern void jobs_free (struct jobs *jobs);

/* Job objects of the control protocol, oldest first: all, or only those that
 * have not ended. */
extern struct json_object *jobs_json (const struct jobs *jobs, bool all);

/* True if a job that has not ended is about this export. */
extern bool jobs_use_export (const struct jobs *jobs,
                             const struct export *ex);

/* A snapshot is about to go although nobody asked for it: its job, if any,
 * fails for this reason. */
extern void jobs_snapshot_lost (struct snapshot *s, const char *why);

extern const char *job_id (const struct job *job);

#endif /* NBDFLEECE_JOBS_H */
