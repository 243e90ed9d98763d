/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The activity log: where a disk may differ from what is on stable storage. */

/* A bitmap file, activity.log in the directory of an export, with a bit for
 * each region of the disk.  While a tracking bitmap is bound to a log, by the
 * log's uuid in its header, this holds for the two as they are on disk, that
 * is, after a crash of the host at any moment:
 *
 *   A cluster that differs from what a reader could have got at the instant of
 *   the checkpoint is dirty in the tracking bitmap (or in a later one), or its
 *   region is set in the log.
 *
 * Note "differs": what the guest wrote before the checkpoint may have been in
 * memory only, have been read by a backup, and be gone after the crash.
 *
 * So whoever finds a bound bitmap after a crash adds the regions of the log to
 * it, and has a superset again.  How the filter keeps this up while the guest
 * writes is at the top of filter/activity.c.
 */

#ifndef NBDFLEECE_ACTLOG_H
#define NBDFLEECE_ACTLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "bmfile.h"

#define ACTLOG_NAME "activity.log"

/* Bytes of a region of a disk: 4 MiB up to 64 TiB, then twice as often. */
extern uint64_t actlog_region_size (uint64_t disk_size);

/* Opens the log in the directory of an export.  0; or -1 and errno, with *why
 * a static phrase: ENOENT if there is none. */
extern int actlog_open (const char *dir, struct bmfile *log, const char **why);

/* Makes an empty one, with a new uuid, in place of what may be there, and
 * flushes it and its name.  0, or -1 and errno; then what was there stays. */
extern int actlog_create (const char *dir, const char *export_name,
                          uint64_t disk_size, struct bmfile *log);

/* True if the tracking bitmap is bound to this log.  log->fixed may be NULL:
 * there is none. */
extern bool actlog_is_bound (const struct bmfile *tracking,
                             const struct bmfile *log);

/* Changes the header in memory; the caller flushes it.  To unbind, log is
 * NULL. */
extern void actlog_bind (struct bmfile *tracking, const struct bmfile *log);

/* Adds the regions of the log to the tracking bitmap, which is bound to it. */
extern void actlog_replay (struct bmfile *tracking, const struct bmfile *log);

#endif /* NBDFLEECE_ACTLOG_H */
