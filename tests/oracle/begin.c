/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Beginning and ending snapshots, by the filter's control protocol. */

/* Three ways to begin: exact (nothing in flight, so the model knows each
 * byte), free (writers at full speed, the instant somewhere between the two
 * stamps) and frozen (FREEZE, a pause in which nothing may end, BEGIN).
 *
 * If the export is killed meanwhile, the map tells afterwards whether the
 * instant had come: ACTIVE is a snapshot, which the next process must take
 * up; PREPARED is none.
 */

#include <config.h>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "oracle.h"
#include "scratch.h"

static uint64_t
pick_cluster (const struct oracle *o, struct rng *r)
{
  static const uint64_t sizes[] = { 4096, 4096, 65536, 2 * 1024 * 1024 };

  return o->opt.cluster ? o->opt.cluster : sizes[rng_below (r, 4)];
}

static struct snapshot *
prepare (struct slot *slot, unsigned round)
{
  struct oracle *o = slot->o;
  struct snapshot *s = xcalloc (1, sizeof *s);
  struct bmfile_params params = {
    .kind = BMFILE_MAP, .disk_size = o->opt.size,
    .cluster_size = pick_cluster (o, &slot->rng),
    .export_name = EXPORT, .name = s->name, .live = o->live,
  };

  s->o = o;
  s->slot = slot->nr;
  snprintf (s->name, sizeof s->name, "s%u", round);
  s->map_path = xprintf ("%s/%s.map", o->export_dir, s->name);
  s->scratch_path = xprintf ("%s/%s@%s.scratch", o->export_dir, EXPORT,
                             s->name);
  params.scratch = s->scratch_path;
  s->scratch = scratch_create (s->scratch_path, o->opt.size);
  if (s->scratch == -1 || bmfile_create (s->map_path, &params, &s->map) == -1
      || (s->map_fd = open (s->map_path, O_RDWR | O_CLOEXEC)) == -1)
    die ("%s: %m", s->map_path);
  if (rng_below (&slot->rng, 100) < o->opt.durable)
    atomic_store (&s->map.live->flags, BMFILE_DURABLE);
  if (strncmp (o->live, "file:", 5) == 0 && o->opt.direct) {
    s->live = live_file_open (o->live + 5);
    if (!s->live)
      die ("%s: %m", o->live);
  }
  s->reader = (struct reader) { .map = &s->map, .live = s->live,
                                .scratch = s->scratch };
  s->released = xcalloc (s->map.nr_clusters, sizeof *s->released);
  return s;
}

void
snapshot_free (struct snapshot *s)
{
  if (s->view)
    view_free (s->view);
  if (s->live)
    s->live->ops->close (s->live);
  bmfile_close (&s->map);
  close (s->map_fd);
  close (s->scratch);
  if (unlink (s->map_path) == -1 || unlink (s->scratch_path) == -1)
    die ("%s: %m", s->map_path);
  free (s->map_path);
  free (s->scratch_path);
  free ((void *) s->released);
  free (s);
}

/* Connects the slot to the filter, unless it is.  0, or -1 and errno. */
static int
reach (struct slot *slot)
{
  struct oracle *o = slot->o;
  struct wire_request req;
  struct wire_reply reply;

  if (slot->control != -1 && server_went (&o->export, slot->generation)) {
    close (slot->control);
    slot->control = -1;
  }
  if (slot->control != -1)
    return 0;
  slot->generation = atomic_load (&o->export.generation);
  slot->control = wire_connect (o->control);
  if (slot->control == -1)
    return -1;
  wire_request_init (&req, WIRE_HELLO, rng_next (&slot->rng));
  if (wire_call (slot->control, &req, NULL, 0, &reply, NULL) == -1)
    return -1;
  if (reply.u.hello.disk_size != o->opt.size
      || strcmp (reply.u.hello.export_name, EXPORT) != 0
      || strcmp (reply.u.hello.config_id, "oracle") != 0)
    die ("HELLO says something else");
  return 0;
}

/* The connection is of no use, errno says why: was the export killed? */
static int
cut_off (struct slot *slot)
{
  if (!server_went (&slot->o->export, slot->generation)
      && turn_is_up (&slot->o->turn))
    die ("the control connection broke: %m");
  if (slot->control != -1)      /* a gate that it holds opens */
    close (slot->control);
  slot->control = -1;
  errno = ECONNRESET;
  return -1;
}

/* One request.  Returns 0, or -1 and errno: ECONNRESET if the export was
 * killed meanwhile. */
static int
call (struct slot *slot, enum wire_op op, unsigned deadline_ms,
      struct snapshot *s, bool frozen)
{
  struct wire_request req;
  struct wire_reply reply;
  int fds[2];
  bool begin = op == WIRE_BEGIN;

  wire_request_init (&req, op, rng_next (&slot->rng));
  req.deadline_ms = deadline_ms;
  if (begin) {
    req.flags = WIRE_BEGIN_SNAPSHOT | (frozen ? WIRE_BEGIN_FROZEN : 0);
    fds[0] = s->map_fd;
    fds[1] = s->scratch;
  }
  if (s)
    memcpy (req.uuid, s->map.fixed->uuid, sizeof req.uuid);
  /* A gate belongs to its connection. */
  if ((frozen && server_went (&slot->o->export, slot->generation))
      || reach (slot) == -1)
    return cut_off (slot);
  if (wire_call (slot->control, &req, fds, begin ? 2 : 0, &reply, NULL) == 0)
    return 0;
  if (errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN)
    return cut_off (slot);
  return -1;
}

