/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A live disk behind an NBD server, read with libnbd. */

/* nbdkit calls us from several threads.  A libnbd handle carries one
 * synchronous request at a time, so there is a small pool of them, each with
 * a connection of its own: a thread takes an idle one, or makes one while
 * there are fewer than POOL_MAX, or waits for one.  It holds the pool's lock
 * only to take and to put back, never during I/O.
 *
 * The server is usually the nbdkit of the same export and may be restarted
 * under us.  Whoever then meets a dead connection closes every idle one, for
 * they are as dead, makes a new one and repeats its request on that, once.
 * Connecting waits up to CONNECT_SECONDS (a restarted nbdkit finds us in the
 * backlog of its socket); a request waits as long as the server takes, as any
 * read of a disk does.
 *
 * Extents come in many at a time, and the reader asks for one; the rest of the
 * last reply is kept.  That is safe without asking how old it is: an extent
 * was true of the live disk at some time after the snapshot began, and the
 * reader uses it for a cluster only if no guest has written to that cluster up
 * to now (R3 in map.h).
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "live.h"

enum { POOL_MAX = 4, CONNECT_SECONDS = 30, EXTENTS_MAX = 1024 };

/* The most that one request reads, and one question about extents covers. */
#define READ_MAX (UINT32_C (4) << 20)
#define STATUS_MAX (UINT64_C (1) << 28)

struct extent {
  uint64_t end;                 /* byte offset */
  bool is_hole;
};

struct nbd_live {
  struct live live;             /* set once, with all up to the locks */
  char *uri;
  uint32_t block_min;           /* bytes: requests are multiples of it */
  uint32_t read_max;            /* bytes, a multiple of block_min */
  bool has_extents;

  pthread_mutex_t pool_lock;    /* protects: */
  pthread_cond_t pool_changed;
  struct nbd_handle *idle[POOL_MAX];
  unsigned nr_idle, nr_open;    /* nr_open counts those in use, too */

  pthread_mutex_t extents_lock; /* protects: */
  struct extent extents[EXTENTS_MAX]; /* from extents_start on, no gaps */
  uint64_t extents_start;
  unsigned nr_extents;
};

/* One request: returns 0, or -1 with libnbd's error set. */
typedef int (*request) (struct nbd_live *nl, struct nbd_handle *nbd,
                        void *opaque);

static int
nbd_errno (void)
{
  int err = nbd_get_errno ();

  nbdkit_debug ("live disk: %s", nbd_get_error ());
  return err ? err : EIO;
}

/* Milliseconds until deadline, 0 if it has passed. */
static int
ms_until (const struct timespec *deadline)
{
  struct timespec now;
  int64_t ms;

  clock_gettime (CLOCK_MONOTONIC, &now);
  ms = (deadline->tv_sec - now.tv_sec) * INT64_C (1000)
    + (deadline->tv_nsec - now.tv_nsec) / 1000000;
  return ms > 0 ? ms : 0;
}

static int
wait_ready (struct nbd_handle *nbd)
{
  struct timespec deadline;
  int ms;

  clock_gettime (CLOCK_MONOTONIC, &deadline);
  deadline.tv_sec += CONNECT_SECONDS;
  while (nbd_aio_is_connecting (nbd) > 0 || nbd_aio_is_negotiating (nbd) > 0) {
    ms = ms_until (&deadline);
    if (ms == 0)
      return ETIMEDOUT;
    if (nbd_poll (nbd, ms) == -1)
      return nbd_errno ();
  }
  return nbd_aio_is_ready (nbd) > 0 ? 0 : ECONNREFUSED;
}

/* A new connection, or NULL and errno. */
static struct nbd_handle *
connect_to (const char *uri)
{
  struct nbd_handle *nbd = nbd_create ();
  int err;

  if (!nbd) {
    errno = nbd_errno ();
    return NULL;
  }
  if (nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1
      || nbd_aio_connect_uri (nbd, uri) == -1)
    err = nbd_errno ();
  else
    err = wait_ready (nbd);
  if (err == 0)
    return nbd;
  nbd_close (nbd);
  errno = err;
  return NULL;
}

/* Makes the connection that the caller has counted in nr_open. */
static struct nbd_handle *
add_connection (struct nbd_live *nl)
{
  struct nbd_handle *nbd = connect_to (nl->uri);
  int err = errno;

  if (nbd && nbd_get_size (nbd) == (int64_t) nl->live.size)
    return nbd;
  if (nbd) {                    /* the server has another disk now */
    nbd_close (nbd);
    err = ENXIO;
  }
  pthread_mutex_lock (&nl->pool_lock);
  nl->nr_open--;
  pthread_cond_signal (&nl->pool_changed);
  pthread_mutex_unlock (&nl->pool_lock);
  errno = err;
  return NULL;
}

