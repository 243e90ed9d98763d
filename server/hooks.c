/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Running the hooks of one request, in their order and within their time. */

/* Each side is run in two rounds, the hooks of a round all at once:
 *
 *   before-freeze    groups, then exports
 *   after-thaw       exports, then groups
 *
 * so that a group's hook may hold a program still whose guests are then frozen
 * one by one.  Whatever happens ends: a program has its time, and there are
 * four rounds.
 *
 * A hook has been started when it was its turn, even if it has no
 * before-freeze.  From then on its after-thaw has to run: the record that says
 * so is on disk before the first program is started, and goes when the last
 * one has ended.  A daemon that finds a record first kills what is left of
 * those programs, which all have the set's id in their environment, since a
 * freeze that comes true after the thaw would leave a guest frozen.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "export.h"
#include "hooks.h"
#include "program.h"

#define ROUNDS 2

static const char *const side_names[] = { "before-freeze", "after-thaw" };

static void next_round (struct hooks *h);

static int64_t
monotonic_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C (1000000000) + t.tv_nsec;
}

/* ------------------------------------------------------------ what there is */

static void
take_step (struct hook_step *step, const struct config_strings *argv,
           uint64_t timeout_ms)
{
  size_t i;

  step->timeout_ms = timeout_ms;
  if (argv->nr == 0)
    return;
  step->argv = xcalloc (argv->nr + 1, sizeof step->argv[0]);
  for (i = 0; i < argv->nr; i++)
    step->argv[i] = xstrdup (argv->v[i]);
}

static bool
has_any (const struct config_hooks *conf)
{
  return conf->before_freeze.nr > 0 || conf->after_thaw.nr > 0;
}

/* The next one of the set, without its exports; or NULL if there is none. */
static struct hook *
add_hook (struct hooks *h, const struct config_hooks *conf)
{
  struct hook *hook = &h->hook[h->nr];

  if (!has_any (conf))
    return NULL;
  h->nr++;
  hook->hooks = h;
  take_step (&hook->steps[HOOK_BEFORE], &conf->before_freeze,
             conf->before_freeze_timeout_ms);
  take_step (&hook->steps[HOOK_AFTER], &conf->after_thaw,
             conf->after_thaw_timeout_ms);
  return hook;
}

static void
add_export (struct hook *hook, const struct create_params *params,
            const char *name)
{
  size_t i;

  for (i = 0; i < params->nr; i++)
    if (strcmp (params->wishes[i].export->name, name) == 0) {
      strings_add (&hook->exports, "%s", name);
      strings_add (&hook->snapshots, "%s", params->wishes[i].name);
    }
}

struct hooks *
hooks_alloc (struct daemon *d, size_t nr, const char *id)
{
  struct hooks *h = xcalloc (1, sizeof *h + nr * sizeof h->hook[0]);

  h->daemon = d;
  if (id)
    snprintf (h->id, sizeof h->id, "%s", id);
  ev_init (&h->next, NULL);
  h->next.data = h;
  TAILQ_INSERT_TAIL (&d->hooks, h, entry);
  return h;
}

struct hooks *
hooks_new (struct daemon *d, const struct create_params *params)
{
  struct hooks *h = hooks_alloc (d, params->nr + params->nr_groups, NULL);
  const struct config_export *conf;
  struct hook *hook;
  size_t i, j;

  for (i = 0; i < params->nr_groups; i++) {
    const struct config_group *group = params->groups[i];

    hook = add_hook (h, &group->hooks);
    if (!hook)
      continue;
    hook->group = xstrdup (group->name);
    for (j = 0; j < group->exports.nr; j++)
      add_export (hook, params, group->exports.v[j]);
  }
  for (i = 0; i < params->nr; i++) {
    conf = params->wishes[i].export->conf;
    hook = conf ? add_hook (h, &conf->hooks) : NULL;
    if (hook)
      add_export (hook, params, conf->name);
  }
  if (h->nr > 0)
    return h;
  hooks_free (h);
  return NULL;
}

static void
free_step (struct hook_step *step)
{
  size_t i;

  for (i = 0; step->argv && step->argv[i]; i++)
    free (step->argv[i]);
  free (step->argv);
  free (step->why);
}

