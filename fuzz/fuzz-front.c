/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Fuzz target: whatever a client sends to the front, and how it reads. */

/* The client's state machine (server/front/client.c) needs no sockets, so both
 * its sides are memory here: the client's bytes are the input, the snapshot
 * server is played by fake_backend below.  The first bytes of the input say how
 * all of it behaves:
 *
 *   0  bits: 1 the client's bytes come one at a time; 2 it takes few bytes at a
 *      time; 4 it never reads past a point; 8 the backend breaks off now and
 *      then; 16 the backend's replies are damaged; 32 the snapshot may be
 *      released; 64 it ends on the way; 128 the end comes without an EOF
 *   1  how many bytes, for those of them that need a number
 *
 * What must hold: nothing that AddressSanitizer or UBSan object to, no leak, no
 * state change that the table forbids (client_become aborts), no standstill
 * while there is something to do, and buffers within their bounds.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "fuzz.h"
#include "map.h"
#include "nbd.h"
#include "scratch.h"

#define DISK_SIZE (3 * 1048576 + 77)
#define CLUSTER_SIZE 4096
#define RUNS_MAX 20000

enum {
  SINGLE_BYTES = 1, TAKES_FEW = 2, STOPS_READING = 4, BREAKS_OFF = 8,
  DAMAGES = 16, RELEASES = 32, ENDS = 64, NO_EOF = 128,
};

/* What is the same for all inputs. */
static struct world {
  char dir[64];
  int state_dir;
  struct bmfile map;
  struct settings settings, releasing;
  char *release;
} world;

/* One input. */
struct run {
  struct front front;           /* first: connect_backend casts */
  const uint8_t *in;
  size_t size, at;
  unsigned mode, number;
  size_t sent;                  /* bytes that the client was sent */
  /* The backend: what it has read and not understood, and has to say. */
  struct buffer heard, says;
  bool connected, greeted, transmission;
  unsigned connections;
  uint64_t noise;
};

static uint64_t
noise (struct run *r)
{
  r->noise = r->noise * UINT64_C (6364136223846793005) + 1442695040888963407;
  return r->noise >> 33;
}

/* ------------------------------------------------------------- the client */

static ssize_t
client_recv (struct channel *ch, void *buf, size_t size)
{
  struct run *r = ch->opaque;
  size_t n = r->size - r->at;

  if (n == 0) {
    errno = EAGAIN;
    return r->mode & NO_EOF ? -1 : 0;
  }
  if (n > size)
    n = size;
  if (r->mode & SINGLE_BYTES)
    n = 1;
  memcpy (buf, r->in + r->at, n);
  r->at += n;
  return n;
}

static ssize_t
client_take (struct channel *ch, const void *buf, size_t size, bool more)
{
  struct run *r = ch->opaque;

  (void) buf;
  (void) more;
  if ((r->mode & STOPS_READING) && r->sent > r->number * 100) {
    errno = EAGAIN;
    return -1;
  }
  if ((r->mode & TAKES_FEW) && size > r->number + 1)
    size = r->number + 1;
  r->sent += size;
  return size;
}

static void
nothing (struct channel *ch)
{
  (void) ch;
}

static const struct channel_ops client_ops = {
  .recv = client_recv, .send = client_take, .close = nothing,
};

/* ------------------------------------------------------------- the backend */

static uint8_t *
say (struct run *r, size_t size)
{
  uint8_t *p = buffer_room (&r->says, size, 1 << 30);

  if (!p)
    abort ();
  r->says.len += size;
  return p;
}

static void
say_option (struct run *r, uint32_t option, uint32_t type, const void *data,
            size_t len)
{
  uint8_t *p = say (r, 20 + len);

  p = put64 (p, NBD_OPTION_REPLY_MAGIC);
  p = put32 (p, option);
  p = put32 (p, type);
  p = put32 (p, len);
  if (len > 0)
    memcpy (p, data, len);
}

