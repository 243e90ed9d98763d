/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Commands of the control socket in files of their own. */

#ifndef NBDFLEECE_JOB_COMMANDS_H
#define NBDFLEECE_JOB_COMMANDS_H

#include "control.h"

extern void do_backup (struct request *request, struct json_object *args);

/* In restore_command.c. */
extern void do_restore (struct request *request, struct json_object *args);
extern void do_verify (struct request *request, struct json_object *args);

extern void do_job_list (struct request *request, struct json_object *args);
extern void do_job_show (struct request *request, struct json_object *args);
extern void do_job_wait (struct request *request, struct json_object *args);
extern void do_job_pause (struct request *request, struct json_object *args);
extern void do_job_resume (struct request *request, struct json_object *args);
extern void do_job_cancel (struct request *request, struct json_object *args);
extern void do_job_speed (struct request *request, struct json_object *args);

/* In snapshot_commands.c. */
extern void do_snapshot_create (struct request *request,
                                struct json_object *args);
extern void do_snapshot_rearm (struct request *request,
                               struct json_object *args);

/* In snapshot_delete.c. */
extern void do_snapshot_delete (struct request *request,
                                struct json_object *args);

/* In checkpoint_commands.c. */
extern void do_checkpoint_list (struct request *request,
                                struct json_object *args);
extern void do_checkpoint_delete (struct request *request,
                                  struct json_object *args);

/* In choose.c: what a request is about. */
#define EXPORTS_MAX CONFIG_GROUP_MAX
struct chosen {
  struct export *exports[EXPORTS_MAX]; /* each once */
  size_t nr;
  const struct config_group *groups[EXPORTS_MAX]; /* that were named, each
                                 * once */
  size_t nr_groups;
};

/* From the member `exports' or `export', where names of groups stand for their
 * exports.  False if there is something wrong and the request has been
 * answered. */
extern bool choose_exports (struct request *request, struct json_object *args,
                            struct chosen *chosen);

/* The export of that name; NULL if there is none and the request has been
 * answered. */
extern struct export *choose_export (struct request *request,
                                     const char *name);

/* In commands.c: members of a request, which have been checked. */
extern const char *member_string (struct json_object *args, const char *key);
extern int64_t member_int (struct json_object *args, const char *key,
                           int64_t fallback);
extern bool member_bool (struct json_object *args, const char *key);

#endif /* NBDFLEECE_JOB_COMMANDS_H */