static struct nbd_handle *
take (struct nbd_live *nl)
{
  struct nbd_handle *nbd = NULL;

  pthread_mutex_lock (&nl->pool_lock);
  while (nl->nr_idle == 0 && nl->nr_open == POOL_MAX)
    pthread_cond_wait (&nl->pool_changed, &nl->pool_lock);
  if (nl->nr_idle > 0)
    nbd = nl->idle[--nl->nr_idle];
  else
    nl->nr_open++;
  pthread_mutex_unlock (&nl->pool_lock);
  return nbd ? nbd : add_connection (nl);
}

static void
put_back (struct nbd_live *nl, struct nbd_handle *nbd)
{
  pthread_mutex_lock (&nl->pool_lock);
  nl->idle[nl->nr_idle++] = nbd;
  pthread_cond_signal (&nl->pool_changed);
  pthread_mutex_unlock (&nl->pool_lock);
}

/* Closes the connection, which is dead, and the idle ones with it. */
static void
put_away (struct nbd_live *nl, struct nbd_handle *nbd)
{
  struct nbd_handle *dead[POOL_MAX];
  unsigned i, nr_dead;

  nbd_close (nbd);
  pthread_mutex_lock (&nl->pool_lock);
  nr_dead = nl->nr_idle;
  memcpy (dead, nl->idle, nr_dead * sizeof dead[0]);
  nl->nr_idle = 0;
  nl->nr_open -= 1 + nr_dead;
  pthread_cond_broadcast (&nl->pool_changed);
  pthread_mutex_unlock (&nl->pool_lock);
  for (i = 0; i < nr_dead; i++)
    nbd_close (dead[i]);
}

static bool
is_dead (struct nbd_handle *nbd)
{
  return nbd_aio_is_dead (nbd) > 0 || nbd_aio_is_closed (nbd) > 0;
}

/* Carries out a request, on a second connection if the first is dead. */
static int
perform (struct nbd_live *nl, request req, void *opaque)
{
  int attempt, err = EIO;

  for (attempt = 0; attempt < 2; attempt++) {
    struct nbd_handle *nbd = take (nl);

    if (!nbd)
      return -1;
    if (req (nl, nbd, opaque) == 0) {
      put_back (nl, nbd);
      return 0;
    }
    err = nbd_errno ();
    if (!is_dead (nbd)) {
      put_back (nl, nbd);
      break;
    }
    put_away (nl, nbd);
  }
  errno = err;
  return -1;
}

struct read_args {
  void *buf;
  uint32_t count;
  uint64_t offset;
};

static int
read_request (struct nbd_live *nl, struct nbd_handle *nbd, void *opaque)
{
  const struct read_args *a = opaque;

  (void) nl;
  return nbd_pread (nbd, a->buf, a->count, a->offset, 0);
}

/* Reads a range that the server takes as it is. */
static int
read_aligned (struct nbd_live *nl, char *buf, uint64_t count, uint64_t offset)
{
  while (count > 0) {
    struct read_args a = {
      buf, count < nl->read_max ? count : nl->read_max, offset
    };

    if (perform (nl, read_request, &a) == -1)
      return -1;
    buf += a.count;
    count -= a.count;
    offset += a.count;
  }
  return 0;
}

static int
nbd_live_pread (struct live *live, void *buf, uint32_t count, uint64_t offset)
{
  struct nbd_live *nl = (struct nbd_live *) live;
  uint64_t mask = nl->block_min - 1;
  uint64_t start = offset & ~mask, end = (offset + count + mask) & ~mask;
  char *bounce;
  int r, err;

  if (end > live->size)
    end = live->size;
  if (start == offset && end == offset + count)
    return read_aligned (nl, buf, count, offset);
  bounce = malloc (end - start);
  if (!bounce)
    return -1;
  r = read_aligned (nl, bounce, end - start, start);
  err = errno;
  if (r == 0)
    memcpy (buf, bounce + (offset - start), count);
  free (bounce);
  errno = err;
  return r;
}

struct status_args {
  uint64_t count, offset;       /* what is asked for */
  struct extent extents[EXTENTS_MAX]; /* what is answered */
  unsigned nr_extents;
};

static int
status_received (void *opaque, const char *context, uint64_t offset,
                 uint32_t *entries, size_t nr_entries, int *error)
{
  struct status_args *a = opaque;
  size_t i;

  (void) error;
  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  a->nr_extents = 0;
  for (i = 0; i + 1 < nr_entries && a->nr_extents < EXTENTS_MAX; i += 2) {
    offset += entries[i];
    a->extents[a->nr_extents++] = (struct extent) {
      .end = offset, .is_hole = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0
    };
  }
  return 0;
}

static int
status_request (struct nbd_live *nl, struct nbd_handle *nbd, void *opaque)
{
  struct status_args *a = opaque;

  (void) nl;
  return nbd_block_status (nbd, a->count, a->offset,
                           (nbd_extent_callback) {
                             .callback = status_received, .user_data = a
                           }, 0);
}