static uint8_t *
say_chunk (struct run *r, uint16_t type, uint64_t cookie, uint32_t length)
{
  uint8_t *p = say (r, 20 + length);

  p = put32 (p, NBD_STRUCTURED_REPLY_MAGIC);
  p = put16 (p, NBD_REPLY_FLAG_DONE);
  p = put16 (p, type);
  memcpy (p, &cookie, 8);       /* as it came */
  return put32 (p + 8, length);
}

static bool
hear_option (struct run *r)
{
  const uint8_t *p;
  uint8_t info[12];
  uint32_t option, len;

  if (!r->greeted && buffer_size (&r->heard) >= 4) {
    buffer_take (&r->heard, 4); /* the front's flags */
    r->greeted = true;
  }
  p = buffer_bytes (&r->heard);
  if (!r->greeted || buffer_size (&r->heard) < 16
      || buffer_size (&r->heard) < 16 + (len = get32 (p + 12)))
    return false;
  option = get32 (p + 8);
  buffer_take (&r->heard, 16 + len);
  if (option == NBD_OPT_SET_META_CONTEXT)
    say_option (r, option, NBD_REP_META_CONTEXT, "\0\0\0\1base:allocation",
                19);
  if (option == NBD_OPT_GO) {
    put16 (put64 (put16 (info, NBD_INFO_EXPORT), DISK_SIZE), 3);
    say_option (r, option, NBD_REP_INFO, info, sizeof info);
    r->transmission = true;
  }
  say_option (r, option, NBD_REP_ACK, NULL, 0);
  return true;
}

static void
say_status (struct run *r, uint64_t cookie, uint32_t length)
{
  unsigned n = 1 + noise (r) % 5, i;
  uint8_t *p = say_chunk (r, NBD_REPLY_TYPE_BLOCK_STATUS, cookie, 4 + 8 * n);

  p = put32 (p, 1);
  for (i = 0; i < n; i++) {
    p = put32 (p, 1 + noise (r) % length);
    p = put32 (p, noise (r) % 4);
  }
}

static void
say_error (struct run *r, uint64_t cookie)
{
  uint8_t *p = say_chunk (r, NBD_REPLY_TYPE_ERROR, cookie, 8);

  memcpy (put16 (put32 (p, noise (r) % 2 ? NBD_EIO : NBD_ESHUTDOWN), 2),
          "no", 2);
}

/* Everything that the front asks has to make sense here. */
static bool
hear_request (struct run *r)
{
  const uint8_t *p = buffer_bytes (&r->heard);
  uint64_t cookie, offset;
  uint32_t length;
  uint16_t cmd;

  if (buffer_size (&r->heard) < NBD_REQUEST_SIZE)
    return false;
  if (get32 (p) != NBD_REQUEST_MAGIC)
    abort ();
  cmd = get16 (p + 6);
  memcpy (&cookie, p + 8, 8);
  offset = get64 (p + 16);
  length = get32 (p + 24);
  buffer_take (&r->heard, NBD_REQUEST_SIZE);
  if (offset > DISK_SIZE || length > DISK_SIZE - offset
      || (cmd != NBD_CMD_DISC && length == 0)
      || (cmd == NBD_CMD_READ && length > PIECE_SIZE))
    abort ();
  if (cmd != NBD_CMD_DISC && cmd != NBD_CMD_CACHE && noise (r) % 16 == 0)
    say_error (r, cookie);
  else if (cmd == NBD_CMD_READ)
    put64 (say_chunk (r, NBD_REPLY_TYPE_OFFSET_DATA, cookie, 8 + length),
           offset);
  else if (cmd == NBD_CMD_BLOCK_STATUS)
    say_status (r, cookie, length);
  else if (cmd == NBD_CMD_CACHE) {
    p = put32 (put32 (say (r, 16), NBD_SIMPLE_REPLY_MAGIC), 0);
    memcpy ((uint8_t *) p, &cookie, 8);
  }
  else if (cmd == NBD_CMD_DISC)
    r->connected = false;
  else
    abort ();
  return true;
}

