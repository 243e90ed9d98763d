/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The nbdkit filter: fleece stands in front of the live disk. */

/* Everything passes through as it is but the three requests that change the
 * disk.  Each of these does, in this order:
 *
 *   enter the gate       (gate.h: a snapshot begins when nobody is inside)
 *   copy before write    (cow.h: for each snapshot that is kept; dirty bits)
 *   the request itself
 *   leave the gate
 *
 * A zero or trim request may be 4 GiB; it goes in pieces, each with a gate of
 * its own, so that no begin has to wait for the whole of it.  NBD promises
 * nothing about what others see of a request in flight.
 *
 * Startup.  The maps are taken up in after_fork, which nbdkit calls before it
 * accepts the first client, so no write is ever served unseen.  A lock on the
 * state directory, taken before that, keeps a second nbdkit away from them
 * (and waits a little for one that is just dying).  nbdkit calls cleanup when
 * the last client's thread has ended, with what is below still open: there
 * the snapshots are closed cleanly.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "activity.h"
#include "broken.h"
#include "control.h"
#include "cow.h"
#include "fleece.h"
#include "map.h"
#include "next.h"
#include "options.h"
#include "snapshot.h"
#include "timed.h"
#include "trim.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define PIECE (32 << 20)        /* bytes of one zero or trim */
#define LOCK_PATIENCE_MS 5000
#define LISTENER_FD 3           /* the first of socket activation */
#define LOG_IDLE_NS UINT64_C (30000000000)

/* nbdkit's callbacks before open get no handle to keep it in. */
static struct fleece the_fleece = {
  .options.log_idle_ns = LOG_IDLE_NS,
  .state_lock = -1, .listener = -1,
  .buffers.lock = PTHREAD_MUTEX_INITIALIZER,
  .clients.lock = PTHREAD_MUTEX_INITIALIZER,
};

static int
fleece_thread_model (void)
{
  return THREAD_MODEL;
}

static int
fleece_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
               const char *key, const char *value)
{
  int r = options_set (&the_fleece.options, key, value);

  return r == 0 ? next (nxdata, key, value) : r == -1 ? -1 : 0;
}

static int
fleece_config_complete (nbdkit_next_config_complete *next,
                        nbdkit_backend *nxdata)
{
  return options_complete (&the_fleece.options) == -1 ? -1 : next (nxdata);
}