/* Looks up offset in what is kept.  Returns false if it is not there. */
static bool
kept_extent (struct nbd_live *nl, uint64_t offset, struct extent *e)
{
  unsigned lo = 0, hi;
  bool found;

  pthread_mutex_lock (&nl->extents_lock);
  hi = nl->nr_extents;
  while (lo < hi) {             /* the first one that ends after offset */
    unsigned mid = (lo + hi) / 2;

    if (nl->extents[mid].end > offset)
      hi = mid;
    else
      lo = mid + 1;
  }
  found = offset >= nl->extents_start && lo < nl->nr_extents;
  if (found)
    *e = nl->extents[lo];
  pthread_mutex_unlock (&nl->extents_lock);
  return found;
}

/* Asks the server what lies from offset on, and keeps all it says. */
static int
ask_extents (struct nbd_live *nl, uint64_t offset, struct extent *e)
{
  struct status_args *a = malloc (sizeof *a);
  int r = -1, err = ENOMEM;

  if (!a)
    return -1;
  a->nr_extents = 0;
  a->offset = offset;
  a->count = nl->live.size - offset;
  if (a->count > STATUS_MAX)
    a->count = STATUS_MAX;
  r = perform (nl, status_request, a);
  err = errno;
  if (r == 0 && (a->nr_extents == 0 || a->extents[0].end <= offset)) {
    r = -1;
    err = EPROTO;
  }
  if (r == 0) {
    *e = a->extents[0];
    pthread_mutex_lock (&nl->extents_lock);
    nl->extents_start = offset;
    nl->nr_extents = a->nr_extents;
    memcpy (nl->extents, a->extents, a->nr_extents * sizeof a->extents[0]);
    pthread_mutex_unlock (&nl->extents_lock);
  }
  free (a);
  errno = err;
  return r;
}

static int64_t
nbd_live_extent (struct live *live, uint64_t offset, uint64_t count,
                 int *is_hole)
{
  struct nbd_live *nl = (struct nbd_live *) live;
  struct extent e = { 0 };

  *is_hole = 0;
  if (!nl->has_extents)
    return count;
  if (!kept_extent (nl, offset, &e)
      && ask_extents (nl, offset & ~(uint64_t) (nl->block_min - 1), &e) == -1)
    return -1;
  if (e.end <= offset) {        /* not even one block, against the protocol */
    errno = EPROTO;
    return -1;
  }
  *is_hole = e.is_hole;
  return e.end - offset < count ? e.end - offset : count;
}

static void
nbd_live_close (struct live *live)
{
  struct nbd_live *nl = (struct nbd_live *) live;
  unsigned i;

  for (i = 0; i < nl->nr_idle; i++) {
    nbd_shutdown (nl->idle[i], 0);
    nbd_close (nl->idle[i]);
  }
  pthread_mutex_destroy (&nl->pool_lock);
  pthread_cond_destroy (&nl->pool_changed);
  pthread_mutex_destroy (&nl->extents_lock);
  free (nl->uri);
  free (nl);
}

static const struct live_ops nbd_live_ops = {
  .pread = nbd_live_pread,
  .extent = nbd_live_extent,
  .close = nbd_live_close,
};

/* What the server says about itself.  Returns 0, or -1 and errno. */
static int
learn (struct nbd_live *nl, struct nbd_handle *nbd)
{
  int64_t size = nbd_get_size (nbd);
  int64_t min = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  int64_t max = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);

  if (size == -1) {
    errno = nbd_errno ();
    return -1;
  }
  nl->live.size = size;
  nl->block_min = min > 0 ? min : 1;
  nl->read_max = max > 0 && max < READ_MAX ? max : READ_MAX;
  nl->read_max -= nl->read_max % nl->block_min;
  nl->has_extents =
    nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
  if ((nl->block_min & (nl->block_min - 1)) != 0 || nl->read_max == 0) {
    errno = EPROTO;
    return -1;
  }
  return 0;
}

struct live *
live_nbd_open (const char *uri)
{
  struct nbd_live *nl = calloc (1, sizeof *nl);
  int err;

  if (!nl)
    return NULL;
  nl->live.ops = &nbd_live_ops;
  nl->live.fd = -1;
  pthread_mutex_init (&nl->pool_lock, NULL);
  pthread_cond_init (&nl->pool_changed, NULL);
  pthread_mutex_init (&nl->extents_lock, NULL);
  nl->uri = strdup (uri);
  if (nl->uri)
    nl->idle[0] = connect_to (uri);
  if (nl->idle[0])
    nl->nr_idle = nl->nr_open = 1;
  if (nl->idle[0] && learn (nl, nl->idle[0]) == 0)
    return &nl->live;
  err = errno;
  nbd_live_close (&nl->live);
  errno = err;
  return NULL;
}
