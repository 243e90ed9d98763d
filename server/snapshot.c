/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The files of snapshots, what is left of them, and how they end. */

/* The state of a snapshot is in its map, not in the daemon: PREPARED until
 * the filter has begun it, ACTIVE while it exists, ENDED after.  A daemon
 * that starts looks through the maps and believes them:
 *
 *   ACTIVE     a snapshot, with or without an nbdkit running
 *   PREPARED   a daemon died while it made it.  An nbdkit that was told to
 *              begin it may still do so; so it is ENDED here with the same
 *              compare-and-swap that the filter uses for ACTIVE, and only
 *              one of us wins
 *   ENDED      left over
 *   damaged    put aside as NAME.map.bad, for whoever wants to know
 *
 * Scratches without a map are left over, too.
 *
 * To end a snapshot is the filter's to do as long as there is one, since it
 * has to stop copying first.  If nbdkit is not running, nobody writes, and
 * the daemon does it alone.  In between (nbdkit starting, or not answering)
 * there is nothing to do but to ask again.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "broken.h"
#include "export.h"
#include "jobs.h"
#include "owner.h"
#include "scratch.h"

#define MAP_SUFFIX ".map"
#define SCRATCH_SUFFIX ".scratch"

/* Between attempts to end a snapshot, and for one to succeed; seconds.  A
 * live disk that hangs may hold up the latter for as long as it likes, and
 * then we ask again. */
#define AGAIN 0.1
#define END_TIMEOUT 60.0

/* A scratch directory with less is full: nothing could be kept. */
#define SCRATCH_FREE_MIN (1024 * 1024)

struct snapshot *
snapshot_find (const struct export *ex, const char *name)
{
  struct snapshot *s;

  TAILQ_FOREACH (s, &ex->snapshots, entry)
    if (!s->beside && strcmp (s->name, name) == 0)
      return s;
  return NULL;
}

static void next_attempt (struct ev_loop *loop, ev_timer *w, int revents);

struct snapshot *
snapshot_new (struct export *ex, const char *name)
{
  struct snapshot *s = xcalloc (1, sizeof *s);

  s->export = ex;
  s->name = xstrdup (name);
  s->map_path = xasprintf ("%s/%s" MAP_SUFFIX, ex->dir, name);
  s->scratch_path = xasprintf ("%s/%s@%s" SCRATCH_SUFFIX, ex->scratch_dir,
                               ex->name, name);
  ev_timer_init (&s->again, next_attempt, 0, 0);
  s->again.data = s;
  TAILQ_INSERT_TAIL (&ex->snapshots, s, entry);
  return s;
}

void
snapshot_free (struct snapshot *s)
{
  ev_timer_stop (s->export->daemon->loop, &s->again);
  TAILQ_REMOVE (&s->export->snapshots, s, entry);
  bmfile_close (&s->map);
  free (s->name);
  free (s->map_path);
  free (s->scratch_path);
  free (s);
}

static int
cannot_make (const char *path, struct failure *failure)
{
  const char *code = errno == ENOSPC || errno == EDQUOT ? "no-space"
    : errno == EEXIST ? "exists" : "bad-scratch";

  failure_set (failure, code, "%s: %s", path,
               errno == EFBIG ? "as large as the disk, which is more than a "
               "file may have there" : strerror (errno));
  return -1;
}

static int
check_space (const struct export *ex, struct failure *failure)
{
  struct statvfs vfs;

  if (statvfs (ex->scratch_dir, &vfs) == -1)
    return cannot_make (ex->scratch_dir, failure);
  if ((uint64_t) vfs.f_bavail * vfs.f_frsize >= SCRATCH_FREE_MIN)
    return 0;
  errno = ENOSPC;
  return cannot_make (ex->scratch_dir, failure);
}

/* The map of a scratch that has been made.  A descriptor, or -1. */
static int
make_map (struct snapshot *s, const char *since, struct failure *failure)
{
  const struct export *ex = s->export;
  char *live = export_live (ex);
  struct bmfile_params params = {
    .kind = BMFILE_MAP, .disk_size = ex->hello.disk_size,
    .cluster_size = ex->hello.cluster_size, .export_name = ex->name,
    .name = s->name, .parent = since, .live = live,
    .scratch = s->scratch_path,
  };
  int r = bmfile_create (s->map_path, &params, &s->map);
  int fd = r == 0 ? open (s->map_path, O_RDWR | O_NOFOLLOW | O_CLOEXEC) : -1;

  if (fd == -1)
    cannot_make (s->map_path, failure);
  if (fd == -1 && r == 0) {
    remove_file (s->map_path);
    bmfile_close (&s->map);
  }
  free (live);
  return fd;
}

