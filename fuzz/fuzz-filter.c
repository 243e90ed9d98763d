/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Fuzz target: what is sent to the filter's control socket. */

/* The input is packets, each
 *
 *   0   bits: 3 which of four connections; 4 it hangs up afterwards; 8 a guest
 *       is in the middle of a write; 16 magic and version are made right; 32
 *       the uuid is made that of the last file that was sent; 64 the deadline
 *       is made short
 *   1   length: 0 the right one, else so many bytes more than 16 less
 *   2   descriptors: two bits for each, 0 none, else one of the files below
 *   3   of the files that are made for it: bits, what is wrong with them
 *   4.. struct wire_request
 *
 * control.c is included, since its thread is what we play here: packets are
 * put into a connection and served one by one.  What must hold: each valid
 * packet is answered with its own cookie, any other with EPROTO and the end of
 * the connection; whatever came, no descriptor stays open that the filter does
 * not need, and all can be ended.
 */

#include <config.h>

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <zlib.h>

#include "../filter/control.c"
#include "fuzz.h"
#include "scratch.h"

#define CONNECTIONS 4
#define DISK_SIZE (1048576 + 77)
#define PACKETS_MAX 64

enum { WHICH = 3, HANGS_UP = 4, GUEST_WRITES = 8, RIGHT_MAGIC = 16,
       LAST_UUID = 32, SHORT_DEADLINE = 64 };
enum { FILE_NONE, FILE_MAP, FILE_SCRATCH, FILE_DIRTY };
enum { READ_ONLY = 1, DAMAGED = 2, OTHER_SIZE = 4, OTHER_EXPORT = 8,
       BEGUN = 16, SHORT = 32, BY_SIZE = 64 };

/* A new map and a new tracking bitmap, as bytes. */
static struct {
  uint8_t *bytes[2];
  uint64_t size[2];
} made;

struct run {
  struct fleece f;
  struct control c;
  int ends[CONNECTIONS];        /* ours, or -1 */
  uint8_t last_uuid[16];
  unsigned nr_made;
  bool inside;
  struct gate_ticket ticket;
};

void
nbdkit_error (const char *fmt, ...)
{
  char text[2000];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
}

void
nbdkit_debug (const char *fmt, ...)
{
  (void) fmt;
}

/* For the backend, which nobody asks here. */
nbdkit_next *
nbdkit_next_context_open (nbdkit_backend *backend, int readonly,
                          const char *name, int shared)
{
  (void) backend;
  (void) readonly;
  (void) name;
  (void) shared;
  abort ();
}

void
nbdkit_next_context_close (nbdkit_next *next)
{
  (void) next;
  abort ();
}

static void
make_one (int i, enum bmfile_kind kind)
{
  struct bmfile_params p = {
    .kind = kind, .disk_size = DISK_SIZE, .cluster_size = 4096,
    .export_name = "vda", .name = "s", .live = "file:/dev/null",
    .scratch = "/nowhere",
  };
  struct bmfile bf;
  char path[64];

  snprintf (path, sizeof path, "/tmp/nbdfleece-fuzz.%d", (int) getpid ());
  if (bmfile_create (path, &p, &bf) == -1)
    abort ();
  unlink (path);
  made.size[i] = bf.map_size;
  made.bytes[i] = malloc (bf.map_size);
  if (!made.bytes[i])
    abort ();
  memcpy (made.bytes[i], bf.base, bf.map_size);
  bmfile_close (&bf);
}

static void
damage (uint8_t *bytes, unsigned wrong, int fd)
{
  struct bmfile_fixed *f = (struct bmfile_fixed *) bytes;
  struct bmfile_live *live
    = (struct bmfile_live *) (bytes + BMFILE_LIVE_OFFSET);

  if (wrong & OTHER_SIZE)
    f->disk_size++;
  if (wrong & OTHER_EXPORT)
    strcpy (f->export_name, "vdb");
  if (wrong & BEGUN)
    live->state = BMFILE_ACTIVE;
  f->checksum = crc32 (crc32 (0, NULL, 0), bytes,
                       offsetof (struct bmfile_fixed, checksum));
  if (wrong & DAMAGED)
    bytes[100 + fd % 100] ^= 1;
}

/* A descriptor of the kind. */
static int
make_file (struct run *r, unsigned kind, unsigned wrong)
{
  int fd = memfd_create ("fuzz", MFD_CLOEXEC), i = kind == FILE_DIRTY, other;
  char path[64];

  if (fd == -1)
    abort ();
  if (kind == FILE_SCRATCH) {
    if (ftruncate (fd, DISK_SIZE + (wrong & BY_SIZE ? 1 : 0)) == -1)
      abort ();
  }
  else {
    uint8_t bytes[65536] __attribute__ ((aligned (8)));
    struct bmfile_fixed *f = (struct bmfile_fixed *) bytes;
    size_t size = made.size[i];

    if (size > sizeof bytes)
      abort ();
    memcpy (bytes, made.bytes[i], size);
    f->uuid[0] = ++r->nr_made;
    memcpy (r->last_uuid, f->uuid, sizeof f->uuid);
    damage (bytes, wrong, r->nr_made);
    if (pwrite (fd, bytes, wrong & SHORT ? size / 2 : size, 0) == -1)
      abort ();
  }
  if (!(wrong & READ_ONLY))
    return fd;
  snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
  other = open (path, O_RDONLY | O_CLOEXEC);
  close (fd);
  return other;
}

static void
connect_one (struct run *r, unsigned i)
{
  int pair[2];

  if (r->ends[i] != -1)
    return;
  if (socketpair (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                  pair) == -1)
    abort ();
  r->c.clients[i] = pair[0];
  r->ends[i] = pair[1];
}

