/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A client of the filter's control socket, for tests. */

/*   ctl SOCKET [STATE LIVE]
 *
 * carries out commands from its input over one connection and answers each
 * with one line, `ok ...' or `error ERRNO-NAME'.  STATE is the state directory
 * (maps go to STATE/exports/EXPORT/) and LIVE what maps say of the live disk.
 *
 *   hello                      ok SIZE CLUSTER-SIZE PID SNAPSHOTS ID LISTENER
 *   freeze MS | thaw           ok
 *   begin NAME [frozen] [ms=N] [dirty=CHECKPOINT] [only-dirty] [durable]
 *                              ok UUID INSTANT-NS CLOSED-NS
 *   end NAME [keep]            ok            (and removes the files)
 *   untrack [UUID]             ok
 *   list                       ok NUMBER
 *   stats [NAME]               ok KEY=VALUE ...
 */

#include <config.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <unistd.h>

#include "bmfile.h"
#include "scratch.h"
#include "testing.h"
#include "wire.h"

struct ctl {
  int sock;
  const char *state, *live;
  uint64_t cookie;
  struct wire_hello hello;
};

static int
call (struct ctl *c, struct wire_request *req, const int *fds, unsigned nr_fds,
      struct wire_reply *reply, int *fd)
{
  req->cookie = ++c->cookie;
  return wire_call (c->sock, req, fds, nr_fds, reply, fd);
}

static int
simple (struct ctl *c, enum wire_op op, uint32_t ms, struct wire_reply *reply)
{
  struct wire_request req;

  wire_request_init (&req, op, 0);
  req.deadline_ms = ms;
  return call (c, &req, NULL, 0, reply, NULL);
}

static int
hello (struct ctl *c)
{
  struct wire_request req;
  struct wire_reply reply;
  int fd;

  wire_request_init (&req, WIRE_HELLO, 0);
  if (call (c, &req, NULL, 0, &reply, &fd) == -1)
    return -1;
  c->hello = reply.u.hello;
  printf ("ok %" PRIu64 " %" PRIu64 " %u %u %s %s\n", c->hello.disk_size,
          c->hello.cluster_size, c->hello.pid, c->hello.nr_snapshots,
          c->hello.config_id[0] ? c->hello.config_id : "-",
          fd == -1 ? "no" : "yes");
  if (fd != -1)
    close (fd);
  return 0;
}

/* The two shapes of names: NAME.map, NAME.dirty; EXPORT@NAME.scratch. */
static char *
file_path (const struct ctl *c, const char *name, const char *suffix)
{
  char *p;

  CHECK (asprintf (&p, "%s/exports/%s/%s%s", c->state, c->hello.export_name,
                   name, suffix) > 0);
  return p;
}

static char *
scratch_path (const struct ctl *c, const char *name)
{
  char *p;

  CHECK (asprintf (&p, "%s/exports/%s/%s@%s.scratch", c->state,
                   c->hello.export_name, c->hello.export_name, name) > 0);
  return p;
}

/* Makes a file, opens it once more for the filter; its UUID goes to uuid. */
static int
create (const struct ctl *c, enum bmfile_kind kind, const char *name,
        uint32_t flags, uint8_t uuid[16])
{
  char *scratch = scratch_path (c, name);
  char *file = file_path (c, name, kind == BMFILE_MAP ? ".map" : ".dirty");
  struct bmfile_params p = {
    .kind = kind, .disk_size = c->hello.disk_size,
    .cluster_size = c->hello.cluster_size,
    .export_name = c->hello.export_name, .name = name, .live = c->live,
    .scratch = kind == BMFILE_MAP ? scratch : NULL,
  };
  struct bmfile bf;
  int fd = -1;

  if (bmfile_create (file, &p, &bf) == 0) {
    memcpy (uuid, bf.fixed->uuid, 16);
    atomic_store (&bf.live->flags, flags);
    bmfile_close (&bf);
    fd = open (file, O_RDWR | O_CLOEXEC);
  }
  free (scratch);
  free (file);
  return fd;
}