static int
lock_state (struct fleece *f)
{
  const struct timespec tick = { .tv_nsec = 50 * 1000000 };
  int ms;

  if (!f->options.state)
    return 0;
  f->state_lock = open (f->options.state,
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (f->state_lock == -1) {
    nbdkit_error ("%s: %m", f->options.state);
    return -1;
  }
  for (ms = 0; flock (f->state_lock, LOCK_EX | LOCK_NB) == -1; ms += 50) {
    if (errno != EWOULDBLOCK || ms >= LOCK_PATIENCE_MS) {
      nbdkit_error ("%s is in use by another nbdkit", f->options.state);
      return -1;
    }
    nanosleep (&tick, NULL);
  }
  return 0;
}

/* The socket that guests connect to, if nbdkit did not make it itself: who
 * asks on the control socket gets it back, to hand it to our successor. */
static int
find_listener (void)
{
  struct sockaddr_storage addr;
  socklen_t addr_len = sizeof addr, len = sizeof (int);
  int listens = 0;

  if (getsockopt (LISTENER_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens,
                  &len) == -1 || !listens
      || getsockname (LISTENER_FD, (struct sockaddr *) &addr,
                      &addr_len) == -1
      || addr.ss_family != AF_UNIX)
    return -1;
  return LISTENER_FD;
}

static int
fleece_get_ready (int thread_model)
{
  struct fleece *f = &the_fleece;

  f->listener = find_listener ();
  /* Requests of our own must be allowed beside those of a client. */
  if (thread_model < NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS
      && (f->options.defer_trim || f->options.durable_tracking)) {
    nbdkit_error ("warning: this plugin takes one request at a time: "
                  "fleece-trim=copy and fleece-tracking=normal are used");
    f->options.defer_trim = false;
    f->options.durable_tracking = false;
  }
  if (thread_model == NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS)
    nbdkit_error ("warning: this plugin serves one client at a time: snapshots "
                  "cannot be read through it while a guest is connected");
  f->clients.state = f->options.state;
  return lock_state (f);
}

/* Asks the disk for what does not change. */
static int
examine_disk (struct fleece *f)
{
  nbdkit_next *next = next_open (f->backend, true);
  uint32_t minimum, preferred, maximum;
  int64_t size;
  int r = -1;

  if (!next)
    return -1;
  size = next->get_size (next);
  if (size <= 0 || size > BMFILE_DISK_MAX)
    nbdkit_error ("the disk is empty or too large (%" PRIi64 " bytes)", size);
  else if (next->block_size (next, &minimum, &preferred, &maximum) == 0) {
    f->disk_size = size;
    f->can_extents = next->can_extents (next) == 1;
    f->ask_extents = true;
    f->cluster_size = f->options.cluster_size;
    if (f->cluster_size == 0) {
      f->cluster_size = bmfile_auto_cluster_size (size);
      while (f->cluster_size < minimum)
        f->cluster_size *= 2;
    }
    f->run_max = RUN_MAX;
    if (maximum != 0 && maximum < RUN_MAX)
      f->run_max = maximum & ~(BMFILE_CLUSTER_MIN - 1);
    r = 0;
    if (f->cluster_size < minimum || f->run_max == 0) {
      nbdkit_error ("fleece-cluster-size is below the disk's block size");
      r = -1;
    }
  }
  next_close (next);
  return r;
}

static int
fleece_after_fork (nbdkit_backend *backend)
{
  struct fleece *f = &the_fleece;

  f->backend = backend;
  if (gate_init (&f->gate) == -1) {
    nbdkit_error ("%m");
    return -1;
  }
  if (examine_disk (f) == -1 || snapshots_load (f) == -1
      || snapshots_begin_by_hand (f) == -1)
    return -1;
  if (f->options.cow_timeout_ns
      && !(f->timed = timed_new (f->options.cow_timeout_ns))) {
    nbdkit_error ("cannot start the threads for fleece-cow-timeout: %m");
    return -1;
  }
  if (f->options.defer_trim && !(f->trim = trim_new (f)))
    return -1;
  return control_start (f);
}

static void
fleece_cleanup (nbdkit_backend *backend)
{
  struct fleece *f = &the_fleece;

  (void) backend;
  control_free (f->control);
  f->control = NULL;
  trim_free (f->trim);
  f->trim = NULL;
  activity_free (f->activity);
  f->activity = NULL;
  snapshots_unload (f);
  timed_free (f->timed);
  f->timed = NULL;
}

static void
fleece_unload (void)
{
  struct fleece *f = &the_fleece;

  while (f->buffers.nr > 0)
    free (f->buffers.free[--f->buffers.nr]);
  if (f->state_lock != -1)
    close (f->state_lock);
}

/* The snapshot server comes by the same socket as guests, and as a user that
 * they do not have; by another name than that for readers it has no business
 * here. */
static bool
may_only_read (const struct fleece *f)
{
  return f->options.readers != 0
    && nbdkit_peer_uid () == (int64_t) f->options.readers;
}

/* A plugin that tells disks apart by export name must not be led to another
 * disk than the one that the maps are of.  The handle is what clients.h says
 * that the client is. */
static void *
fleece_open (nbdkit_next_open *next, nbdkit_context *context,
             int readonly, const char *exportname, int is_tls)
{
  struct fleece *f = &the_fleece;
  int kind = clients_enter (&f->clients, f->options.export_name, exportname);

  (void) is_tls;
  if (kind != -1 && kind != CLIENT_READER && may_only_read (f)) {
    clients_leave (&f->clients, kind);
    nbdkit_error ("'%s' is refused to the user of the snapshot server",
                  exportname);
    errno = EPERM;
    return NULL;
  }
  if (kind == -1) {
    int err = errno;

    if (err == EBUSY)
      nbdkit_error ("'%s' is refused: the disk has clients, is being restored, "
                    "or was not restored to the end", exportname);
    else
      nbdkit_error ("there is no export '%s' here", exportname);
    errno = err;
    return NULL;
  }
  if (next (context, readonly || kind == CLIENT_READER, "") == -1) {
    clients_leave (&f->clients, kind);
    return NULL;
  }
  return (void *) (intptr_t) kind;
}

static void
fleece_close (void *handle)
{
  clients_leave (&the_fleece.clients, (intptr_t) handle);
}

static int
fleece_list_exports (nbdkit_next_list_exports *next, nbdkit_backend *nxdata,
                     int readonly, int is_tls, struct nbdkit_exports *exports)
{
  (void) next, (void) nxdata, (void) readonly, (void) is_tls;
  return nbdkit_add_export (exports, the_fleece.options.export_name, NULL);
}

static const char *
fleece_default_export (nbdkit_next_default_export *next,
                       nbdkit_backend *nxdata, int readonly, int is_tls)
{
  (void) next, (void) nxdata, (void) readonly, (void) is_tls;
  return the_fleece.options.export_name;
}

/* A raw disk may have grown since the last connection.  What is tracked knows
 * only the old size, so an incremental from it would be short. */
static int
fleece_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct fleece *f = &the_fleece;
  int64_t size = next_negotiate (next, readonly || !next->can_write (next));
  uint64_t before;

  (void) handle;
  if (size == -1)
    return -1;
  before = atomic_exchange (&f->disk_size, size);
  if (before != (uint64_t) size)
    snapshots_resized (f, before, size);
  return 0;
}

/* A changing request on its way: see the top. */
struct change {
  struct fleece *f;
  struct gate_ticket ticket;
  const struct snapset *set;
  struct inflight_range range;  /* of the deferred trims, if busy */
  bool busy;
};