static void
hang_up (struct run *r, unsigned i)
{
  close (r->ends[i]);
  r->ends[i] = -1;
  if (r->c.clients[i] == -1)
    return;
  serve (&r->c, i);
  if (r->c.clients[i] != -1)
    abort ();
}

/* What comes back must be the answer to this. */
static void
check_reply (struct run *r, unsigned i, const struct wire_request *req,
             bool valid)
{
  struct wire_reply reply;
  int fds[WIRE_FILES_MAX];
  unsigned nr = 0, j;
  int64_t n = wire_recv (r->ends[i], &reply, sizeof reply, fds, &nr);

  if (n != sizeof reply || reply.magic != WIRE_MAGIC || nr != reply.nr_files
      || (valid && (reply.cookie != req->cookie || reply.op != req->op))
      || (!valid && reply.error != EPROTO)
      || valid != (r->c.clients[i] != -1))
    abort ();
  if (reply.op == WIRE_LIST && reply.error == 0
      && reply.u.list.nr > WIRE_SNAPSHOTS_MAX)
    abort ();
  for (j = 0; j < nr; j++)
    close (fds[j]);
  if (!valid)
    hang_up (r, i);
}

/* A guest's request: inside the gate or not. */
static void
guest (struct run *r, bool inside)
{
  if (inside && !r->inside && atomic_load (&r->f.gate.closed) == 0)
    r->ticket = gate_enter (&r->f.gate);
  else if (!inside && r->inside)
    gate_leave (&r->f.gate, r->ticket);
  else
    return;
  r->inside = inside;
}

static void
send_one (struct run *r, const uint8_t *head, struct wire_request *req)
{
  unsigned i = head[0] & WHICH, nr = 0, kind, j;
  uint8_t packet[sizeof *req + 256] = { 0 };
  size_t size = sizeof *req;
  int fds[WIRE_FILES_MAX];
  bool valid;

  if (head[1] && size + head[1] > 16)
    size = size + head[1] - 16;
  for (j = 0; j < WIRE_FILES_MAX; j++) {
    kind = head[2] >> (2 * j) & 3;
    if (kind != FILE_NONE)
      fds[nr++] = make_file (r, kind, head[3]);
  }
  if (head[0] & RIGHT_MAGIC) {
    req->magic = WIRE_MAGIC;
    req->version = WIRE_VERSION;
  }
  if (head[0] & LAST_UUID)
    memcpy (req->uuid, r->last_uuid, sizeof req->uuid);
  if ((head[0] & SHORT_DEADLINE) || r->inside)
    req->deadline_ms = 1 + req->deadline_ms % 2;
  if (req->op == WIRE_END || req->op == WIRE_UNTRACK)
    guest (r, false);           /* they wait for it, and long */
  valid = size == sizeof *req && req->magic == WIRE_MAGIC
    && req->version == WIRE_VERSION;
  memcpy (packet, req, sizeof *req);
  if (wire_send (r->ends[i], packet, size, fds, nr) == -1)
    abort ();
  for (j = 0; j < nr; j++)
    close (fds[j]);
  serve (&r->c, i);
  check_reply (r, i, req, valid);
}

static void
begin_run (struct run *r)
{
  unsigned i;

  r->f.options.export_name = "vda";
  r->f.state_lock = r->f.listener = -1;
  r->f.cluster_size = 4096;
  atomic_store (&r->f.disk_size, DISK_SIZE);
  atomic_store (&r->f.set, calloc (1, sizeof (struct snapset)));
  if (gate_init (&r->f.gate) == -1)
    abort ();
  pthread_mutex_init (&r->f.clients.lock, NULL);
  r->c.f = &r->f;
  r->c.event = r->c.listener = r->c.gate_holder = -1;
  for (i = 0; i < CLIENTS_MAX; i++)
    r->c.clients[i] = -1;
  for (i = 0; i < CONNECTIONS; i++)
    r->ends[i] = -1;
}

static void
end_run (struct run *r)
{
  unsigned i;

  guest (r, false);
  for (i = 0; i < CONNECTIONS; i++)
    if (r->ends[i] != -1)
      hang_up (r, i);
  while (atomic_load (&r->f.set)->nr > 0)
    if (snapshots_end (&r->f, atomic_load (&r->f.set)->snapshots[0]
                       ->map.fixed->uuid) == -1)
      abort ();
  snapshots_unload (&r->f);
  gate_destroy (&r->f.gate);
  pthread_mutex_destroy (&r->f.clients.lock);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct wire_request req;
  struct run r = { 0 };
  int before, after, i;

  if (!made.bytes[0]) {
    make_one (0, BMFILE_MAP);
    make_one (1, BMFILE_DIRTY);
  }
  before = dup (0);
  close (before);
  begin_run (&r);
  for (i = 0; i < PACKETS_MAX && size >= 4; i++) {
    size_t n = size - 4 < sizeof req ? size - 4 : sizeof req;

    memset (&req, 0, sizeof req);
    memcpy (&req, data + 4, n);
    connect_one (&r, data[0] & WHICH);
    guest (&r, data[0] & GUEST_WRITES);
    send_one (&r, data, &req);
    if ((data[0] & HANGS_UP) && r.ends[data[0] & WHICH] != -1)
      hang_up (&r, data[0] & WHICH);
    data += 4 + n;
    size -= 4 + n;
  }
  end_run (&r);
  after = dup (0);
  close (after);
  if (before != after)
    abort ();
  return 0;
}
