/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Checkpoints: the files in which the filter tracks changes. */

#ifndef NBDFLEECE_CHECKPOINT_H
#define NBDFLEECE_CHECKPOINT_H

#include <stdbool.h>
#include <sys/queue.h>

#include <json-c/json.h>

#include "bmfile.h"
#include "util.h"

struct export;
struct job;
struct request;

struct checkpoint {
  TAILQ_ENTRY (checkpoint) entry;
  struct export *export;
  char *name;                   /* NULL: deleted, but its changes still count
                                 * for the one before */
  char *path;
  bool creating;                /* its name is taken; begun or not */
  struct bmfile file;           /* open (writable) once it is made */
  bool busy;                    /* the request that made it goes on */
  struct job *job;              /* that made it and has not ended, or NULL */
};

/* By name; also one that is being created. */
extern struct checkpoint *checkpoint_find (const struct export *ex,
                                           const char *name);

/* By its file's uuid as text, or NULL. */
extern struct checkpoint *checkpoint_find_uuid (const struct export *ex,
                                                const char *uuid);

/* A new one at the end of the export's list, creating, without a file; and
 * its opposite, which leaves the file alone. */
extern struct checkpoint *checkpoint_new (struct export *ex,
                                          const char *name);
extern void checkpoint_free (struct checkpoint *cp);

/* Makes and opens the file, for a disk of that many bytes.  The descriptor is
 * the caller's.  0, or -1 with *failure. */
extern int checkpoint_make_file (struct checkpoint *cp, uint64_t disk_size,
                                 int *fd, struct failure *failure);

/* The filter has begun it. */
extern void checkpoint_begun (struct checkpoint *cp);

/* Whether or not the filter has begun it: nobody shall know.  Frees it, or
 * deletes it. */
extern void checkpoint_call_off (struct checkpoint *cp);

/* Takes its name away and lets the one before have its changes.  0, or -1
 * with *failure. */
extern int checkpoint_delete (struct checkpoint *cp, struct failure *failure);

/* Why it is inconsistent, for people, until the next call; or NULL.  That of
 * its own file: a later one may be, too (chain.h). */
extern const char *checkpoint_doubt (const struct checkpoint *cp);

/* Makes it inconsistent, if it is not. */
extern void checkpoint_distrust (struct checkpoint *cp, const char *why);
extern void checkpoints_distrust (struct export *ex, const char *why);

/* Deletes its file, and frees it. */
extern void checkpoint_remove (struct checkpoint *cp);

/* Finds the export's checkpoints in the state directory, removes what was
 * never begun and puts aside what is damaged. */
extern void checkpoints_load (struct export *ex);

/* The export's nbdkit runs (again): goes on with what waited for that. */
extern void checkpoints_check (struct export *ex);

/* For an export whose processes have ended in order: makes its tracking last
 * beyond a restart of the host.  path: the file behind the disk, or NULL. */
extern void checkpoints_release (struct export *ex, const char *path);

/* Before the first process of an export is started: whether the file behind
 * its disk is as checkpoints_release has left it.  Raw disks are left to the
 * filter. */
extern void checkpoints_compare (struct export *ex, const char *path);

/* For an export that is not configured any more and has no processes. */
extern void checkpoints_remove (struct export *ex);

#endif /* NBDFLEECE_CHECKPOINT_H */