static int
change_begin (struct change *ch, nbdkit_next *next, uint64_t offset,
              uint64_t count, bool is_trim, int *err)
{
  struct fleece *f = ch->f = &the_fleece;

  ch->ticket = gate_enter (&f->gate);
  ch->set = atomic_load (&f->set);
  ch->busy = false;
  if (f->trim && !is_trim)
    ch->busy = trim_enter (f->trim, ch->set, &ch->range, offset, count);
  if ((ch->set->nr == 0 && !ch->set->tracking) || (f->trim && is_trim)
      || BROKEN (MARK_AFTER_WRITE))
    return 0;
  return cow_before_write (f, ch->set, next, offset, count, err);
}

static void
change_end (struct change *ch)
{
  if (ch->busy)
    trim_leave (ch->f->trim, &ch->range);
  gate_leave (&ch->f->gate, ch->ticket);
}

static void
count_one (_Atomic uint64_t *counter, uint64_t n)
{
  atomic_fetch_add_explicit (counter, n, memory_order_relaxed);
}

static int
fleece_pwrite (nbdkit_next *next, void *handle, const void *buf,
               uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct change ch;
  int r = change_begin (&ch, next, offset, count, false, err);

  (void) handle;
  count_one (&ch.ticket.slot->writes, 1);
  count_one (&ch.ticket.slot->written_bytes, count);
  if (r == 0)
    r = next->pwrite (next, buf, count, offset, flags, err);
  FAILPOINT ("W4+");
  if (BROKEN (MARK_AFTER_WRITE) || BROKEN (DIRTY_AFTER_WRITE))
    cow_too_late (ch.f, ch.set, next, offset, count);
  change_end (&ch);
  return r;
}

static uint32_t
piece (uint32_t count)
{
  return count < PIECE ? count : PIECE;
}

static int
zero_piece (nbdkit_next *next, uint32_t count, uint64_t offset,
            uint32_t flags, int *err)
{
  struct change ch;
  int r = change_begin (&ch, next, offset, count, false, err);

  if (r == 0)
    r = next->zero (next, count, offset, flags, err);
  if (BROKEN (MARK_AFTER_WRITE) || BROKEN (DIRTY_AFTER_WRITE))
    cow_too_late (ch.f, ch.set, next, offset, count);
  change_end (&ch);
  return r;
}

/* True if the range has clusters that would have to be copied. */
static bool
must_copy (struct fleece *f, uint64_t offset, uint64_t count)
{
  struct gate_ticket ticket = gate_enter (&f->gate);
  const struct snapset *set = atomic_load (&f->set);
  bool live = false;
  unsigned i;

  for (i = 0; i < set->nr && !live; i++) {
    const struct bmfile *map = &set->snapshots[i]->map;
    struct cluster_range c = map_clusters (map, offset, count);

    live = map_next_live (map, c.first, c.end) < c.end;
  }
  gate_leave (&f->gate, ticket);
  return live;
}

/* A client that asks for a fast zero wants to hear at once that writing would
 * be as good, and with copying to do it is. */
static int
fleece_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
             uint32_t flags, int *err)
{
  bool fast = flags & NBDKIT_FLAG_FAST_ZERO;
  uint32_t n;

  (void) handle;
  count_one (&gate_slot (&the_fleece.gate)->zeroes, 1);
  if (fast && must_copy (&the_fleece, offset, count)) {
    *err = ENOTSUP;
    return -1;
  }
  for (; count > 0; count -= n, offset += n) {
    n = fast ? count : piece (count);
    if (zero_piece (next, n, offset, flags, err) == -1)
      return -1;
  }
  return 0;
}

static int
trim_piece (nbdkit_next *next, uint32_t count, uint64_t offset,
            uint32_t flags, int *err)
{
  struct change ch;
  int r = change_begin (&ch, next, offset, count, true, err);

  if (r == 0 && ch.f->trim)
    r = trim_request (ch.f->trim, ch.set, next, offset, count, flags, err);
  else if (r == 0)
    r = next->trim (next, count, offset, flags, err);
  if (BROKEN (MARK_AFTER_WRITE) || BROKEN (DIRTY_AFTER_WRITE))
    cow_too_late (ch.f, ch.set, next, offset, count);
  change_end (&ch);
  return r;
}

static int
fleece_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
             uint32_t flags, int *err)
{
  uint32_t n;

  (void) handle;
  count_one (&gate_slot (&the_fleece.gate)->trims, 1);
  for (; count > 0; count -= n, offset += n) {
    n = piece (count);
    if (trim_piece (next, n, offset, flags, err) == -1)
      return -1;
  }
  return 0;
}

static struct nbdkit_filter filter = {
  .name = "fleece",
  .longname = "nbdfleece copy-before-write filter",
  .config = fleece_config,
  .config_complete = fleece_config_complete,
  .config_help = options_help,
  .thread_model = fleece_thread_model,
  .get_ready = fleece_get_ready,
  .after_fork = fleece_after_fork,
  .cleanup = fleece_cleanup,
  .unload = fleece_unload,
  .list_exports = fleece_list_exports,
  .default_export = fleece_default_export,
  .open = fleece_open,
  .close = fleece_close,
  .prepare = fleece_prepare,
  .pwrite = fleece_pwrite,
  .zero = fleece_zero,
  .trim = fleece_trim,
};

NBDKIT_REGISTER_FILTER (filter)
