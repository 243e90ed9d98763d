/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Beginning a snapshot of several exports at one instant. */

/* Each export is a part, with a connection of its own to the filter:
 *
 *   HELLO all, since a disk may have grown; then the files are made
 *   before-freeze, if there are hooks
 *   one export       BEGIN
 *   several          FREEZE all; when all gates are closed, BEGIN all
 *   after-thaw
 *
 * Whatever can be refused has been refused before the first hook is run, and
 * what takes long is done, so that a guest that a hook holds still is held for
 * the instant only.  No gate is closed while hooks run.
 *
 * Between the last FREEZE answered and the first BEGIN sent all gates are
 * closed with nothing in flight behind them: that is the one instant.  A gate
 * that opened by itself meanwhile makes its BEGIN fail, and then all do.
 *
 * The first failure is the one that is reported.  After it the connections
 * are closed, which opens the gates, and hooks run after-thaw; a snapshot whose BEGIN was sent may
 * exist or not and is ended like any other, the rest has only its files to be
 * removed.  The failure is reported when nothing is left; or, if a filter does
 * not answer, after a while, and what is left goes as soon as it does.
 *
 * An export begins one snapshot at a time.  Whoever comes while one of its
 * exports is being held waits for its turn, in the order of asking.
 *
 * What is under way is on record (unfinished.h), for a daemon that finds it
 * half done.  Whoever has asked may take the record over, if there is more to
 * be done before it is complete.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broken.h"
#include "chain.h"
#include "create.h"
#include "unfinished.h"

/* The filter's deadline, and a little for the way; seconds. */
#define EXTRA 1.0

/* To flush the disk for a snapshot that is to outlast a crash of the host, with
 * the gate open; seconds. */
#define FLUSH_LIMIT 120.0

/* So long a failure waits for nothing to be left; seconds. */
#define CLEAN_UP_LIMIT 5.0

static void fail (struct create *c);

static void
free_part (struct part *p)
{
  filter_abandon (p->client);
  while (p->nr_fds > 0)
    close (p->fds[--p->nr_fds]);
  export_next_step (p->export);
  free (p->name);
  free (p->since);
}

static void
free_create (struct create *c)
{
  size_t i;

  ev_timer_stop (c->daemon->loop, &c->later);
  TAILQ_REMOVE (&c->daemon->creates, c, entry);
  for (i = 0; i < c->nr; i++)
    free_part (&c->parts[i]);
  FAILPOINT ("S5");
  if (c->record)
    unfinished_remove (c->record);
  FAILPOINT ("S5+");
  free (c->record);
  hooks_free (c->hooks);
  snapshots_go_on (c->daemon);
  free (c->checkpoint);
  free (c);
}

static void
part_begun (struct part *p, struct created *created)
{
  created->snapshots[created->nr] = p->snapshot;
  created->checkpoints[created->nr++] = p->checkpoint;
  p->snapshot->state = SNAPSHOT_ACTIVE;
  if (p->checkpoint)
    checkpoint_begun (p->checkpoint);
}

static void
succeed (struct create *c)
{
  struct created created = {
    .snapshots = xcalloc (c->nr, sizeof *created.snapshots),
    .checkpoints = xcalloc (c->nr, sizeof *created.checkpoints),
    .record = c->record,
    .report = create_report (c),
  };
  size_t i;

  for (i = 0; i < c->nr; i++)
    part_begun (&c->parts[i], &created);
  c->done (c->opaque, NULL, &created);
  c->record = created.record;   /* unless it was taken */
  free (created.snapshots);
  free (created.checkpoints);
  json_object_put (created.report);
  for (i = 0; i < c->nr; i++)
    chain_tidy (c->parts[i].export);
  free_create (c);
}

/* The last step; frees c unless something is still to be removed. */
static void
report_failure (struct create *c)
{
  if (!c->reported)
    c->done (c->opaque, &c->failure, NULL);
  c->reported = true;
  hooks_free (c->hooks);        /* nobody has to wait for them any more */
  c->hooks = NULL;
  if (c->waiting == 0)
    free_create (c);
  else
    snapshots_go_on (c->daemon);
}

