/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* From which checkpoints a snapshot has a consistent incremental. */

/* A tracking bitmap has every cluster that was written from its checkpoint up
 * to the next one (FROZEN) or up to now (ACTIVE).  With a snapshot of the
 * instant t they lie like this:
 *
 *        C1            C2            C3             checkpoints
 *        |──dirty(C1)──|──dirty(C2)──|──dirty(C3)──▶
 *                                    t              made with C3
 *                            t                      made in between
 *
 * What changed from C1 to t is in the union of the bitmaps that begin before
 * t, from C1 on.  Made together with a checkpoint, the snapshot has that one's
 * instant, and the union is exact.  Made in between, the last bitmap goes on
 * rising after t: the union is a superset, which is still right (clusters that
 * have not changed are copied once more) and all that can be had.
 *
 * A gap would be unforgivable, so every link has to be there:
 *
 *   - the last bitmap is ACTIVE, or FROZEN and followed by a checkpoint, at t
 *     or later, whose `prev' is it: tracking did not stop before t;
 *   - each one before is FROZEN, is the `prev' of the one after it, and is
 *     older;
 *   - all are of this disk's size, and whole on this host (bmfile_is_settled).
 *
 * The walk ends at the first link that is not.  A deleted checkpoint's file is
 * renamed to .UUID and stays a link until its bits are in the one before (or,
 * the newest one, until another follows).  Files may be renamed and removed
 * while they are looked for: if one was, all is looked for once more.  A bitmap that becomes
 * INCONSISTENT later is noticed by tracking_ok, which is asked at every use.
 *
 * A snapshot that was limited to what changed since a checkpoint (its `parent')
 * can be read nowhere else.  So nothing before that checkpoint is offered, and
 * nothing at all if the last bitmap has risen since, or if the parent is no
 * link any more: then what is before it says more than can be read.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"
#include "tracking.h"

#define SUFFIX ".dirty"
#define FILES_MAX 4096          /* in one export's directory */

#define TRIES 3                 /* to find what is being renamed */

/* What is known of one file before it is decided to use it. */
struct found {
  char name[NAME_LENGTH_MAX + 1]; /* without SUFFIX; of a deleted one: .UUID */
  uint8_t uuid[16], prev[16];   /* prev: of the one before; 0: none */
  int64_t instant_ns;
  enum bmfile_state state;
};

struct search {
  int dir;
  const struct bmfile *map;
  int64_t instant_ns;           /* of the snapshot */
  struct found *found;
  size_t nr;
  bool moved;                   /* a file was not found where it was */
};

static bool
is_deleted (const char *name)
{
  return name[0] == '.';
}

static bool
bears_name (const struct bmfile *bf, const char *name)
{
  char uuid[UUID_SIZE];

  if (!is_deleted (name))
    return strcmp (bf->fixed->name, name) == 0;
  format_uuid (bf->fixed->uuid, uuid);
  return strcmp (uuid, name + 1) == 0;
}

/* name: at most NAME_LENGTH_MAX bytes. */
static int
open_bitmap (const struct search *s, const char *name, struct bmfile *bf)
{
  char file[NAME_LENGTH_MAX + sizeof SUFFIX];
  const char *why;
  int fd, r;

  if (!is_deleted (name) && !name_ok (name)) {
    errno = EINVAL;
    return -1;
  }
  strcpy (file, name);
  strcat (file, SUFFIX);
  fd = openat (s->dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd == -1)
    return -1;
  r = bmfile_open_fd (fd, false, BMFILE_DIRTY, bf, &why);
  close (fd);
  if (r == 0 && strcmp (bf->fixed->export_name,
                        s->map->fixed->export_name) == 0
      && bears_name (bf, name)
      && bf->disk_size == s->map->disk_size)
    return 0;
  bmfile_close (bf);
  errno = EINVAL;
  return -1;
}

static bool
usable (const struct bmfile *bf)
{
  enum bmfile_state state = atomic_load (&bf->live->state);

  return (state == BMFILE_ACTIVE || state == BMFILE_FROZEN)
    && bmfile_is_settled (bf);
}

/* Notes what a file says, if it is a bitmap that has begun. */
static int
note_file (struct search *s, const char *file)
{
  size_t len = strlen (file), suffix = strlen (SUFFIX);
  struct found *f, *more;
  char name[NAME_LENGTH_MAX + 1];
  struct bmfile bf;

  if (len <= suffix || len - suffix > NAME_LENGTH_MAX
      || strcmp (file + len - suffix, SUFFIX) != 0)
    return 0;
  memcpy (name, file, len - suffix);
  name[len - suffix] = '\0';
  if (open_bitmap (s, name, &bf) == -1)
    return 0;
  if (s->nr % 64 == 0) {
    more = s->nr < FILES_MAX ? realloc (s->found, (s->nr + 64) * sizeof *more)
      : NULL;
    if (!more) {
      bmfile_close (&bf);
      errno = ENOMEM;
      return -1;
    }
    s->found = more;
  }
  f = &s->found[s->nr];
  strcpy (f->name, name);
  memcpy (f->uuid, bf.fixed->uuid, sizeof f->uuid);
  memcpy (f->prev, bf.live->prev, sizeof f->prev);
  f->instant_ns = atomic_load (&bf.live->instant_ns);
  f->state = atomic_load (&bf.live->state);
  if (f->instant_ns != 0 && f->state != BMFILE_PREPARED)
    s->nr++;
  bmfile_close (&bf);
  return 0;
}