static void
remove_files (const struct ctl *c, const char *name)
{
  char *map = file_path (c, name, ".map"), *scratch = scratch_path (c, name);

  unlink (map);
  unlink (scratch);
  free (map);
  free (scratch);
}

struct begin {
  const char *name, *dirty;
  uint32_t flags;               /* of the map */
  struct wire_request req;
  int fds[WIRE_FILES_MAX];
  unsigned nr_fds;
};

static void
parse_begin (struct begin *b, char *args)
{
  char *word, *rest = args;

  wire_request_init (&b->req, WIRE_BEGIN, 0);
  b->req.deadline_ms = 5000;
  b->req.flags = WIRE_BEGIN_SNAPSHOT;
  b->name = strtok_r (rest, " ", &rest);
  CHECK (b->name);
  while ((word = strtok_r (rest, " ", &rest)) != NULL)
    if (strcmp (word, "frozen") == 0)
      b->req.flags |= WIRE_BEGIN_FROZEN;
    else if (strncmp (word, "ms=", 3) == 0)
      b->req.deadline_ms = atoi (word + 3);
    else if (strcmp (word, "only-dirty") == 0)
      b->req.flags &= ~WIRE_BEGIN_SNAPSHOT;
    else if (strcmp (word, "durable") == 0)
      b->flags |= BMFILE_DURABLE;
    else if (strncmp (word, "dirty=", 6) == 0) {
      b->dirty = word + 6;
      b->req.flags |= WIRE_BEGIN_CHECKPOINT;
    }
    else
      CHECK (!"a known word");
}

/* Makes the files that a begin sends along. */
static int
begin_files (struct ctl *c, struct begin *b)
{
  uint8_t other[16];
  char *path;
  int fd;

  if (b->req.flags & WIRE_BEGIN_SNAPSHOT) {
    fd = create (c, BMFILE_MAP, b->name, b->flags, b->req.uuid);
    if (fd == -1)
      return -1;
    b->fds[b->nr_fds++] = fd;
    path = scratch_path (c, b->name);
    fd = scratch_create (path, c->hello.disk_size);
    free (path);
    if (fd == -1)
      return -1;
    b->fds[b->nr_fds++] = fd;
  }
  if (b->dirty) {
    fd = create (c, BMFILE_DIRTY, b->dirty, 0, other);
    if (fd == -1)
      return -1;
    b->fds[b->nr_fds++] = fd;
  }
  return 0;
}

static int
begin (struct ctl *c, char *args)
{
  struct begin b = { 0 };
  struct wire_reply reply;
  bool made;
  unsigned i;
  int r, err;

  parse_begin (&b, args);
  made = begin_files (c, &b) == 0;
  r = made ? call (c, &b.req, b.fds, b.nr_fds, &reply, NULL) : -1;
  err = errno;
  while (b.nr_fds > 0)
    close (b.fds[--b.nr_fds]);
  if (r == -1) {
    if (made)
      remove_files (c, b.name);
    errno = err;
    return -1;
  }
  printf ("ok ");
  for (i = 0; i < 16; i++)
    printf ("%02x", b.req.uuid[i]);
  printf (" %" PRIi64 " %" PRIu64 "\n", reply.u.begun.instant_ns,
          reply.u.begun.closed_ns);
  return 0;
}

static int
uuid_of (const struct ctl *c, const char *name, uint8_t uuid[16])
{
  char *file = file_path (c, name, ".map");
  const char *why;
  struct bmfile bf;
  int r = bmfile_open (file, false, BMFILE_MAP, &bf, &why);

  free (file);
  if (r == 0)
    memcpy (uuid, bf.fixed->uuid, 16);
  bmfile_close (&bf);
  return r;
}

static int
end (struct ctl *c, char *args)
{
  const char *name = strsep (&args, " ");
  struct wire_request req;
  struct wire_reply reply;

  wire_request_init (&req, WIRE_END, 0);
  if (uuid_of (c, name, req.uuid) == -1
      || call (c, &req, NULL, 0, &reply, NULL) == -1)
    return -1;
  if (!args)
    remove_files (c, name);
  printf ("ok\n");
  return 0;
}