static void
part_gone (void *opaque)
{
  struct create *c = opaque;

  if (--c->waiting == 0 && c->hooks_done)
    report_failure (c);
}

static void
waited_enough (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  report_failure (w->data);
}

static void
undo_part (struct part *p)
{
  filter_abandon (p->client);
  p->client = NULL;
  if (p->checkpoint)
    checkpoint_call_off (p->checkpoint);
  if (p->snapshot && p->begin_sent) {
    p->create->waiting++;
    snapshot_end (p->snapshot, part_gone, p->create);
  }
  else if (p->snapshot) {
    if (p->snapshot->map.fixed)
      snapshot_remove_files (p->snapshot);
    snapshot_free (p->snapshot);
    export_next_step (p->export);
  }
  p->checkpoint = NULL;
  p->snapshot = NULL;
}

/* All but what has to be undone by others has been done. */
static void
thawed_after_failure (void *opaque, const struct failure *failure)
{
  struct create *c = opaque;
  const size_t length = strlen (c->failure.message);

  if (failure)
    snprintf (c->failure.message + length,
              sizeof c->failure.message - length, "; and %s",
              failure->message);
  c->hooks_done = true;
  ev_timer_set (&c->later, c->waiting > 0 ? CLEAN_UP_LIMIT : 0, 0);
  ev_timer_start (c->daemon->loop, &c->later);
}

/* Undoes all that has been done.  The failure is set. */
static void
fail (struct create *c)
{
  size_t i;

  c->waiting = 0;
  for (i = 0; i < c->nr; i++)
    undo_part (&c->parts[i]);
  if (c->hooks_begun && !c->hooks_done)
    hooks_after (c->hooks, "failed", thawed_after_failure, c);
  else
    thawed_after_failure (c, NULL);
}

static void
fail_with (struct create *c, const struct part *p, int error,
           const char *what)
{
  const char *name = p->export->name;

  if (error == ETIMEDOUT || error == ESTALE)
    failure_set (&c->failure, "timeout", "export %s: writes in flight did not "
                 "end within %u ms", name, c->deadline_ms);
  else if (error == ECONNRESET)
    failure_set (&c->failure, "not-running", "export %s: its nbdkit ended",
                 name);
  else if (error == EMFILE)
    failure_set (&c->failure, "failed", "export %s: it has %d snapshots, "
                 "which is the most", name, WIRE_SNAPSHOTS_MAX);
  else
    failure_set (&c->failure, "failed", "export %s: %s: %s", name, what,
                 strerror (error));
  fail (c);
}

/* False, with the failure set, if a snapshot has been lost since it began: its
 * nbdkit has been started again, and could not go on with it. */
static bool
all_still_exist (struct create *c)
{
  const struct part *p;
  size_t i;

  for (i = 0; i < c->nr; i++) {
    p = &c->parts[i];
    if (atomic_load (&p->snapshot->map.live->state) == BMFILE_ACTIVE)
      continue;
    failure_set (&c->failure, "failed", "export %s: snapshot %s was lost while "
                 "hooks were running", p->export->name, p->name);
    return false;
  }
  return true;
}

/* That a hook has failed is in the report. */
static void
thawed (void *opaque, const struct failure *failure)
{
  struct create *c = opaque;

  (void) failure;
  c->hooks_done = true;
  if (all_still_exist (c))
    succeed (c);
  else
    fail (c);
}

static void
all_begun (struct create *c)
{
  size_t i;

  FAILPOINT ("S4");
  for (i = 0; i < c->nr; i++)
    log_info (&c->daemon->log, "%s: snapshot %s exists; writes were held for "
              "%llu us", c->parts[i].export->name, c->parts[i].name,
              (unsigned long long) c->parts[i].closed_ns / 1000);
  if (c->nr > 1)
    log_info (&c->daemon->log, "%zu exports: %llu us from the first gate that "
              "closed until the last one opened", c->nr,
              (unsigned long long) create_gates_ns (c) / 1000);
  if (c->hooks)
    hooks_after (c->hooks, "begun", thawed, c);
  else
    succeed (c);
}