static ssize_t
backend_hear (struct channel *ch, const void *buf, size_t size, bool more)
{
  struct run *r = ch->opaque;
  uint8_t *p = buffer_room (&r->heard, size, 1 << 30);

  (void) more;
  if (!p)
    abort ();
  memcpy (p, buf, size);
  r->heard.len += size;
  while (r->transmission ? hear_request (r) : hear_option (r))
    ;
  return size;
}

static ssize_t
backend_say (struct channel *ch, void *buf, size_t size)
{
  struct run *r = ch->opaque;
  size_t n = buffer_size (&r->says);

  if ((r->mode & BREAKS_OFF) && r->connections < 20 && noise (r) % 40 == 0)
    return 0;
  if (n == 0) {
    errno = EAGAIN;
    return r->connected ? -1 : 0;
  }
  if (n > size)
    n = size;
  n = 1 + noise (r) % n;
  memcpy (buf, buffer_bytes (&r->says), n);
  if ((r->mode & DAMAGES) && noise (r) % 8 == 0)
    ((uint8_t *) buf)[noise (r) % n] = noise (r);
  buffer_take (&r->says, n);
  return n;
}

static const struct channel_ops backend_ops = {
  .recv = backend_say, .send = backend_hear, .close = nothing,
};

static int
connect_backend (struct front *front, struct channel *ch)
{
  struct run *r = (struct run *) front;

  *ch = (struct channel) { .ops = &backend_ops, .fd = -1, .opaque = r };
  r->connected = true;
  r->greeted = r->transmission = false;
  r->connections++;
  r->heard.pos = r->heard.len = r->says.pos = r->says.len = 0;
  put16 (put64 (put64 (say (r, 18), NBD_MAGIC), NBD_OPTION_MAGIC), 3);
  return 0;
}

/* ------------------------------------------------------------------ the world */

static void
make_file (enum bmfile_kind kind, const char *file, const char *name,
           struct bmfile *bf)
{
  char path[128], scratch[128];
  struct bmfile_params p = {
    .kind = kind, .disk_size = DISK_SIZE, .cluster_size = CLUSTER_SIZE,
    .export_name = "vda", .name = name, .live = "file:/dev/null",
    .scratch = scratch,
  };
  int fd;

  snprintf (path, sizeof path, "%s/exports/vda/%s", world.dir, file);
  snprintf (scratch, sizeof scratch, "%s/exports/vda/scratch", world.dir);
  if (bmfile_create (path, &p, bf) == -1)
    abort ();
  if (kind == BMFILE_MAP) {
    fd = scratch_create (scratch, DISK_SIZE);
    if (fd == -1 || bmfile_record_files (bf, fd) == -1)
      abort ();
    close (fd);
  }
}

static void
remove_world (void)
{
  static const char *const files[] = {
    "vda/s.map", "vda/c1.dirty", "vda/scratch", "vda", "",
  };
  char path[128];
  size_t i;

  for (i = 0; i < sizeof files / sizeof files[0]; i++) {
    snprintf (path, sizeof path, "%s/exports/%s", world.dir, files[i]);
    remove (path);
  }
  remove (world.dir);
}