static int
stats (struct ctl *c, const char *name)
{
  struct wire_request req;
  struct wire_reply reply;
  const struct wire_stats *s = &reply.u.stats;

  wire_request_init (&req, WIRE_STATS, 0);
  if ((name && uuid_of (c, name, req.uuid) == -1)
      || call (c, &req, NULL, 0, &reply, NULL) == -1)
    return -1;
#define SHOW(member) " " #member "=%" PRIu64
  printf ("ok" SHOW (writes) SHOW (written_bytes) SHOW (zeroes) SHOW (trims)
          SHOW (cow_requests) SHOW (held_requests) SHOW (failed_requests)
          SHOW (copied_clusters) SHOW (zero_clusters) SHOW (lost_clusters)
          SHOW (scratch_bytes) SHOW (clients) " cow_p50_us=%" PRIu64
          " cow_max_us=%" PRIu64 "\n", s->writes, s->written_bytes, s->zeroes,
          s->trims, s->cow_requests, s->held_requests, s->failed_requests,
          s->copied_clusters, s->zero_clusters, s->lost_clusters,
          s->scratch_bytes, s->clients, wire_quantile (s->histogram, 0.5),
          s->cow_max_us);
  return 0;
}

/* hex: a uuid, or NULL for whatever it is. */
static int
untrack (struct ctl *c, const char *hex)
{
  struct wire_request req;
  struct wire_reply reply;
  unsigned byte, i;

  wire_request_init (&req, WIRE_UNTRACK, 0);
  for (i = 0; hex && i < sizeof req.uuid; i++) {
    CHECK (sscanf (hex + 2 * i, "%2x", &byte) == 1);
    req.uuid[i] = byte;
  }
  return call (c, &req, NULL, 0, &reply, NULL);
}

static int
one (struct ctl *c, char *line)
{
  struct wire_reply reply;
  char *args = line, *op = strsep (&args, " ");
  int r;

  if (strcmp (op, "hello") == 0)
    return hello (c);
  if (strcmp (op, "begin") == 0)
    return begin (c, args);
  if (strcmp (op, "end") == 0)
    return end (c, args);
  if (strcmp (op, "stats") == 0)
    return stats (c, args);
  if (strcmp (op, "freeze") == 0)
    r = simple (c, WIRE_FREEZE, atoi (args), &reply);
  else if (strcmp (op, "thaw") == 0)
    r = simple (c, WIRE_THAW, 0, &reply);
  else if (strcmp (op, "hang-up") == 0)
    r = simple (c, WIRE_HANG_UP, 0, &reply);
  else if (strcmp (op, "untrack") == 0)
    r = untrack (c, args);
  else {
    CHECK (strcmp (op, "list") == 0);
    r = simple (c, WIRE_LIST, 0, &reply);
    if (r == 0)
      printf ("ok %u\n", reply.u.list.nr);
    return r;
  }
  if (r == 0)
    printf ("ok\n");
  return r;
}

int
main (int argc, char *argv[])
{
  struct ctl c = { 0 };
  struct wire_request req;
  struct wire_reply reply;
  char line[4096];

  CHECK (argc == 2 || argc == 4);
  c.state = argc == 4 ? argv[2] : NULL;
  c.live = argc == 4 ? argv[3] : NULL;
  c.sock = wire_connect (argv[1]);
  CHECK (c.sock != -1);
  wire_request_init (&req, WIRE_HELLO, 0);
  CHECK (call (&c, &req, NULL, 0, &reply, NULL) == 0);
  c.hello = reply.u.hello;
  while (fgets (line, sizeof line, stdin)) {
    line[strcspn (line, "\n")] = '\0';
    if (one (&c, line) == -1)
      printf ("error %s\n", strerrorname_np (errno));
    fflush (stdout);
  }
  return 0;
}
