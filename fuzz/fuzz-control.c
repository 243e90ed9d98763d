/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Fuzz target: what clients send to the daemon's control socket. */

/* The input is a byte of instructions and then what clients send:
 *
 *   0  bits: 1 two clients, which send alternate lines; 2 it comes in pieces
 *      of seven bytes; 4 the client hangs up without reading; 8 a client that
 *      is gone before the loop turns
 *
 * The daemon is whole (all of server/) but for its processes: an export that
 * is not started, with a snapshot and a checkpoint, and two jobs that have
 * ended.  control.c is included, to give it clients without a socket in the
 * file system.  What must hold: each line is answered by one line of JSON
 * with either result or error (but for those who wait and have gone), nothing
 * is left of a client that has hung up, and the daemon stands.
 */

#include <config.h>

#include "../server/control.c"
#include "../server/backup.h"
#include "../server/export.h"
#include "../server/jobs.h"
#include "fuzz.h"

#define TURNS_MAX 400
#define SENT_MAX 20000
#define WAIT_TRIES 10000        /* of a millisecond */

enum { TWO_CLIENTS = 1, IN_PIECES = 2, HANGS_UP = 4, GONE = 8 };

static struct world {
  char dir[64];
  struct daemon daemon;
} world;

/* ------------------------------------------------------------------ the world */

static void
put (const char *name, const char *text)
{
  char path[160];

  snprintf (path, sizeof path, "%s/%s", world.dir, name);
  if (write_file (path, text, false) == -1)
    abort ();
}

static void
make_dir (const char *name)
{
  char path[160];

  snprintf (path, sizeof path, "%s/%s", world.dir, name);
  if (mkdir_private (path, false) == -1)
    abort ();
}

static void
make_bitmap (enum bmfile_kind kind, const char *suffix, const char *name)
{
  char path[160], scratch[160];
  struct bmfile_params p = {
    .kind = kind, .disk_size = 1048576, .cluster_size = 4096,
    .export_name = "vda", .name = name, .live = "file:/dev/null",
    .scratch = kind == BMFILE_MAP ? scratch : NULL,
  };
  struct bmfile bf;

  snprintf (path, sizeof path, "%s/state/exports/vda/%s.%s", world.dir, name,
            suffix);
  snprintf (scratch, sizeof scratch, "%s/state/exports/vda/vda@%s.scratch",
            world.dir, name);
  if (access (path, F_OK) == 0)
    return;
  if (bmfile_create (path, &p, &bf) == -1)
    abort ();
  atomic_store (&bf.live->state, BMFILE_ACTIVE);
  atomic_store (&bf.live->instant_ns, 1000000000);
  bmfile_close (&bf);
}

static void
remove_world (void)
{
  char *argv[] = { "rm", "-rf", world.dir, NULL }, message[100];

  free (process_output (argv, 20, message, sizeof message));
}

static void
make_config (void)
{
  struct config_errors errors = { 0 };
  char path[160], *text;

  text = xasprintf ("state-dir: %s/state\nrun-dir: %s/run\nexports:\n"
                    "  - {name: vda, disk: %s/disk}\n"
                    "  - {name: vdb, disk: 'nbd+unix:///?socket=/no'}\n",
                    world.dir, world.dir, world.dir);
  put ("conf", text);
  snprintf (path, sizeof path, "%s/conf", world.dir);
  world.daemon.config_path = xstrdup (path);
  world.daemon.config = config_load (path, &errors);
  if (!world.daemon.config)
    abort ();
  free (text);
}

static void
make_files (void)
{
  static const char record[] = "{\"id\":\"%s\",\"export\":\"vda\",\"state\":"
    "\"%s\",\"target\":\"/nowhere/x\",\"sync\":\"full\",\"error\":null,"
    "\"bytes-total\":1048576,\"snapshot-uuid\":\"\"}";
  char text[512];

  make_dir ("state");
  make_dir ("run");
  make_dir ("state/exports");
  make_dir ("state/exports/vda");
  make_dir ("state/jobs");
  put ("disk", "not empty");
  snprintf (text, sizeof text, record, "1", "completed");
  put ("state/jobs/1.json", text);
  snprintf (text, sizeof text, record, "2", "failed");
  put ("state/jobs/2.json", text);
  make_bitmap (BMFILE_MAP, "map", "s");
  make_bitmap (BMFILE_DIRTY, "dirty", "c");
}

static void
make_world (void)
{
  struct daemon *d = &world.daemon;
  size_t i;

  fuzz_make_dir (world.dir);
  atexit (remove_world);
  make_config ();
  make_files ();
  d->loop = ev_loop_new (EVFLAG_AUTO);
  d->log = (struct log) { .level = -1 };
  d->lock = (struct run_lock) { .fds = { -1, -1 } };
  d->caller = -1;
  d->phase = DAEMON_RUNNING;
  daemon_init (d);
  for (i = 0; i < d->config->nr_exports; i++) {
    struct export *ex = export_new (d, d->config->exports[i].name,
                                    &d->config->exports[i]);

    ex->intent = EXPORT_LEAVE;
  }
  d->backup = backup_new (d);
  backup_leave (d->backup);
  d->jobs = jobs_new (d);
}