static int
note_all (struct search *s)
{
  int fd = openat (s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
  DIR *d = fd == -1 ? NULL : fdopendir (fd);
  struct dirent *e;

  if (!d) {
    if (fd != -1)
      close (fd);
    return -1;
  }
  while (r == 0 && (e = readdir (d)))
    r = note_file (s, e->d_name);
  closedir (d);
  return r;
}

static bool
is_scoped (const struct search *s)
{
  return s->map->fixed->parent[0] != '\0';
}

/* The first checkpoint that follows f, at the snapshot's instant or later. */
static const struct found *
successor (const struct search *s, const struct found *f)
{
  size_t i;

  for (i = 0; i < s->nr; i++)
    if (s->found[i].instant_ns >= s->instant_ns
        && memcmp (s->found[i].prev, f->uuid, sizeof f->uuid) == 0)
      return &s->found[i];
  return NULL;
}

/* Tracking did not stop between f and the snapshot. */
static bool
reaches (const struct search *s, const struct found *f)
{
  const struct found *after = successor (s, f);

  if (is_scoped (s))
    return after && after->instant_ns == s->instant_ns;
  return after || f->state == BMFILE_ACTIVE;
}

/* The newest bitmap that begins before the snapshot and reaches up to it.
 * One that does not is passed over, not given up at: a deleted one is there
 * for a moment after what follows it was linked to the one before, which has
 * its bits by then. */
static const struct found *
last_bitmap (const struct search *s)
{
  const struct found *last = NULL, *f;
  size_t i;

  for (i = 0; i < s->nr; i++) {
    f = &s->found[i];
    if (f->instant_ns < s->instant_ns && reaches (s, f)
        && (!last || f->instant_ns > last->instant_ns))
      last = f;
  }
  return last;
}

static const struct found *
predecessor (struct search *s, const struct found *f)
{
  static const uint8_t none[sizeof f->prev];
  size_t i;

  if (memcmp (f->prev, none, sizeof none) == 0)
    return NULL;
  for (i = 0; i < s->nr; i++)
    if (memcmp (s->found[i].uuid, f->prev, sizeof f->prev) == 0)
      return &s->found[i];
  s->moved = true;
  return NULL;
}

/* Opens f as the next one back.  before_ns: what its instant must be before.
 * False if it cannot be used. */
static bool
add_link (struct search *s, const struct found *f, int64_t before_ns,
          struct tracking *t)
{
  struct bmfile *bf = &t->maps[t->nr];

  if (open_bitmap (s, f->name, bf) == -1) {
    s->moved = true;
    return false;
  }
  if (usable (bf) && memcmp (bf->fixed->uuid, f->uuid, sizeof f->uuid) == 0
      && atomic_load (&bf->live->instant_ns) == f->instant_ns
      && f->instant_ns < before_ns
      && (t->nr == 0 || atomic_load (&bf->live->state) == BMFILE_FROZEN)) {
    if (is_deleted (f->name))
      t->deleted[t->nr / 64] |= UINT64_C (1) << t->nr % 64;
    t->nr++;
    return true;
  }
  bmfile_close (bf);
  return false;
}

static bool
is_parent (const struct search *s, const struct bmfile *bf)
{
  return strcmp (bf->fixed->name, s->map->fixed->parent) == 0;
}

static void
walk_back (struct search *s, const struct found *f, struct tracking *t)
{
  int64_t before_ns = s->instant_ns;

  while (f && t->nr < TRACKING_MAX && add_link (s, f, before_ns, t)) {
    if (is_scoped (s) && is_parent (s, &t->maps[t->nr - 1]))
      return;
    before_ns = f->instant_ns;
    f = predecessor (s, f);
  }
  if (is_scoped (s))
    while (t->nr > 0)
      bmfile_close (&t->maps[--t->nr]);
}

/* Most walks are short, and every connection has one. */
static void
shrink (struct tracking *t)
{
  struct bmfile *less;

  if (t->nr == 0)
    tracking_close (t);
  else if ((less = realloc (t->maps, t->nr * sizeof *less)) != NULL)
    t->maps = less;
}

static int
find_all (struct search *s, struct tracking *t)
{
  const struct found *last;
  int r;

  *t = (struct tracking) { 0 };
  s->nr = 0;
  s->moved = false;
  r = note_all (s);
  last = r == 0 ? last_bitmap (s) : NULL;
  if (last) {
    t->maps = calloc (TRACKING_MAX, sizeof *t->maps);
    if (t->maps)
      walk_back (s, last, t);
    else
      r = -1;
    shrink (t);
  }
  free (s->found);
  s->found = NULL;
  return r;
}

int
tracking_open (int export_dir, const struct bmfile *map, struct tracking *t)
{
  struct search s = {
    .dir = export_dir, .map = map,
    .instant_ns = atomic_load (&map->live->instant_ns),
  };
  unsigned i;
  int r;

  for (i = 0; (r = find_all (&s, t)) == 0 && s.moved && i < TRIES - 1; i++)
    tracking_close (t);
  return r;
}

void
tracking_close (struct tracking *t)
{
  while (t->nr > 0)
    bmfile_close (&t->maps[--t->nr]);
  free (t->maps);
  *t = (struct tracking) { 0 };
}

bool
tracking_is_deleted (const struct tracking *t, unsigned i)
{
  return t->deleted[i / 64] >> i % 64 & 1;
}

bool
tracking_ok (const struct tracking *t, unsigned i)
{
  unsigned n;

  for (n = 0; n <= i; n++) {
    uint32_t state = atomic_load (&t->maps[n].live->state);

    if (state != BMFILE_ACTIVE && state != BMFILE_FROZEN)
      return false;
  }
  return true;
}