static void
begin_answered (void *opaque, int error, const struct wire_reply *reply,
                int fd)
{
  struct part *p = opaque;
  struct create *c = p->create;

  if (fd != -1)
    close (fd);
  if (error) {
    fail_with (c, p, error, "cannot begin a snapshot");
    return;
  }
  p->closed_ns = reply->u.begun.closed_ns;
  p->closed_at_ns = reply->u.begun.closed_at_ns;
  if (--c->waiting == 0)
    all_begun (c);
}

static void
begin_all (struct create *c)
{
  struct wire_request request;
  size_t i;

  c->waiting = c->nr;
  FAILPOINT ("S3");
  for (i = 0; i < c->nr; i++) {
    struct part *p = &c->parts[i];

    wire_request_init (&request, WIRE_BEGIN, 0);
    request.flags = WIRE_BEGIN_SNAPSHOT
      | (p->checkpoint ? WIRE_BEGIN_CHECKPOINT : 0)
      | (c->nr > 1 ? WIRE_BEGIN_FROZEN : 0);
    request.deadline_ms = c->deadline_ms;
    memcpy (request.uuid, p->snapshot->map.fixed->uuid, sizeof request.uuid);
    p->begin_sent = true;
    filter_call (p->client, &request, p->fds, p->nr_fds,
                 c->deadline_ms / 1000.0 + EXTRA
                 + (map_is_durable (&p->snapshot->map) ? FLUSH_LIMIT : 0),
                 begin_answered, p);
  }
  FAILPOINT ("S3+");
}

static void
freeze_answered (void *opaque, int error, const struct wire_reply *reply,
                 int fd)
{
  struct part *p = opaque;
  struct create *c = p->create;

  (void) reply;
  if (fd != -1)
    close (fd);
  if (error)
    fail_with (c, p, error, "cannot hold writes");
  else if (--c->waiting == 0)
    begin_all (c);
}

static void
freeze_all (struct create *c)
{
  struct wire_request request;
  size_t i;

  c->waiting = c->nr;
  wire_request_init (&request, WIRE_FREEZE, 0);
  request.deadline_ms = c->deadline_ms;
  for (i = 0; i < c->nr; i++)
    filter_call (c->parts[i].client, &request, NULL, 0,
                 c->deadline_ms / 1000.0 + EXTRA, freeze_answered,
                 &c->parts[i]);
}

static void
hold_and_begin (struct create *c)
{
  if (c->nr > 1)
    freeze_all (c);
  else
    begin_all (c);
}

static void
hooks_have_run (void *opaque, const struct failure *failure)
{
  struct create *c = opaque;

  if (!failure) {
    hold_and_begin (c);
    return;
  }
  c->failure = *failure;
  fail (c);
}

/* All filters have said how large their disks are. */
static void
prepare (struct create *c)
{
  size_t i;
  int r = 0;

  for (i = 0; r == 0 && i < c->nr; i++)
    r = create_files (c, &c->parts[i]);
  FAILPOINT ("S2");
  if (r == 0)
    r = create_write_record (c);
  if (r == -1)
    fail (c);
  else if (c->hooks) {
    c->hooks_begun = true;
    hooks_before (c->hooks, hooks_have_run, c);
  }
  else
    hold_and_begin (c);
}

static void
hello_answered (void *opaque, int error, const struct wire_reply *reply,
                int fd)
{
  struct part *p = opaque;
  struct create *c = p->create;

  if (fd != -1)
    close (fd);
  if (error == ETIMEDOUT) {
    failure_set (&c->failure, "timeout", "export %s: its nbdkit does not "
                 "answer", p->export->name);
    fail (c);
  }
  else if (error)
    fail_with (c, p, error, "cannot ask its nbdkit");
  else {
    p->export->hello = reply->u.hello;
    if (--c->waiting == 0)
      prepare (c);
  }
}

