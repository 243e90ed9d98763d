/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The new snapshot beside the old one, and how it takes its place. */

/* Bits of a map only rise, so a snapshot cannot be moved: a new one is made,
 * and the old one ends.
 *
 *   1  NAME~.map is begun like any other snapshot; clients do not see it,
 *      since that is no name for one
 *   2  the old snapshot ends; who reads it gets an error
 *   3  NAME~.map is renamed to NAME.map
 *
 * A daemon that finds both goes on with 2, unless the record of unfinished.h
 * says that 1 was not complete.  The scratches are called EXPORT@NAME.scratch
 * and EXPORT@NAME~.scratch in turn, as a map's header cannot change.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "export.h"
#include "rearm.h"

struct taking {
  struct snapshot *new;
  snapshot_gone done;
  void *opaque;
  ev_timer later;
};

struct snapshot *
rearm_find (const struct export *ex, const char *name)
{
  struct snapshot *s;

  TAILQ_FOREACH (s, &ex->snapshots, entry)
    if (s->beside && strcmp (s->name, name) == 0)
      return s;
  return NULL;
}

struct snapshot *
rearm_new (const struct snapshot *old)
{
  struct snapshot *s = snapshot_new (old->export, old->name);
  size_t length = strlen (old->scratch_path);
  bool turn = length > 9 && old->scratch_path[length - 9] == '~';

  s->beside = true;
  free (s->map_path);
  s->map_path = xasprintf ("%s/%s~.map", s->export->dir, s->name);
  if (!turn) {
    free (s->scratch_path);
    s->scratch_path = xasprintf ("%s/%s@%s~.scratch", s->export->scratch_dir,
                                 s->export->name, s->name);
  }
  return s;
}

/* Nothing has the name any more. */
static void
take_place (void *opaque)
{
  struct taking *t = opaque;
  struct snapshot *s = t->new;
  const struct log *log = &s->export->daemon->log;
  char *path = xasprintf ("%s/%s.map", s->export->dir, s->name);

  ev_timer_stop (s->export->daemon->loop, &t->later);
  if (rename (s->map_path, path) == -1)
    log_error (log, "%s: %m", path);
  else {
    free (s->map_path);
    s->map_path = xstrdup (path);
    log_info (log, "%s: snapshot %s is of a new instant", s->export->name,
              s->name);
  }
  free (path);
  s->beside = false;
  s->state = SNAPSHOT_ACTIVE;
  export_next_step (s->export);
  if (t->done)
    t->done (t->opaque);
  free (t);
}

static void
take_place_now (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  take_place (w->data);
}

void
rearm_take_place (struct snapshot *new, snapshot_gone done, void *opaque)
{
  struct taking *t = xcalloc (1, sizeof *t);
  struct snapshot *old = snapshot_find (new->export, new->name);

  *t = (struct taking) { .new = new, .done = done, .opaque = opaque };
  new->state = SNAPSHOT_CREATING;
  ev_timer_init (&t->later, take_place_now, 0, 0);
  t->later.data = t;
  if (old)
    snapshot_end (old, take_place, t);
  else
    ev_timer_start (new->export->daemon->loop, &t->later);
}

void
rearms_finish (struct daemon *d)
{
  struct export *ex;
  struct snapshot *s;

  TAILQ_FOREACH (ex, &d->exports, entry)
    TAILQ_FOREACH (s, &ex->snapshots, entry)
      if (s->beside && s->state == SNAPSHOT_ACTIVE)
        rearm_take_place (s, NULL, NULL);
}
