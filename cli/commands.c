/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The table of commands: what the parser, --help and the manual go by. */

#include <config.h>

#include "command.h"

#define RETRY_MAX (24 * 3600 * 1000) /* milliseconds */

#define NR(array) (sizeof array / sizeof array[0])

static const char *const sync_words[] = {
  "full", "top", "incremental", NULL
};

static const char *const action_words[] = {
  "report", "stop", "ignore", "enospc", NULL
};

static const char *const compress_words[] = { "zlib", "zstd", NULL };

static const char *const scope_words[] = { "disk", "dirty", NULL };

static const struct command_option snapshot_create_options[] = {
  [SNAPSHOT_CREATE_CHECKPOINT] =
  { "checkpoint", OPTION_NAME, "NAME", 0, 0, NULL,
    "make a checkpoint at the same instant, to track changes from" },
  [SNAPSHOT_CREATE_SINCE] =
  { "since", OPTION_NAME, "CHECKPOINT", 0, 0, NULL,
    "with --scope dirty: where the changes start" },
  [SNAPSHOT_CREATE_SCOPE] =
  { "scope", OPTION_WORD, "WHAT", 0, 0, scope_words,
    "what to keep: disk or, with --since, only what is dirty (disk)" },
  [SNAPSHOT_CREATE_RELEASE] =
  { "release", OPTION_FLAG, NULL, 0, 0, NULL,
    "let clients give back what they have read, by trimming it" },
  [SNAPSHOT_CREATE_DEADLINE] =
  { "deadline", OPTION_TIME, "TIME", 1, 60000, NULL,
    "how long guests' writes may be held, at most 1m (freeze-timeout)" },
};

static const struct command_option snapshot_delete_options[] = {
  [SNAPSHOT_DELETE_FORCE] =
  { "force", OPTION_FLAG, NULL, 0, 0, NULL,
    "even while backup software reads it, which then gets an error" },
};

static const struct command_option snapshot_rearm_options[] = {
  [SNAPSHOT_REARM_CHECKPOINT] =
  { "checkpoint", OPTION_NAME, "NAME", 0, 0, NULL,
    "make a checkpoint at the new instant, to track changes from" },
  [SNAPSHOT_REARM_DEADLINE] =
  { "deadline", OPTION_TIME, "TIME", 1, 60000, NULL,
    "how long guests' writes may be held, at most 1m (freeze-timeout)" },
};

static const struct command_option backup_options[] = {
  [BACKUP_SYNC] =
  { "sync", OPTION_WORD, "WHAT", 0, 0, sync_words,
    "what to copy: full, top, incremental (full, or incremental with --since)" },
  [BACKUP_SINCE] =
  { "since", OPTION_NAME, "CHECKPOINT", 0, 0, NULL,
    "copy only what has changed since this checkpoint" },
  [BACKUP_CHECKPOINT] =
  { "checkpoint", OPTION_NAME, "NAME", 0, 0, NULL,
    "make a checkpoint at the same instant, for the next incremental" },
  [BACKUP_BACKING] =
  { "backing", OPTION_NAME, "IMAGE", 0, 0, NULL,
    "qcow2: put it on top of this earlier backup" },
  [BACKUP_COMPRESS] =
  { "compress", OPTION_WORD, "METHOD", 0, 0, compress_words,
    "qcow2: compress with zlib or zstd" },
  [BACKUP_MANIFEST] =
  { "manifest", OPTION_NAME, "FILE", 0, 0, NULL,
    "write digests of all that is copied, to prove it by later" },
  [BACKUP_SPEED] =
  { "speed", OPTION_SPEED, "SIZE", 1, SPEED_MAX, NULL,
    "bytes per second at most, or none (none)" },
  [BACKUP_MAX_REQUESTS] =
  { "max-requests", OPTION_NUMBER, "N", 1, 1024, NULL,
    "requests in flight, 1 to 1024" },
  [BACKUP_CONNECTIONS] =
  { "connections", OPTION_NUMBER, "N", 1, 16, NULL,
    "connections to an NBD server, 1 to 16" },
  [BACKUP_ON_SOURCE_ERROR] =
  { "on-source-error", OPTION_WORD, "ACTION", 0, 0, action_words,
    "if reading fails: report, stop, ignore, enospc (report)" },
  [BACKUP_ON_TARGET_ERROR] =
  { "on-target-error", OPTION_WORD, "ACTION", 0, 0, action_words,
    "if writing fails: report, stop, ignore, enospc (report)" },
  [BACKUP_RETRY] =
  { "retry", OPTION_TIME, "TIME", 0, RETRY_MAX, NULL,
    "how long to try to reconnect to an NBD server, at most 24h (1m)" },
  [BACKUP_DETACH] =
  { "detach", OPTION_FLAG, NULL, 0, 0, NULL,
    "do not wait for the end; print the job's id" },
};

