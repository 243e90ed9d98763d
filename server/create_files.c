/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Names, files and record of snapshots that are about to begin. */

#include <config.h>

#include <stdlib.h>

#include "chain.h"
#include "create.h"
#include "rearm.h"
#include "unfinished.h"

static int
take_snapshot_name (struct create *c, struct part *p)
{
  const struct snapshot *same = snapshot_find (p->export, p->name);

  if (rearm_find (p->export, p->name))
    failure_set (&c->failure, "in-use", "export %s: snapshot %s is being "
                 "moved", p->export->name, p->name);
  else if (c->rearm && (!same || same->state != SNAPSHOT_ACTIVE || same->job))
    failure_set (&c->failure, "unknown-snapshot", "export %s: snapshot %s "
                 "does not exist (any more)", p->export->name, p->name);
  else if (same && !c->rearm)
    failure_set (&c->failure, "exists", "export %s: snapshot %s %s",
                 p->export->name, p->name, same->state == SNAPSHOT_ENDING
                 ? "is being deleted" : "exists already");
  else {
    p->snapshot = c->rearm ? rearm_new (same)
      : snapshot_new (p->export, p->name);
    return 0;
  }
  return -1;
}

static int
take_checkpoint_name (struct create *c, struct part *p)
{
  if (!c->checkpoint)
    return 0;
  if (!checkpoint_find (p->export, c->checkpoint)) {
    p->checkpoint = checkpoint_new (p->export, c->checkpoint);
    return 0;
  }
  failure_set (&c->failure, "exists", "export %s: checkpoint %s exists "
               "already", p->export->name, c->checkpoint);
  return -1;
}

/* The scope has to be known before anything is begun. */
static int
check_since (struct create *c, const struct part *p)
{
  const struct checkpoint *cp;

  if (!p->since)
    return 0;
  cp = checkpoint_find (p->export, p->since);
  if (cp && !cp->creating && !cp->busy && !cp->job)
    return chain_check (cp, NULL, p->export->hello.disk_size, &c->failure);
  failure_set (&c->failure, "unknown-checkpoint", "export %s has no "
               "checkpoint %s", p->export->name, p->since);
  return -1;
}

int
create_files (struct create *c, struct part *p)
{
  if (check_since (c, p) == -1 || take_snapshot_name (c, p) == -1
      || take_checkpoint_name (c, p) == -1
      || snapshot_make_files (p->snapshot, p->since, c->release, p->fds,
                              &c->failure) == -1)
    return -1;
  p->nr_fds = 2;
  if (p->checkpoint) {
    if (checkpoint_make_file (p->checkpoint, p->snapshot->map.disk_size,
                              &p->fds[2], &c->failure) == -1)
      return -1;
    p->nr_fds = 3;
  }
  return 0;
}

/* One snapshot of one export exists or does not; anything more has to be
 * undone by the next daemon if we die before it is complete. */
int
create_write_record (struct create *c)
{
  char *text;
  size_t i;

  if (c->nr == 1 && !c->checkpoint && !c->parts[0].since && !c->keep_record)
    return 0;
  text = xstrdup ("");
  for (i = 0; i < c->nr; i++) {
    const struct part *p = &c->parts[i];

    unfinished_add (&text, p->export, &p->snapshot->map);
    if (p->checkpoint)
      unfinished_add (&text, p->export, &p->checkpoint->file);
  }
  c->record = unfinished_write (c->daemon, text, &c->failure);
  free (text);
  return c->record ? 0 : -1;
}
