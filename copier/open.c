/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Opening what a copy is between: source, ledger and target. */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "copier.h"
#include "report.h"

/* Clusters of a job that has neither map nor copy bitmap are the source's
 * blocks, if they are of a cluster's size, or of this size; doubled until a bit
 * for each takes no more than 8 MiB. */
#define CLUSTER_STANDARD (64 * 1024)
#define CLUSTER_BITMAP_MAX (8 * 1024 * 1024)

/* One more connection for so many bytes. */
#define CONNECTION_BYTES (64 * 1024 * 1024)

/* Seconds between tries to connect, at first and at most. */
#define FIRST_DELAY 0.1
#define MAX_DELAY 10.

/* For a copier of the same job that was killed and is not quite gone. */
#define PATIENCE_MS 5000

struct wait {
  bool done;
  int error;
  struct job *job;
};

static void
wait_done (struct io *io)
{
  struct wait *w = io->owner;

  w->done = true;
  w->error = io->error;
  loop_io_free (io);
}

/* Turn function of the time before the job runs. */
static void
wait_turn (void *opaque)
{
  struct wait *w = opaque;

  if (w->done || w->job->verdict != JOB_CREATED)
    loop_stop (w->job->loop);
}

static int
connect_once (struct job *job, enum side side, struct message *why)
{
  struct wait w = { .job = job };
  struct io *io = loop_io (job->loop, wait_done, &w);
  struct message *said = side == SIDE_SOURCE ? &job->source->why
    : &job->target->why;

  if (!io || said->text[0])     /* it cannot even begin */
    return message_set (why, "%s", io ? said->text : "no memory");
  job->loop->turn = wait_turn;
  job->loop->opaque = &w;
  if (side == SIDE_SOURCE)
    job->source->ops->connect (job->source, io);
  else
    job->target->ops->connect (job->target, io);
  loop_run (job->loop);
  job->loop->turn = NULL;
  if (w.done && w.error == 0)
    return 0;
  return message_set (why, "%s", !w.done ? "cancelled" : said->text[0]
                      ? said->text : strerror (w.error));
}

static void
time_is_over (struct ev_loop *ev, ev_timer *w, int revents)
{
  struct wait *wait = w->data;

  (void) ev;
  (void) revents;
  wait->done = true;
}

/* Waits for so many seconds, or until the job is cancelled. */
static void
wait_a_moment (struct job *job, double seconds)
{
  struct wait w = { .job = job };
  ev_timer timer;

  ev_timer_init (&timer, time_is_over, seconds, 0.);
  timer.data = &w;
  ev_timer_start (job->loop->ev, &timer);
  job->loop->turn = wait_turn;
  job->loop->opaque = &w;
  loop_run (job->loop);
  job->loop->turn = NULL;
  ev_timer_stop (job->loop->ev, &timer);
}

/* Whether a server that cannot be reached is worth another try: it is if an
 * earlier run of this job has reached it.  The actions mean what they do
 * later, too (endpoint.c); there is no stopping yet, but trying on. */
static bool
may_try_again (const struct job *job, enum side side, double began)
{
  const struct options *opt = job->opt;
  enum error_action action = side == SIDE_SOURCE ? opt->on_source_error
    : opt->on_target_error;
  bool final = side == SIDE_SOURCE ? job->source->final : job->target->final;

  return job->goes_on && !final && job->verdict == JOB_CREATED
    && (action == ACTION_STOP || action == ACTION_IGNORE
        || monotonic_now () - began < opt->retry_ms / 1000.);
}

int
connect_side (struct job *job, enum side side, struct message *why)
{
  double began = monotonic_now (), delay = FIRST_DELAY;

  while (connect_once (job, side, why) == -1) {
    struct message *said = side == SIDE_SOURCE ? &job->source->why
      : &job->target->why;

    if (!may_try_again (job, side, began))
      return -1;
    said->text[0] = '\0';
    message_set (&job->error, "%s (trying again)", why->text);
    job_log (job, "%s", job->error.text);
    if (job->reporter)
      report_now (job);
    wait_a_moment (job, delay);
    delay = delay * 2 < MAX_DELAY ? delay * 2 : MAX_DELAY;
  }
  job->error.text[0] = '\0';
  return 0;
}