/* 0, or -1 with the failure set. */
static int
connect_part (struct create *c, struct part *p)
{
  struct export *ex = p->export;

  if (!export_is_up (ex)) {
    failure_set (&c->failure, "not-running", "export %s is not running: %s",
                 ex->name, export_reason (ex));
    return -1;
  }
  p->client = filter_connect (c->daemon->loop, ex->control);
  if (p->client)
    return 0;
  failure_set (&c->failure, "not-running", "export %s: %s: %s", ex->name,
               ex->control, strerror (errno));
  return -1;
}

static void
start (struct create *c)
{
  struct wire_request request;
  size_t i;

  c->started = true;
  if (c->daemon->phase == DAEMON_STOPPING) {
    failure_set (&c->failure, "stopping", "the daemon is ending");
    fail (c);
    return;
  }
  for (i = 0; i < c->nr; i++)
    if (connect_part (c, &c->parts[i]) == -1) {
      fail (c);
      return;
    }
  wire_request_init (&request, WIRE_HELLO, 0);
  c->waiting = c->nr;
  for (i = 0; i < c->nr; i++)
    filter_call (c->parts[i].client, &request, NULL, 0,
                 c->deadline_ms / 1000.0 + EXTRA, hello_answered,
                 &c->parts[i]);
}

/* True if one of its exports belongs to another one that has started. */
static bool
has_to_wait (const struct create *c)
{
  const struct create *other;
  size_t i, j;

  if (hooks_are_recovering (c->daemon))
    return true;                /* they must not thaw what we freeze */
  TAILQ_FOREACH (other, &c->daemon->creates, entry) {
    if (other == c)
      return false;             /* the rest came later */
    if (other->reported)
      continue;                 /* only waits for a filter to answer */
    for (i = 0; i < c->nr; i++)
      for (j = 0; j < other->nr; j++)
        if (c->parts[i].export == other->parts[j].export)
          return true;
  }
  return false;
}

void
snapshots_go_on (struct daemon *d)
{
  struct create *c;

  TAILQ_FOREACH (c, &d->creates, entry)
    if (!c->started && !has_to_wait (c))
      start (c);
}

/* Nobody's writes are held for longer than he allows. */
static unsigned
choose_deadline (const struct create_params *params)
{
  const struct config_export *conf;
  unsigned ms = WIRE_DEADLINE_MS_MAX;
  size_t i;

  for (i = 0; i < params->nr; i++) {
    conf = params->wishes[i].export->conf;
    if (conf && conf->freeze_timeout_ms < ms)
      ms = conf->freeze_timeout_ms;
  }
  return params->deadline_ms ? params->deadline_ms : ms;
}

void
snapshots_create (struct daemon *d, const struct create_params *params,
                  snapshots_created done, void *opaque)
{
  struct create *c = xcalloc (1, sizeof *c
                              + params->nr * sizeof c->parts[0]);
  size_t i;

  c->daemon = d;
  c->checkpoint = params->checkpoint ? xstrdup (params->checkpoint) : NULL;
  c->nr = params->nr;
  c->deadline_ms = choose_deadline (params);
  c->keep_record = params->keep_record;
  c->rearm = params->rearm;
  c->release = params->release;
  c->done = done;
  c->opaque = opaque;
  c->hooks = hooks_new (d, params);
  ev_timer_init (&c->later, waited_enough, 0, 0);
  c->later.data = c;
  for (i = 0; i < c->nr; i++) {
    const struct create_wish *wish = &params->wishes[i];

    c->parts[i].create = c;
    c->parts[i].export = wish->export;
    c->parts[i].name = xstrdup (wish->name);
    c->parts[i].since = wish->since ? xstrdup (wish->since) : NULL;
  }
  TAILQ_INSERT_TAIL (&d->creates, c, entry);
  snapshots_go_on (d);
}

bool
snapshots_are_created (const struct export *ex)
{
  const struct create *c;
  size_t i;

  TAILQ_FOREACH (c, &ex->daemon->creates, entry)
    for (i = 0; i < c->nr; i++)
      if (c->parts[i].export == ex)
        return true;
  return false;
}
