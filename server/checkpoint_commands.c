/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The commands of the control socket that have to do with checkpoints. */

/* How much has changed since each checkpoint is the count of a union that
 * grows from the newest to the oldest; on a large disk that is many megabytes
 * to look through, so it is done on a thread.
 */

#include <config.h>

#include <stdlib.h>

#include "chain.h"
#include "control.h"
#include "dirty.h"
#include "export.h"
#include "job_commands.h"
#include "jobs.h"
#include "status.h"
#include "work.h"

static struct export *
find_export (struct request *request, struct json_object *args)
{
  const char *name = member_string (args, "export");
  struct export *ex = export_find (request->daemon, name);

  if (ex && ex->conf)
    return ex;
  request_error (request, "unknown-export", "there is no export %s", name);
  return NULL;
}

/* ------------------------------------------------------------------- list */

struct listing {
  struct request *request;
  struct json_object *array;    /* of checkpoint objects, oldest first */
  struct chain chain;           /* all files, named or not */
  int *index;                   /* of each file in the array, or -1 */
  int64_t *changed;             /* bytes since each file, or -1 */
};

static void
count_changes (void *opaque)
{
  struct listing *l = opaque;
  const struct bmfile *newest;
  bm_word *all;
  size_t i;

  if (l->chain.nr == 0)
    return;
  newest = &l->chain.files[l->chain.nr - 1];
  all = calloc (1, bm_bytes (newest->nr_clusters));
  for (i = l->chain.nr; i-- > 0;) {
    const struct bmfile *file = &l->chain.files[i];

    l->changed[i] = -1;
    if (!all || file->disk_size != newest->disk_size)
      break;
    dirty_add (all, newest->cluster_bits, file);
    l->changed[i] = dirty_bytes (all, newest->cluster_bits,
                                 newest->disk_size);
  }
  free (all);
}

static void
list_counted (void *opaque)
{
  struct listing *l = opaque;
  struct json_object *o = json_object_new_object (), *cp, *reason;
  size_t i;

  for (i = 0; i < l->chain.nr; i++) {
    if (l->index[i] == -1)
      continue;
    cp = json_object_array_get_idx (l->array, l->index[i]);
    json_object_object_get_ex (cp, "reason", &reason);
    json_object_object_add (cp, "changed-bytes", reason || l->changed[i] < 0
                            ? NULL : json_object_new_int64 (l->changed[i]));
  }
  json_object_object_add (o, "checkpoints", l->array);
  request_result (l->request, o);
  chain_close (&l->chain);
  free (l->index);
  free (l->changed);
  free (l);
}

static struct json_object *
checkpoint_json (const struct checkpoint *cp)
{
  struct json_object *o = json_object_new_object ();
  char uuid[UUID_SIZE], why[400];
  bool doubt = chain_doubt (cp, NULL, 0, why, sizeof why);

  format_uuid (cp->file.fixed->uuid, uuid);
  json_add_string (o, "export", cp->export->name);
  json_add_string (o, "name", cp->name);
  json_add_string (o, "uuid", uuid);
  json_add_string (o, "state", doubt ? "inconsistent" : "consistent");
  json_add_string (o, "reason", doubt ? why : NULL);
  json_add_instant (o, "instant", atomic_load (&cp->file.live->instant_ns));
  json_add_int (o, "size", cp->file.disk_size);
  json_add_int (o, "cluster-size", INT64_C (1) << cp->file.cluster_bits);
  json_object_object_add (o, "changed-bytes", NULL);
  json_add_string (o, "job", cp->job ? job_id (cp->job) : NULL);
  return o;
}

static void
add_all (struct listing *l, const struct export *ex)
{
  const struct checkpoint *cp;
  struct failure ignored;
  size_t i = 0;
  int n = 0;

  cp = TAILQ_FIRST (&ex->checkpoints);
  if (!cp || chain_open (cp, NULL, &l->chain, &ignored) == -1)
    l->chain.nr = 0;
  l->index = xcalloc (l->chain.nr + 1, sizeof *l->index);
  l->changed = xcalloc (l->chain.nr + 1, sizeof *l->changed);
  TAILQ_FOREACH (cp, &ex->checkpoints, entry) {
    if (cp->creating)
      break;
    if (cp->name)
      json_object_array_add (l->array, checkpoint_json (cp));
    if (i < l->chain.nr)
      l->index[i++] = cp->name ? n : -1;
    n += cp->name != NULL;
  }
}

void
do_checkpoint_list (struct request *request, struct json_object *args)
{
  struct export *ex = find_export (request, args);
  struct listing *l;

  if (!ex)
    return;
  l = xcalloc (1, sizeof *l);
  l->request = request;
  l->array = json_object_new_array ();
  add_all (l, ex);
  work_start (request->daemon, count_changes, list_counted, l);
}

/* ----------------------------------------------------------------- delete */

void
do_checkpoint_delete (struct request *request, struct json_object *args)
{
  const char *name = member_string (args, "name");
  struct export *ex = find_export (request, args);
  struct checkpoint *cp;
  struct failure failure;

  if (!ex)
    return;
  cp = checkpoint_find (ex, name);
  if (!cp)
    request_error (request, "unknown-checkpoint", "export %s has no "
                   "checkpoint %s", ex->name, name);
  else if (cp->creating || cp->busy)
    request_error (request, "in-use", "checkpoint %s of export %s is being "
                   "created", name, ex->name);
  else if (cp->job)
    request_error (request, "in-use", "checkpoint %s of export %s is being "
                   "made by job %s", name, ex->name, job_id (cp->job));
  else if (checkpoint_delete (cp, &failure) == -1)
    request_failed (request, &failure);
  else
    request_result (request, json_object_new_object ());
}