void
hooks_free (struct hooks *h)
{
  struct daemon *d;
  size_t i;

  if (!h)
    return;
  d = h->daemon;
  ev_timer_stop (d->loop, &h->next);
  for (i = 0; i < h->nr; i++) {
    free_step (&h->hook[i].steps[HOOK_BEFORE]);
    free_step (&h->hook[i].steps[HOOK_AFTER]);
    strings_free (&h->hook[i].exports);
    strings_free (&h->hook[i].snapshots);
    free (h->hook[i].group);
  }
  free (h->record);
  TAILQ_REMOVE (&d->hooks, h, entry);
  free (h);
  daemon_part_changed (d);
}

/* -------------------------------------------------------------- one program */

/* "export vda", "group db" */
static char *
describe (const struct hook *hook)
{
  return hook->group ? xasprintf ("group %s", hook->group)
    : xasprintf ("export %s", hook->exports.v[0]);
}

/* NAME=A B C; one word if all are the same. */
static char *
list_variable (const char *name, const struct strings *s)
{
  char *text = xasprintf ("%s=%s", name, s->nr > 0 ? s->v[0] : ""), *longer;
  bool all_same = true;
  size_t i;

  for (i = 1; i < s->nr; i++)
    all_same = all_same && strcmp (s->v[i], s->v[0]) == 0;
  for (i = 1; i < s->nr && !all_same; i++) {
    longer = xasprintf ("%s %s", text, s->v[i]);
    free (text);
    text = longer;
  }
  return text;
}

static char **
make_environment (const struct hook *hook)
{
  const struct hooks *h = hook->hooks;
  char *v[] = {
    xasprintf ("NBDFLEECE_HOOK=%s", side_names[h->side]),
    xasprintf ("NBDFLEECE_GROUP=%s", hook->group ? hook->group : ""),
    list_variable ("NBDFLEECE_EXPORTS", &hook->exports),
    list_variable ("NBDFLEECE_SNAPSHOT", &hook->snapshots),
    xasprintf ("NBDFLEECE_HOOK_ID=%s", h->id),
    xasprintf ("NBDFLEECE_RESULT=%s", h->result ? h->result : ""),
  };
  const unsigned nr = sizeof v / sizeof v[0];
  char **env = environment_with ((const char *const *) v, nr);
  unsigned i;

  for (i = 0; i < nr; i++)
    free (v[i]);
  return env;
}

static void
stop_others (struct hooks *h, const char *why)
{
  size_t i;

  for (i = 0; i < h->nr; i++)
    if (h->hook[i].steps[h->side].running)
      program_stop (h->hook[i].steps[h->side].running, why);
}

static void
hook_failed (struct hook *hook, const char *why)
{
  struct hooks *h = hook->hooks;
  char *whose = describe (hook);

  hook->steps[h->side].why = xstrdup (why);
  log_error (&h->daemon->log, "hook %s of %s failed: %s: %s",
             side_names[h->side], whose, hook->steps[h->side].argv[0], why);
  if (!h->failure.code)
    failure_set (&h->failure, "hook-failed", "hook %s of %s failed: %s: %s",
                 side_names[h->side], whose, hook->steps[h->side].argv[0],
                 why);
  free (whose);
  if (h->side == HOOK_BEFORE)
    stop_others (h, "was stopped, since another one failed");
}

static void
program_has_ended (void *opaque, const char *why)
{
  struct hook *hook = opaque;
  struct hooks *h = hook->hooks;
  struct hook_step *step = &hook->steps[h->side];

  step->running = NULL;
  step->took_ns = monotonic_ns () - step->began_ns;
  if (why)
    hook_failed (hook, why);
  if (--h->waiting == 0)
    next_round (h);
}

static void
run (struct hook *hook)
{
  struct hooks *h = hook->hooks;
  struct hook_step *step = &hook->steps[h->side];
  char *label = xasprintf ("%s: %s", hook->group ? hook->group
                           : hook->exports.v[0], side_names[h->side]);
  char **env = make_environment (hook);
  struct program_params params = {
    .argv = step->argv, .env = env, .label = label,
    .timeout_ms = step->timeout_ms,
  };

  h->waiting++;
  step->ran = true;
  step->began_ns = monotonic_ns ();
  log_info (&h->daemon->log, "%s: running %s", label, step->argv[0]);
  step->running = program_start (h->daemon->loop, &h->daemon->log, &params,
                                 program_has_ended, hook);
  environment_free (env);
  free (label);
}