/* A snapshot or checkpoint that an input has deleted is made again. */
static void
mend_world (void)
{
  struct export *ex = export_find (&world.daemon, "vda");

  if (!ex)
    abort ();
  if (TAILQ_EMPTY (&ex->snapshots)) {
    make_bitmap (BMFILE_MAP, "map", "s");
    snapshots_load (ex);
  }
  if (TAILQ_EMPTY (&ex->checkpoints)) {
    make_bitmap (BMFILE_DIRTY, "dirty", "c");
    checkpoints_load (ex);
  }
}

/* -------------------------------------------------------------------- the run */

struct run {
  struct control c;
  int ends[2];                  /* ours, or -1 */
  char *heard[2];
  size_t nr_heard[2];
  unsigned asked[2];            /* lines sent */
};

static void
turn (struct run *r, int turns)
{
  unsigned i;
  ssize_t n;

  while (turns-- > 0) {
    ev_run (world.daemon.loop, EVRUN_NOWAIT);
    for (i = 0; i < 2; i++)
      while (r->ends[i] != -1
             && (n = recv (r->ends[i], r->heard[i] + r->nr_heard[i], 4096,
                           MSG_DONTWAIT)) > 0) {
        r->nr_heard[i] += n;
        r->heard[i] = xrealloc (r->heard[i], r->nr_heard[i] + 4096, 1);
      }
  }
}

static void
connect_one (struct run *r, unsigned i)
{
  int pair[2];

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                  pair) == -1)
    abort ();
  r->ends[i] = pair[1];
  r->heard[i] = xcalloc (4096, 1);
  add_client (&r->c, pair[0]);
}

static void
send_bytes (struct run *r, unsigned i, const uint8_t *data, size_t size,
            unsigned mode)
{
  size_t piece;
  ssize_t n;
  int tries;

  for (tries = 0; size > 0 && tries < TURNS_MAX; tries++) {
    piece = (mode & IN_PIECES) && size > 7 && size < 500 ? 7 : size;
    n = send (r->ends[i], data, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == -1 && errno != EAGAIN)
      return;                   /* the daemon has hung up */
    if (n > 0) {
      data += n;
      size -= n;
    }
    turn (r, 1);
  }
}

/* Each whole line of a reply is an object that has an answer, or an event. */
static unsigned
check_lines (const char *text, size_t size)
{
  struct json_object *o;
  unsigned nr = 0;
  const char *end;

  for (; size > 0; size -= end + 1 - text, text = end + 1) {
    end = memchr (text, '\n', size);
    if (!end)
      break;
    o = parse (text, end - text);
    if (!o)
      abort ();
    if (!json_object_object_get_ex (o, "event", NULL)) {
      if (json_object_object_get_ex (o, "error", NULL)
          == json_object_object_get_ex (o, "result", NULL))
        abort ();
      nr++;
    }
    json_object_put (o);
  }
  return nr;
}

/* Some need a thread, so the loop has to turn for a while. */
static void
wait_for_answers (struct run *r)
{
  unsigned i, tries;

  for (tries = 0; tries < WAIT_TRIES; tries++) {
    for (i = 0; i < 2; i++)
      if (check_lines (r->heard[i], r->nr_heard[i]) < r->asked[i])
        break;
    if (i == 2)
      return;
    turn (r, 1);
    if (tries > 20)
      usleep (1000);
  }
  abort ();
}

static void
send_lines (struct run *r, const uint8_t *data, size_t size, unsigned mode)
{
  const uint8_t *end;
  unsigned i = 0, nr = mode & TWO_CLIENTS ? 2 : 1;
  size_t n;

  while (size > 0) {
    end = memchr (data, '\n', size);
    n = end ? (size_t) (end + 1 - data) : size;
    send_bytes (r, i, data, n, mode);
    r->asked[i] += end != NULL;
    data += n;
    size -= n;
    i = (i + 1) % nr;
  }
}

/* What a client that is gone has asked for may still be with a thread. */
static void
wait_for_end (struct run *r)
{
  unsigned tries;

  for (tries = 0; tries < WAIT_TRIES && r->c.nr > 0; tries++) {
    turn (r, 1);
    if (tries > 20)
      usleep (1000);
  }
  if (r->c.nr > 0)
    abort ();
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct run r = { .ends = { -1, -1 } };
  unsigned mode, i;

  if (!world.dir[0])
    make_world ();
  if (size < 1 || size > SENT_MAX)
    return 0;
  mode = data[0];
  mend_world ();
  r.c.daemon = &world.daemon;
  TAILQ_INIT (&r.c.clients);
  for (i = 0; i < 2; i++)
    connect_one (&r, i);
  send_lines (&r, data + 1, size - 1, mode);
  turn (&r, mode & GONE ? 0 : 10);
  if (!(mode & HANGS_UP))
    for (i = 0; i < 2; i++)
      shutdown (r.ends[i], SHUT_WR);
  if (!(mode & (HANGS_UP | GONE)))
    wait_for_answers (&r);
  for (i = 0; i < 2; i++) {
    check_lines (r.heard[i], r.nr_heard[i]);
    close (r.ends[i]);
    r.ends[i] = -1;
    free (r.heard[i]);
  }
  wait_for_end (&r);
  return 0;
}