static enum bmfile_state
state_of (struct snapshot *s)
{
  return atomic_load (&s->map.live->state);
}

/* What became of a BEGIN that did not succeed.  True if there is a snapshot
 * all the same. */
static bool
failed_begin (struct slot *slot, struct snapshot *s, unsigned deadline_ms)
{
  struct oracle *o = slot->o;
  int err = errno;

  if (err == ECONNRESET) {
    turn_wait_down (&o->turn);
    if (state_of (s) == BMFILE_ACTIVE)
      return true;
  }
  else if (!(err == EBUSY && o->opt.frozen) /* another slot's freeze */
           && !(err == ETIMEDOUT && deadline_ms < 1000))
    die ("BEGIN failed: %s (deadline %u ms)", strerror (err), deadline_ms);
  if (state_of (s) != BMFILE_PREPARED)
    die ("BEGIN failed (%s), and the map's state is %d", strerror (err),
         (int) state_of (s));
  atomic_fetch_add (&o->tally.timeouts, 1);
  return false;
}

static bool
begin_exact (struct slot *slot, struct snapshot *s)
{
  struct oracle *o = slot->o;
  uint64_t before, after;

  turn_take (&o->turn, false);
  turn_pause (o);
  settle (o);
  before = model_now (o->model);
  if (call (slot, WIRE_BEGIN, 30000, s, false) == -1)
    die ("BEGIN failed: %m");
  after = model_now (o->model);
  s->view = model_capture (o->model, s->name, before, after);
  turn_resume (o);
  turn_release (&o->turn);
  atomic_fetch_add (&o->tally.exact, 1);
  return true;
}

/* Mostly with time enough, now and then with hardly any. */
static bool
begin_free (struct slot *slot, struct snapshot *s)
{
  struct oracle *o = slot->o;
  unsigned deadline = chance (&slot->rng, 5) ? 1 + rng_below (&slot->rng, 5)
    : 30000;
  uint64_t before, after;
  bool done = true;

  turn_share (&o->turn);
  before = model_now (o->model);
  if (call (slot, WIRE_BEGIN, deadline, s, false) == -1)
    done = failed_begin (slot, s, deadline);
  after = model_now (o->model);
  if (done)
    s->view = model_capture (o->model, s->name, before, after);
  turn_unshare (&o->turn);
  if (done)
    atomic_fetch_add (&o->tally.free_, 1);
  return done;
}

static void
hold (struct slot *slot)
{
  struct timespec t = { 0, rng_below (&slot->rng, 5000000) };

  nanosleep (&t, NULL);
}

/* The instant is the freeze, however long it is until BEGIN.  The slot has
 * o->freezer. */
static bool
begin_frozen (struct slot *slot, struct snapshot *s)
{
  struct oracle *o = slot->o;
  uint64_t before, after = 0;
  bool done = true, thaw = chance (&slot->rng, 20);

  turn_share (&o->turn);
  before = model_now (o->model);
  if (call (slot, WIRE_FREEZE, 30000, NULL, false) == -1)
    done = failed_begin (slot, s, 30000);
  else {
    after = model_now (o->model);
    atomic_store (&o->frozen_since, after);
    hold (slot);
    atomic_store (&o->frozen_since, 0);
    if (call (slot, thaw ? WIRE_THAW : WIRE_BEGIN, 30000,
              thaw ? NULL : s, true) == -1)
      done = failed_begin (slot, s, 30000);
    else
      done = !thaw;
  }
  if (done)
    s->view = model_capture (o->model, s->name, before, after);
  turn_unshare (&o->turn);
  if (done)
    atomic_fetch_add (&o->tally.frozen, 1);
  return done;
}

struct snapshot *
snapshot_begin (struct slot *slot, unsigned round)
{
  struct oracle *o = slot->o;
  struct snapshot *s = prepare (slot, round);
  unsigned dice = rng_below (&slot->rng, 100);
  bool done;

  if (dice < o->opt.exact)
    done = begin_exact (slot, s);
  else if (dice < o->opt.exact + o->opt.frozen
           && pthread_mutex_trylock (&o->freezer) == 0) {
    done = begin_frozen (slot, s);
    pthread_mutex_unlock (&o->freezer);
  }
  else
    done = begin_free (slot, s);
  if (!done) {
    snapshot_free (s);
    return NULL;
  }
  if (state_of (s) != BMFILE_ACTIVE)
    die ("%s has begun, and the map's state is %d", s->name,
         (int) state_of (s));
  atomic_fetch_add (&o->tally.concurrent, s->view->nr_judged);
  return s;
}

void
snapshot_end (struct slot *slot, struct snapshot *s)
{
  struct oracle *o = slot->o;

  atomic_store (&s->ending, true);
  while (state_of (s) != BMFILE_ENDED) {
    turn_share (&o->turn);
    if (call (slot, WIRE_END, 0, s, false) == -1) {
      if (errno != ECONNRESET)
        die ("END of %s failed: %m", s->name);
      turn_wait_down (&o->turn);
    }
    else if (state_of (s) != BMFILE_ENDED)
      die ("END of %s was answered, and the map's state is %d", s->name,
           (int) state_of (s));
    turn_unshare (&o->turn);
  }
  atomic_store (&s->ended, true);
}