static void
make_world (void)
{
  char path[128];
  struct bmfile dirty;

  fuzz_make_dir (world.dir);
  atexit (remove_world);
  snprintf (path, sizeof path, "%s/exports", world.dir);
  mkdir (path, 0700);
  snprintf (path, sizeof path, "%s/exports/vda", world.dir);
  mkdir (path, 0700);
  make_file (BMFILE_DIRTY, "c1.dirty", "c1", &dirty);
  bm_set_range (dirty.bits[0], 3, 100);
  bm_set_range (dirty.bits[0], 300, 301);
  atomic_store (&dirty.live->instant_ns, 1000);
  atomic_store (&dirty.live->state, BMFILE_ACTIVE);
  bmfile_close (&dirty);
  make_file (BMFILE_MAP, "s.map", "s", &world.map);
  bm_set_range (world.map.bits[MAP_COPIED_BITS], 50, 200);
  atomic_store (&world.map.live->instant_ns, 2000);
  world.state_dir = open (world.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  world.release = strdup ("vda@s");
  world.settings = (struct settings) {
    .max_request = 2 << 20, .handshake_timeout = 30, .idle_timeout = 3600,
  };
  world.releasing = world.settings;
  world.releasing.release = &world.release;
  world.releasing.nr_release = 1;
}

/* -------------------------------------------------------------------- the run */

static void
check (const struct client *c)
{
  if (c->in.cap > CLIENT_IN_MAX || c->slots.nr_busy > SLOTS
      || c->backend.under_way > BACKEND_UNDER_WAY_MAX + 2
      || c->out.cap > (c->state < CLIENT_REQUESTS ? CLIENT_LISTING_MAX
                       : CLIENT_OUT_MAX))
    abort ();
}

/* Nothing moves any more: is somebody to be waited for? */
static void
check_standstill (const struct run *r, const struct client *c)
{
  if ((c->wants & WANT_CLIENT_READ) && r->at == r->size)
    return;
  if ((c->wants & WANT_CLIENT_WRITE) && (r->mode & STOPS_READING))
    return;
  if (r->mode & DAMAGES)        /* it may wait for what was never meant */
    return;
  fprintf (stderr, "standstill in %s, wants %u\n",
           client_state_name (c->state), c->wants);
  abort ();
}

static void
drive (struct run *r, struct client *c)
{
  unsigned i, still = 0;

  for (i = 0; i < RUNS_MAX && c->state != CLIENT_CLOSED; i++) {
    size_t before = r->at + r->sent + buffer_size (&r->says);
    bool more;

    r->front.now += 0.03;
    if ((r->mode & ENDS) && i == r->number % 16)
      atomic_store (&world.map.live->state, BMFILE_ENDED);
    more = client_run (c);
    check (c);
    client_tick (c);
    if (more || (c->wants & WANT_BACKEND)
        || before != r->at + r->sent + buffer_size (&r->says))
      still = 0;
    else if (++still > 3 && c->state != CLIENT_CLOSED) {
      check_standstill (r, c);
      client_timed_out (c);
      still = 0;
    }
  }
  if (i == RUNS_MAX && !(r->mode & SINGLE_BYTES))
    abort ();
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct run r = { .in = data, .size = size };
  struct channel ch = { .ops = &client_ops, .fd = -1, .opaque = &r };
  const struct peer peer = { .local = true, .address = "unix" };
  struct client *c;

  if (!world.dir[0])
    make_world ();
  if (size < 2)
    return 0;
  r.mode = data[0];
  r.number = data[1];
  r.noise = data[0] * 256 + data[1] + size;
  r.at = 2;
  atomic_store (&world.map.live->state, BMFILE_ACTIVE);
  bm_clear_range (world.map.bits[MAP_RELEASED_BITS], 0,
                  world.map.nr_clusters);
  TAILQ_INIT (&r.front.clients);
  LIST_INIT (&r.front.pulls);
  r.front.settings = r.mode & RELEASES ? &world.releasing : &world.settings;
  r.front.state_dir = world.state_dir;
  r.front.connect = connect_backend;
  c = client_new (&r.front, &ch, &peer, TLS_OFF, NULL);
  if (!c)
    abort ();
  drive (&r, c);
  client_free (c);
  if (r.front.nr_clients != 0 || !LIST_EMPTY (&r.front.pulls))
    abort ();
  buffer_free (&r.heard);
  buffer_free (&r.says);
  return 0;
}

/* The front's own is in its main.c. */
void
front_log (struct front *front, int level, const char *fmt, ...)
{
  (void) front;
  (void) level;
  (void) fmt;
}