/* K3 of filter/durable.c: files and names. */
static int
flush_files (const struct snapshot *s, const int fds[2])
{
  return fsync (fds[0]) == -1 || fsync (fds[1]) == -1
    || sync_directory_of (s->map_path) == -1
    || sync_directory_of (s->scratch_path) == -1 ? -1 : 0;
}

/* The files are the user's from here on. */
static int
hand_over (struct snapshot *s, bool release, const int fds[2])
{
  const struct export *ex = s->export;
  bool durable = ex->conf && ex->conf->scratch.durable == CONFIG_YES;

  s->map.owner = owner_uid (ex->daemon);
  atomic_store (&s->map.live->flags, (release ? BMFILE_CLIENTS_RELEASE : 0)
                | (durable ? BMFILE_DURABLE : 0));
  return owner_give_fd (ex->daemon, fds[0]) == -1
    || owner_give_fd (ex->daemon, fds[1]) == -1
    || (durable && flush_files (s, fds) == -1) ? -1 : 0;
}

int
snapshot_make_files (struct snapshot *s, const char *since, bool release,
                     int fds[2], struct failure *failure)
{
  const struct export *ex = s->export;

  if (check_space (ex, failure) == -1)
    return -1;
  fds[1] = scratch_create (s->scratch_path, ex->hello.disk_size);
  if (fds[1] == -1)
    return cannot_make (s->scratch_path, failure);
  fds[0] = make_map (s, since, failure);
  if (fds[0] != -1) {
    if (hand_over (s, release, fds) == 0)
      return 0;
    cannot_make (s->map_path, failure);
    remove_file (s->map_path);
    close (fds[0]);
    fds[0] = -1;
  }
  remove_file (s->scratch_path);
  close (fds[1]);
  return -1;
}

void
snapshot_remove_files (struct snapshot *s)
{
  remove_file (s->map_path);
  FAILPOINT ("N3");
  if (!BROKEN (FILES_LEFT))
    remove_file (s->scratch_path);
}

static bool
ends_with (const char *name, const char *suffix)
{
  size_t length = strlen (name), n = strlen (suffix);

  return length > n && strcmp (name + length - n, suffix) == 0;
}

/* True if path is one that a scratch of this snapshot can have: what a
 * damaged header says is not to be deleted. */
static bool
is_scratch_path (const struct export *ex, const char *name, const char *path)
{
  char *one = xasprintf ("/%s@%s" SCRATCH_SUFFIX, ex->name, name);
  char *other = xasprintf ("/%s@%s~" SCRATCH_SUFFIX, ex->name, name);
  bool ok = path[0] == '/' && (ends_with (path, one)
                               || ends_with (path, other));

  free (one);
  free (other);
  return ok;
}

/* Whoever has the file mapped, since it opened it when it was sound, shall not
 * go on trusting it: no filter will take it up under another name. */