/* Whether an earlier run of the job has got as far as to have a target. */
static bool
goes_on (const struct options *opt)
{
  struct bmfile copy = { 0 };
  const char *why;
  bool known;

  if (!opt->copy_bitmap
      || bmfile_open (opt->copy_bitmap, false, BMFILE_COPY, &copy, &why) == -1)
    return false;
  known = copy.live->scratch_dev != 0 || copy.live->scratch_ino != 0;
  bmfile_close (&copy);
  return known;
}

int
open_source (struct copier *c, struct message *why)
{
  struct job *job = &c->job;
  const char *name = c->opt.source;
  bool direct = strncmp (name, "map:", 4) == 0;
  const char *map = direct ? name + 4 : c->opt.map;

  job->goes_on = goes_on (&c->opt);
  if (map) {
    if (mapfile_open (&c->map, map, c->opt.release, why) == -1)
      return -1;
    job->map = &c->map;
    if (c->opt.live && strcmp (c->map.map.fixed->live, c->opt.live) != 0)
      return message_set (why, "%s: the map names another live disk, %s", map,
                          c->map.map.fixed->live);
  }
  if (direct)
    job->source = source_map_new (job->pool, name, &c->map);
  else if (image_resolve (&c->source, name, why) == -1
           || image_check (&c->source, c->opt.allow_incomplete, why) == -1)
    return -1;
  else
    job->source = image_source (&c->source, &c->loop, job->pool,
                                c->opt.connections);
  if (!job->source)
    return message_set (why, "no memory");
  if (connect_side (job, SIDE_SOURCE, why) == -1)
    return -1;
  if (job->source->size == 0)
    return message_set (why, "%s: the source is empty", name);
  if (job->map && job->map->map.disk_size != job->source->size)
    return message_set (why, "%s: the map is for a disk of %llu bytes, the "
                        "source has %llu", map,
                        (unsigned long long) job->map->map.disk_size,
                        (unsigned long long) job->source->size);
  return 0;
}

static uint64_t
choose_cluster_size (const struct job *job)
{
  uint64_t size = job->source->preferred_block;

  if (job->map)
    return UINT64_C (1) << job->map->map.cluster_bits;
  if (size < BMFILE_CLUSTER_MIN || size > BMFILE_CLUSTER_MAX
      || (size & (size - 1)) != 0)
    size = CLUSTER_STANDARD;
  while (job->source->size / size / 8 > CLUSTER_BITMAP_MAX)
    size *= 2;
  return size;
}

int
open_ledger (struct copier *c, struct message *why)
{
  struct job *job = &c->job;

  if (c->opt.new_bitmap
      && ledger_make (c->opt.copy_bitmap, job->source->size,
                      choose_cluster_size (job), why) == -1)
    return -1;
  if (ledger_open (&job->ledger, c->opt.copy_bitmap, job->source->size,
                   choose_cluster_size (job), PATIENCE_MS, why) == -1)
    return -1;
  if (c->opt.release
      && job->ledger.cluster_bits < job->map->map.cluster_bits)
    return message_set (why, "%s: its clusters are smaller than the map's",
                        c->opt.copy_bitmap);
  return 0;
}

/* What the target must not be.  The paths are there: they have been opened. */
static int
note_taken (struct copier *c, struct message *why)
{
  const struct bmfile *map = &c->map.map;
  const char *live;

  if (c->opt.copy_bitmap)
    target_take (&c->params, c->opt.copy_bitmap, "the job's copy bitmap");
  if (c->source.path && chain_take (&c->params, c->source.name, why) == -1)
    return -1;
  if (!c->job.map)
    return 0;
  live = bmfile_live_path (map);
  if (live)
    target_take (&c->params, live, "the live disk");
  target_take (&c->params, map->fixed->scratch, "the snapshot's scratch");
  target_take (&c->params, c->opt.map ? c->opt.map : c->opt.source + 4,
               "the snapshot's map");
  return 0;
}

