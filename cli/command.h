/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The commands and their options, as a table. */

#ifndef NBDFLEECE_COMMAND_H
#define NBDFLEECE_COMMAND_H

#include "cli.h"

enum option_kind {
  OPTION_FLAG,
  OPTION_NUMBER,                /* min to max */
  OPTION_SIZE,                  /* with units, min to max bytes */
  OPTION_SPEED,                 /* the same, or none: 0 */
  OPTION_TIME,                  /* with units, min to max milliseconds */
  OPTION_WORD,                  /* one of words */
  OPTION_NAME,                  /* for the daemon to judge */
};

struct command_option {
  const char *name;             /* without the dashes */
  enum option_kind kind;
  const char *metavar;          /* NULL for a flag */
  uint64_t min, max;
  const char *const *words;     /* NULL-terminated */
  const char *help;
};

/* What the command line said, at the option's index. */
struct option_value {
  bool given;
  uint64_t number;              /* of a number, size, speed or time */
  const char *text;             /* of a word or name */
};

/* A limit of bytes per second; the daemon's limit, too. */
#define SPEED_MAX (INT64_C (1) << 60)

#define SPEED_EXPECTED "expected bytes per second from 1 on, also with " \
  "K M G T, or none"

/* From 1 to SPEED_MAX, or the word none, which is 0.  0, or -1. */
extern int parse_speed (const char *text, uint64_t *speed);

#define COMMAND_OPTIONS_MAX 16

struct command {
  const char *name;             /* one or two words */
  const char *arguments;        /* "EXPORT NAME" */
  int min_arguments, max_arguments;
  const struct command_option *options;
  unsigned nr_options;
  const char *help;
  int (*run) (struct cli *cli, char **arguments, int nr_arguments,
              const struct option_value *values);
};

/* In the order of --help; ends with a name of NULL. */
extern const struct command commands[];

/* Finds the command that argv starts with, reads its options and arguments
 * and runs it.  Returns an exit status. */
extern int command_run (struct cli *cli, int argc, char **argv);

/* The options that stand before a command.  Sets *first to the index of the
 * command.  Returns 0; or 1 with the exit status in *status. */
extern int command_globals (struct cli *cli, int argc, char **argv,
                            int *first, int *status);

/* status.c, snapshot.c, checkpoint.c, backup.c, job.c: the run functions. */
extern int run_status (struct cli *, char **, int, const struct option_value *);
extern int run_snapshot_create (struct cli *, char **, int,
                                const struct option_value *);
extern int run_snapshot_rearm (struct cli *, char **, int,
                               const struct option_value *);
extern int run_snapshot_list (struct cli *, char **, int,
                              const struct option_value *);
extern int run_snapshot_delete (struct cli *, char **, int,
                                const struct option_value *);
extern int run_checkpoint_list (struct cli *, char **, int,
                                const struct option_value *);
extern int run_checkpoint_delete (struct cli *, char **, int,
                                  const struct option_value *);
extern int run_backup (struct cli *, char **, int, const struct option_value *);
extern int run_restore (struct cli *, char **, int,
                        const struct option_value *);
extern int run_verify (struct cli *, char **, int, const struct option_value *);
extern int run_job_list (struct cli *, char **, int,
                         const struct option_value *);
extern int run_job_show (struct cli *, char **, int,
                         const struct option_value *);
extern int run_job_wait (struct cli *, char **, int,
                         const struct option_value *);
extern int run_job_cancel (struct cli *, char **, int,
                           const struct option_value *);
extern int run_job_pause (struct cli *, char **, int,
                          const struct option_value *);
extern int run_job_resume (struct cli *, char **, int,
                           const struct option_value *);
extern int run_job_speed (struct cli *, char **, int,
                          const struct option_value *);
extern int run_reload (struct cli *, char **, int, const struct option_value *);

/* Indexes into the values of a command. */
enum { SNAPSHOT_CREATE_CHECKPOINT, SNAPSHOT_CREATE_SINCE,
       SNAPSHOT_CREATE_SCOPE, SNAPSHOT_CREATE_RELEASE,
       SNAPSHOT_CREATE_DEADLINE };
enum { SNAPSHOT_DELETE_FORCE };
enum { SNAPSHOT_REARM_CHECKPOINT, SNAPSHOT_REARM_DEADLINE };
enum { BACKUP_SYNC, BACKUP_SINCE, BACKUP_CHECKPOINT, BACKUP_BACKING,
       BACKUP_COMPRESS, BACKUP_MANIFEST, BACKUP_SPEED,
       BACKUP_MAX_REQUESTS, BACKUP_CONNECTIONS, BACKUP_ON_SOURCE_ERROR,
       BACKUP_ON_TARGET_ERROR, BACKUP_RETRY, BACKUP_DETACH };
enum { RESTORE_ALLOW_INCOMPLETE, RESTORE_SPEED, RESTORE_MAX_REQUESTS,
       RESTORE_CONNECTIONS, RESTORE_DETACH };
enum { VERIFY_MANIFEST, VERIFY_SPEED, VERIFY_MAX_REQUESTS, VERIFY_CONNECTIONS, VERIFY_DETACH };

#endif /* NBDFLEECE_COMMAND_H */