/* -------------------------------------------------------------------- rounds */

static bool
is_its_turn (const struct hook *hook)
{
  const struct hooks *h = hook->hooks;
  const bool groups = (h->side == HOOK_BEFORE) == (h->round == 0);

  return (hook->group != NULL) == groups
    && (h->side == HOOK_BEFORE || hook->started);
}

static void
all_have_run (struct hooks *h)
{
  hooks_done done = h->done;

  if (h->side == HOOK_AFTER && h->record) {
    remove_file (h->record);
    free (h->record);
    h->record = NULL;
  }
  h->done = NULL;
  done (h->opaque, h->failure.code ? &h->failure : NULL);
}

static void
take_round (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct hooks *h = w->data;
  size_t i;

  (void) loop;
  (void) revents;
  if (h->round == ROUNDS || (h->side == HOOK_BEFORE && h->failure.code)) {
    all_have_run (h);
    return;
  }
  for (i = 0; i < h->nr; i++) {
    struct hook *hook = &h->hook[i];

    if (!is_its_turn (hook))
      continue;
    hook->started = true;
    if (hook->steps[h->side].argv)
      run (hook);
  }
  h->round++;
  if (h->waiting == 0)
    next_round (h);
}

/* From the loop, where nobody is in the middle of something. */
static void
next_round (struct hooks *h)
{
  ev_timer_init (&h->next, take_round, 0, 0);
  ev_timer_start (h->daemon->loop, &h->next);
}

static void
begin_side (struct hooks *h, enum hook_side side, hooks_done done,
            void *opaque)
{
  h->side = side;
  h->round = 0;
  h->failure.code = NULL;
  h->done = done;
  h->opaque = opaque;
}

void
hooks_before (struct hooks *h, hooks_done done, void *opaque)
{
  begin_side (h, HOOK_BEFORE, done, opaque);
  if (random_uuid (h->id, &h->failure) == 0)
    hooks_write_record (h, &h->failure);
  next_round (h);
}

void
hooks_after (struct hooks *h, const char *result, hooks_done done,
             void *opaque)
{
  begin_side (h, HOOK_AFTER, done, opaque);
  h->result = result;
  next_round (h);
}

void
hooks_end (struct daemon *d)
{
  struct hooks *h;

  TAILQ_FOREACH (h, &d->hooks, entry) {
    if (!h->done || h->side != HOOK_BEFORE || h->failure.code)
      continue;
    failure_set (&h->failure, "stopping", "the daemon is ending");
    stop_others (h, "was stopped, since the daemon is ending");
  }
}

/* ---------------------------------------------------------------------- JSON */

static struct json_object *
step_json (const struct hook *hook, enum hook_side side)
{
  const struct hook_step *step = &hook->steps[side];
  struct json_object *o = json_object_new_object ();
  struct json_object *exports = json_object_new_array ();
  size_t i;

  for (i = 0; i < hook->exports.nr; i++)
    json_object_array_add (exports,
                           json_object_new_string (hook->exports.v[i]));
  json_object_object_add (o, "hook",
                          json_object_new_string (side_names[side]));
  json_object_object_add (o, "group", hook->group
                          ? json_object_new_string (hook->group) : NULL);
  json_object_object_add (o, "exports", exports);
  json_object_object_add (o, "program",
                          json_object_new_string (step->argv[0]));
  json_object_object_add (o, "error", step->why
                          ? json_object_new_string (step->why) : NULL);
  json_object_object_add (o, "took-us",
                          json_object_new_int64 (step->took_ns / 1000));
  return o;
}

struct json_object *
hooks_json (const struct hooks *h)
{
  struct json_object *array = json_object_new_array ();
  size_t side, i;

  for (side = HOOK_BEFORE; h && side <= HOOK_AFTER; side++)
    for (i = 0; i < h->nr; i++)
      if (h->hook[i].steps[side].ran)
        json_object_array_add (array, step_json (&h->hook[i], side));
  return array;
}