static void
end_in_file (const struct snapshot *s)
{
  uint32_t ended = BMFILE_ENDED;
  int fd = open (s->map_path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

  if (fd == -1
      || pwrite (fd, &ended, sizeof ended, BMFILE_LIVE_OFFSET
                 + offsetof (struct bmfile_live, state)) != sizeof ended)
    log_error (&s->export->daemon->log, "%s: %m", s->map_path);
  if (fd != -1)
    close (fd);
}

static void
put_aside (struct snapshot *s, const char *why)
{
  const struct log *log = &s->export->daemon->log;
  char *bad = xasprintf ("%s.bad", s->map_path);

  end_in_file (s);
  log_error (log, "%s: snapshot %s is lost: %s: %s; kept as %s",
             s->export->name, s->name, s->map_path, why, bad);
  if (rename (s->map_path, bad) == -1)
    log_error (log, "%s: %m", bad);
  free (bad);
}

/* E1, where there is no filter to do it; and K6: what outlasts a crash of the
 * host must not be found ACTIVE after it. */
static int
end_map (struct snapshot *s)
{
  atomic_store (&s->map.live->state, BMFILE_ENDED);
  return map_is_durable (&s->map) ? bmfile_sync_header (&s->map) : 0;
}

/* A begin that is still under way in the filter shall not come true after
 * its snapshot was found not to exist: it flips only what is PREPARED. */
static void
forbid_begin (struct snapshot *s)
{
  uint32_t state = BMFILE_PREPARED;

  atomic_compare_exchange_strong (&s->map.live->state, &state, BMFILE_ENDED);
}

static void
load_map (struct export *ex, const char *name, bool beside)
{
  const struct log *log = &ex->daemon->log;
  struct snapshot *s = snapshot_new (ex, name);
  char reason[BMFILE_REASON_SIZE];
  const char *why = "";

  if (beside) {
    s->beside = true;
    free (s->map_path);
    s->map_path = xasprintf ("%s/%s~" MAP_SUFFIX, ex->dir, name);
  }

  if (bmfile_open (s->map_path, true, BMFILE_MAP, &s->map, &why) == -1) {
    if (errno == EINVAL || errno == ENOTSUP)
      put_aside (s, why && why[0] ? why : strerror (errno));
    else                        /* our trouble, not the map's */
      log_error (log, "%s: %s: %m", ex->name, s->map_path);
    snapshot_free (s);
    return;
  }
  if (strcmp (s->map.fixed->export_name, ex->name) != 0
      || strcmp (s->map.fixed->name, name) != 0
      || !is_scratch_path (ex, name, s->map.fixed->scratch)) {
    put_aside (s, "it is a map of something else");
    snapshot_free (s);
    return;
  }
  free (s->scratch_path);
  s->scratch_path = xstrdup (s->map.fixed->scratch);
  forbid_begin (s);
  if (map_is_active (&s->map)) {
    s->state = SNAPSHOT_ACTIVE;
    log_info (log, "%s: found snapshot %s", ex->name, name);
    return;
  }
  if (end_map (s) == -1) {      /* so that no filter lets it go */
    log_error (log, "%s: %s: %m", ex->name, s->map_path);
    snapshot_free (s);
    return;
  }
  bmfile_reason (&s->map, reason);
  log_info (log, "%s: removing what is left of snapshot %s%s%s", ex->name,
            name, reason[0] ? ": " : "", reason);
  snapshot_remove_files (s);
  snapshot_free (s);
}

/* True if some snapshot has its scratch at path. */
static bool
scratch_is_used (const struct export *ex, const char *path)
{
  const struct snapshot *s;

  TAILQ_FOREACH (s, &ex->snapshots, entry)
    if (strcmp (s->scratch_path, path) == 0)
      return true;
  return false;
}

static void
remove_scratches (struct export *ex, const char *dir)
{
  size_t length = strlen (ex->name);
  struct dirent *e;
  DIR *d = opendir (dir);
  char *path;

  while (d && (e = readdir (d))) {
    if (strncmp (e->d_name, ex->name, length) != 0 || e->d_name[length] != '@'
        || !ends_with (e->d_name, SCRATCH_SUFFIX))
      continue;
    path = xasprintf ("%s/%s", dir, e->d_name);
    if (!scratch_is_used (ex, path)) {
      log_info (&ex->daemon->log, "%s: removing %s, which has no map",
                ex->name, path);
      remove_file (path);
    }
    free (path);
  }
  if (d)
    closedir (d);
}

static int
older_first (const void *pa, const void *pb)
{
  const struct snapshot *a = *(struct snapshot *const *) pa;
  const struct snapshot *b = *(struct snapshot *const *) pb;
  int64_t ta = atomic_load (&a->map.live->instant_ns);
  int64_t tb = atomic_load (&b->map.live->instant_ns);

  return ta < tb ? -1 : ta > tb;
}

static void
sort_by_age (struct export *ex)
{
  struct snapshot **all = NULL, *s;
  size_t nr = 0, i;

  while ((s = TAILQ_FIRST (&ex->snapshots))) {
    TAILQ_REMOVE (&ex->snapshots, s, entry);
    all = xrealloc (all, nr + 1, sizeof *all);
    all[nr++] = s;
  }
  if (nr > 0)
    qsort (all, nr, sizeof *all, older_first);
  for (i = 0; i < nr; i++)
    TAILQ_INSERT_TAIL (&ex->snapshots, all[i], entry);
  free (all);
}

void
snapshots_load (struct export *ex)
{
  struct dirent *e;
  char *name;
  bool beside;
  DIR *d = opendir (ex->dir);

  while (d && (e = readdir (d))) {
    if (!ends_with (e->d_name, MAP_SUFFIX))
      continue;
    name = xstrdup (e->d_name);
    name[strlen (name) - strlen (MAP_SUFFIX)] = '\0';
    beside = name[0] && name[strlen (name) - 1] == '~';
    if (beside)
      name[strlen (name) - 1] = '\0';
    if (name_ok (name))
      load_map (ex, name, beside);
    free (name);
  }
  if (d)
    closedir (d);
  sort_by_age (ex);
  remove_scratches (ex, ex->dir);
  if (strcmp (ex->scratch_dir, ex->dir) != 0)
    remove_scratches (ex, ex->scratch_dir);
}

/* Gone, in whatever way. */
static void
has_gone (struct snapshot *s)
{
  snapshot_gone gone = s->gone;
  void *opaque = s->opaque;
  struct export *ex = s->export;

  FAILPOINT ("N2");
  snapshot_remove_files (s);
  FAILPOINT ("N3+");
  log_info (&ex->daemon->log, "%s: snapshot %s has ended", ex->name, s->name);
  snapshot_free (s);
  if (gone)
    gone (opaque);
  export_next_step (ex);
}

static void
try_again (struct snapshot *s)
{
  ev_timer_stop (s->export->daemon->loop, &s->again);
  ev_timer_set (&s->again, AGAIN, 0);
  ev_timer_start (s->export->daemon->loop, &s->again);
}

static void
end_answered (void *opaque, int error, const struct wire_reply *reply, int fd)
{
  struct snapshot *s = opaque;

  (void) reply;
  if (fd != -1)
    close (fd);
  s->end_sent = false;
  if (error == 0 || error == ENOENT) {
    has_gone (s);
    return;
  }
  log_debug (&s->export->daemon->log, "%s: ending snapshot %s: %s",
             s->export->name, s->name, strerror (error));
  try_again (s);
}

static void
attempt_end (struct snapshot *s)
{
  struct export *ex = s->export;
  struct wire_request request;

  FAILPOINT ("N1");
  forbid_begin (s);
  if (ex->nbdkit.state == SERVICE_RUNNING) {
    struct filter_client *client = export_client (ex);

    if (client) {
      wire_request_init (&request, WIRE_END, 0);
      memcpy (request.uuid, s->map.fixed->uuid, sizeof request.uuid);
      s->end_sent = true;
      filter_call (client, &request, NULL, 0, END_TIMEOUT, end_answered, s);
      return;
    }
  }
  else if (ex->nbdkit.process.pidfd == -1) {
    if (end_map (s) == 0) {
      has_gone (s);
      return;
    }
    log_debug (&ex->daemon->log, "%s: %m", s->map_path);
  }
  try_again (s);
}

static void
next_attempt (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  attempt_end (w->data);
}

void
snapshot_end (struct snapshot *s, snapshot_gone gone, void *opaque)
{
  s->state = SNAPSHOT_ENDING;
  s->gone = gone;
  s->opaque = opaque;
  ev_timer_stop (s->export->daemon->loop, &s->again);
  ev_timer_set (&s->again, 0, 0);
  ev_timer_start (s->export->daemon->loop, &s->again);
}

void
snapshots_check (struct export *ex)
{
  char reason[BMFILE_REASON_SIZE];
  struct snapshot *s, *next;

  for (s = TAILQ_FIRST (&ex->snapshots); s; s = next) {
    next = TAILQ_NEXT (s, entry);
    if (s->state != SNAPSHOT_ACTIVE || map_is_active (&s->map))
      continue;
    bmfile_reason (&s->map, reason);
    log_error (&ex->daemon->log, "%s: snapshot %s is lost: %s", ex->name,
               s->name, reason[0] ? reason : "the filter gave it up");
    jobs_snapshot_lost (s, reason);
    snapshot_end (s, NULL, NULL);
  }
}

void
snapshot_drop (struct snapshot *s, const char *why)
{
  log_warning (&s->export->daemon->log, "%s: snapshot %s ends: %s",
               s->export->name, s->name, why);
  if (end_map (s) == -1)
    log_error (&s->export->daemon->log, "%s: %m", s->map_path);
  snapshot_remove_files (s);
  if (s->job)
    jobs_snapshot_lost (s, why);
  snapshot_free (s);
}