static const struct command_option restore_options[] = {
  [RESTORE_ALLOW_INCOMPLETE] =
  { "allow-incomplete", OPTION_FLAG, NULL, 0, 0, NULL,
    "restore a backup that lacks clusters" },
  [RESTORE_SPEED] =
  { "speed", OPTION_SPEED, "SIZE", 1, SPEED_MAX, NULL,
    "bytes per second at most, or none (none)" },
  [RESTORE_MAX_REQUESTS] =
  { "max-requests", OPTION_NUMBER, "N", 1, 1024, NULL,
    "requests in flight, 1 to 1024" },
  [RESTORE_CONNECTIONS] =
  { "connections", OPTION_NUMBER, "N", 1, 16, NULL,
    "connections to an NBD server, 1 to 16" },
  [RESTORE_DETACH] =
  { "detach", OPTION_FLAG, NULL, 0, 0, NULL,
    "do not wait for the end; print the job's id" },
};

static const struct command_option verify_options[] = {
  [VERIFY_MANIFEST] =
  { "manifest", OPTION_NAME, "FILE", 0, 0, NULL,
    "compare TARGET, the only argument, with this manifest" },
  [VERIFY_SPEED] =
  { "speed", OPTION_SPEED, "SIZE", 1, SPEED_MAX, NULL,
    "bytes per second at most, or none (none)" },
  [VERIFY_MAX_REQUESTS] =
  { "max-requests", OPTION_NUMBER, "N", 1, 1024, NULL,
    "requests in flight, 1 to 1024" },
  [VERIFY_CONNECTIONS] =
  { "connections", OPTION_NUMBER, "N", 1, 16, NULL,
    "connections to an NBD server, 1 to 16" },
  [VERIFY_DETACH] =
  { "detach", OPTION_FLAG, NULL, 0, 0, NULL,
    "do not wait for the end; print the job's id" },
};

const struct command commands[] = {
  { "status", "", 0, 0, NULL, 0,
    "Shows the daemon, the exports, their snapshots, who reads them, and the "
    "jobs that run.",
    run_status },
  { "snapshot create", "EXPORT[,EXPORT...] NAME", 2, 2,
    snapshot_create_options, NR (snapshot_create_options),
    "Begins a snapshot of each export, all at one instant or none.",
    run_snapshot_create },
  { "snapshot rearm", "EXPORT NAME", 2, 2, snapshot_rearm_options,
    NR (snapshot_rearm_options),
    "Moves a snapshot to a new instant: now.",
    run_snapshot_rearm },
  { "snapshot list", "[EXPORT]", 0, 1, NULL, 0,
    "Shows the snapshots, of all exports or of one.",
    run_snapshot_list },
  { "snapshot delete", "EXPORT[,EXPORT...] NAME", 2, 2,
    snapshot_delete_options, NR (snapshot_delete_options),
    "Ends the snapshot NAME of each export and removes what it kept.",
    run_snapshot_delete },
  { "checkpoint list", "EXPORT", 1, 1, NULL, 0,
    "Shows the checkpoints of an export, and how much has changed since each.",
    run_checkpoint_list },
  { "checkpoint delete", "EXPORT NAME", 2, 2, NULL, 0,
    "Deletes a checkpoint; what has changed since those before it stays "
    "known.",
    run_checkpoint_delete },
  { "backup", "EXPORT[,EXPORT...] TARGET", 2, 2, backup_options,
    NR (backup_options),
    "Copies each export as it is now to TARGET: an NBD URI, the path of a raw "
    "file or block device, or qcow2:PATH.",
    run_backup },
  { "restore", "IMAGE EXPORT|TARGET", 2, 2, restore_options,
    NR (restore_options),
    "Copies a backup back to an export that no client has open, or to TARGET. "
    "IMAGE is an NBD URI, a path, raw:PATH or qcow2:PATH.",
    run_restore },
  { "verify", "EXPORT@SNAPSHOT|JOB TARGET", 1, 2, verify_options,
    NR (verify_options),
    "Compares what TARGET holds with a snapshot or, by its manifest, with what "
    "a backup job has copied; tells the first difference and how many there "
    "are.",
    run_verify },
  { "job list", "", 0, 0, NULL, 0,
    "Shows the jobs that run and those that ended lately.",
    run_job_list },
  { "job show", "ID", 1, 1, NULL, 0,
    "Shows one job in full.",
    run_job_show },
  { "job wait", "ID", 1, 1, NULL, 0,
    "Waits until a job has ended, showing its progress.",
    run_job_wait },
  { "job cancel", "ID", 1, 1, NULL, 0,
    "Ends a job; its target stays as it is then.",
    run_job_cancel },
  { "job pause", "ID", 1, 1, NULL, 0,
    "Has a job stop copying for a while.",
    run_job_pause },
  { "job resume", "ID", 1, 1, NULL, 0,
    "Has a paused or stopped job go on.",
    run_job_resume },
  { "job speed", "ID SIZE", 2, 2, NULL, 0,
    "Limits a job to SIZE bytes per second, or to none.",
    run_job_speed },
  { "reload", "", 0, 0, NULL, 0,
    "Has the daemon read its configuration again and apply all of it or, if "
    "it is wrong, nothing.",
    run_reload },
  { NULL, NULL, 0, 0, NULL, 0, NULL, NULL },
};