static struct target *
new_target (struct copier *c)
{
  const char *name = c->opt.target;

  if (strncmp (name, "qcow2:", 6) == 0)
    return target_qcow2_new (&c->loop, c->job.pool, name, &c->params);
  if (strstr (name, "://"))
    return target_nbd_new (&c->loop, name, &c->params);
  return target_file_new (&c->loop, c->job.pool, name, &c->params);
}

/* Connections to the target: a short job is over before several pay. */
static unsigned
connections (const struct copier *c)
{
  const struct ledger *l = &c->job.ledger;
  uint64_t n = 1 + (l->scope - l->delivered) / CONNECTION_BYTES;

  return n < c->opt.connections ? n : c->opt.connections;
}

/* What is known of a target, so that a job that goes on finds out if it is
 * another one now, which does not have what was delivered. */
struct target_id { uint64_t dev, ino; };

/* In place of a device, for NBD servers.  They say nothing about themselves
 * but the size of the export. */
#define NBD_TARGET UINT64_MAX

/* 0, or -1 and errno.  Before it is connected an NBD target is not known. */
static int
identify_target (const struct copier *c, struct target_id *id)
{
  const char *name = c->opt.target;
  struct stat st;

  if (strncmp (name, "qcow2:", 6) == 0)
    name += 6;
  else if (strstr (name, "://")) {
    *id = (struct target_id) { NBD_TARGET, c->job.target
                               ? c->job.target->size : 0 };
    return 0;
  }
  if (stat (name, &st) == -1)
    return -1;
  *id = (struct target_id) { st.st_dev, st.st_ino };
  if (S_ISBLK (st.st_mode))
    *id = (struct target_id) { st.st_rdev, 0 };
  return 0;
}

/* The numbers of file systems are the host's run's. */
static bool
is_of_device (const struct bmfile *copy, const struct target_id *id)
{
  uint64_t dev = copy->live->scratch_dev;

  return id->dev == dev
    || (dev != NBD_TARGET && id->dev != NBD_TARGET && id->ino != 0
        && bmfile_has_crashed (copy));
}

static int
check_target (const struct copier *c, struct message *why)
{
  const struct ledger *l = &c->job.ledger;
  const struct bmfile_live *live = l->copy.live;
  struct target_id id;

  if (!live || l->delivered == 0
      || (live->scratch_dev == 0 && live->scratch_ino == 0))
    return 0;
  if (identify_target (c, &id) == 0 && is_of_device (&l->copy, &id)
      && (id.ino == live->scratch_ino
          || (id.dev == NBD_TARGET && !c->job.target)))
    return 0;
  errno = EINVAL;
  return message_set (why, "%s: it is not the target that the job has copied "
                      "to so far", c->opt.target);
}

/* Before anything can be delivered. */
static void
note_target (struct copier *c)
{
  struct bmfile_live *live = c->job.ledger.copy.live;
  struct target_id id;

  if (!live || identify_target (c, &id) == -1)
    return;
  live->scratch_dev = id.dev;
  live->scratch_ino = id.ino;
}

int
open_target (struct copier *c, struct message *why)
{
  struct job *job = &c->job;
  const struct ledger *l = &job->ledger;
  const char *name = c->opt.target;

  if (c->opt.compare)
    return open_compared (c, why);
  c->params.size = l->disk_size;
  c->params.whole = l->scope == l->disk_size && l->delivered == 0
    && !c->opt.top;
  c->params.may_exist = c->opt.copy_bitmap != NULL;
  c->params.compress = c->opt.compress;
  c->params.connections = connections (c);
  c->params.exact = c->opt.same_size;
  if (note_taken (c, why) == -1)
    return -1;
  if (strcmp (name, c->opt.source) == 0)
    return message_set (why, "%s: the target is the source", name);
  if (job->map && strcmp (name, c->map.map.fixed->live) == 0)
    return message_set (why, "%s: the target is the live disk", name);
  if (check_target (c, why) == -1 || keep_prepare (c, why) == -1)
    return -1;
  job->target = new_target (c);
  if (!job->target)
    return message_set (why, "no memory");
  if (connect_side (job, SIDE_TARGET, why) == -1
      || check_target (c, why) == -1)
    return -1;
  note_target (c);
  if (ledger_coarsen (&job->ledger, job->target->min_block) == -1)
    return message_set (why, "no memory for the job's bitmap");
  return 0;
}
