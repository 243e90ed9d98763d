/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Applying a changed configuration to a running daemon. */

/* The new file is read and checked as a whole, and compared with what runs,
 * before anything is touched: directories and user cannot change, and an
 * export that a job needs cannot go.  After that there is nothing left that
 * could be refused; what fails later is like any process that fails, and
 * tried again.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "backup.h"
#include "export.h"
#include "jobs.h"
#include "notify.h"

static bool
differ (const char *a, const char *b)
{
  return strcmp (a ? a : "", b ? b : "") != 0;
}

static int
check_fixed (const struct config *old, const struct config *new,
             struct failure *failure)
{
  const char *key = NULL;

  if (strcmp (old->state_dir, new->state_dir) != 0)
    key = "state-dir";
  else if (strcmp (old->run_dir, new->run_dir) != 0)
    key = "run-dir";
  else if (differ (old->user, new->user))
    key = "user";
  else if (differ (old->group, new->group))
    key = "group";
  if (!key)
    return 0;
  failure_set (failure, "bad-config", "%s: %s cannot change while the daemon "
               "runs", new->file, key);
  return -1;
}

static bool
is_changed (const struct daemon *d, const struct config *new,
            const struct config_export *conf)
{
  const struct config_export *old = config_find_export (d->config,
                                                        conf->name);
  char a[CONFIG_ID_SIZE], b[CONFIG_ID_SIZE];

  config_export_id (d->config, old, a);
  config_export_id (new, conf, b);
  return strcmp (a, b) != 0;
}

static bool
same_text (const struct config_disk *a, const struct config_disk *b)
{
  char *text_a = export_disk_text (a), *text_b = export_disk_text (b);
  bool same = a->kind == b->kind && strcmp (text_a, text_b) == 0;

  free (text_a);
  free (text_b);
  return same;
}

/* What would become of each export.  -1 with *failure if one cannot. */
static int
compare (struct daemon *d, const struct config *new, struct reload *result,
         struct failure *failure)
{
  const struct config_export *conf;
  const struct export *ex;
  size_t i;

  TAILQ_FOREACH (ex, &d->exports, entry) {
    conf = config_find_export (new, ex->name);
    if (ex->conf && (!conf || !same_text (&conf->disk, &ex->conf->disk))
        && jobs_use_export (d->jobs, ex)) {
      failure_set (failure, "bad-config", "%s: export %s %s, but a job is "
                   "running on it", new->file, ex->name,
                   conf ? "has another disk" : "is missing");
      return -1;
    }
    if (!conf && ex->conf)
      strings_add (&result->removed, "%s", ex->name);
    else if (conf && !ex->conf) {
      failure_set (failure, "bad-config", "%s: export %s is still being "
                   "removed; try again", new->file, ex->name);
      return -1;
    }
  }
  for (i = 0; i < new->nr_exports; i++) {
    conf = &new->exports[i];
    if (!config_find_export (d->config, conf->name))
      strings_add (&result->added, "%s", conf->name);
    else if (is_changed (d, new, conf))
      strings_add (&result->changed, "%s", conf->name);
  }
  return 0;
}

static bool
contains (const struct strings *s, const char *name)
{
  size_t i;

  for (i = 0; i < s->nr; i++)
    if (strcmp (s->v[i], name) == 0)
      return true;
  return false;
}

/* In the order of the new file, those that go behind them. */
static void
apply (struct daemon *d, struct config *new, const struct reload *result)
{
  struct config *old = d->config;
  struct export *ex;
  size_t i;

  d->config = new;
  if (d->user.name)
    d->user.name = new->user;
  TAILQ_FOREACH (ex, &d->exports, entry)
    if (contains (&result->removed, ex->name))
      export_remove (ex);
  for (i = new->nr_exports; i-- > 0;) {
    ex = export_find (d, new->exports[i].name);
    if (ex)
      export_configure (ex, &new->exports[i],
                        contains (&result->changed, ex->name));
    else
      ex = export_new (d, new->exports[i].name, &new->exports[i]);
    TAILQ_REMOVE (&d->exports, ex, entry);
    TAILQ_INSERT_HEAD (&d->exports, ex, entry);
  }
  backup_configure (d->backup);
  config_free (old);
}

static int
read_new (struct daemon *d, struct config **new, struct failure *failure)
{
  struct config_errors errors = { 0 };

  *new = config_load (d->config_path, &errors);
  if (!*new)
    failure_set (failure, "bad-config", "%s", errors.text[0]);
  config_errors_free (&errors);
  if (!*new)
    return -1;
  if (check_fixed (d->config, *new, failure) == 0
      && setup_check (*new, &d->user, failure) == 0
      && setup_check_backup (*new, &d->programs, &d->user, failure) == 0)
    return 0;
  config_free (*new);
  return -1;
}

int
daemon_reload (struct daemon *d, struct reload *result,
               struct failure *failure)
{
  struct config *new;

  if (d->phase != DAEMON_RUNNING) {
    failure_set (failure, "failed", "the daemon is just %s",
                 d->phase == DAEMON_STARTING ? "starting" : "ending");
    return -1;
  }
  notify_reloading ();
  if (read_new (d, &new, failure) == -1) {
    notify ("READY=1");
    return -1;
  }
  if (compare (d, new, result, failure) == -1) {
    config_free (new);
    notify ("READY=1");
    return -1;
  }
  apply (d, new, result);
  log_info (&d->log, "%s read again: %zu exports added, %zu removed, %zu "
            "changed", d->config_path, result->added.nr, result->removed.nr,
            result->changed.nr);
  notify ("READY=1");
  return 0;
}

void
reload_free (struct reload *result)
{
  strings_free (&result->added);
  strings_free (&result->removed);
  strings_free (&result->changed);
}
