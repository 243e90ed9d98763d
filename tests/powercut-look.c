/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What a power cut has left, taken up by the filter's own code and judged. */

/* What the filter still believes on the next run of the host must be true:
 *
 *   - for a checkpoint, whatever of the live disk differs from what it was at
 *     the instant is marked in its bitmap or a later one's;
 *   - for a snapshot, each cluster has the content of the instant where the map
 *     says that it is to be read; and if a job copies it (NAME.copy, NAME.raw),
 *     what is still wanted can be read, and what is not is in the target;
 *   - and it is believed, if somebody had been told that it exists.
 */

#include <config.h>

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "activity.h"
#include "control.h"
#include "fleece.h"
#include "map.h"
#include "next.h"
#include "powercut.h"
#include "snapshot.h"
#include "testing.h"
#include "timed.h"

static const char *work;        /* directory of the files after the cut */
uint64_t states, looked_at, refused;

/* -------------------------------------------------------------- stand-ins */

static char said[1024];

void
nbdkit_error (const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (said, sizeof said, format, args);
  va_end (args);
}

void
nbdkit_debug (const char *format, ...)
{
  (void) format;
}

/* For the boot id, the only stream that is opened here: that of another run of
 * the host. */
static FILE *
other_boot_id (void)
{
  static char id[] = "01234567-89ab-cdef-0123-456789abcdef\n";

  return fmemopen (id, sizeof id - 1, "r");
}

FILE *
fopen (const char *path, const char *mode)
{
  (void) path, (void) mode;
  return other_boot_id ();
}

FILE *
fopen64 (const char *path, const char *mode)
{
  (void) path, (void) mode;
  return other_boot_id ();
}

struct activity *
activity_new (struct fleece *f, struct bmfile *log)
{
  (void) f;
  bmfile_close (log);
  return NULL;
}

int
activity_track (struct activity *a, struct bmfile *tracking)
{
  (void) a, (void) tracking;
  return 0;
}

void
activity_retire (struct activity *a, struct bmfile *tracking)
{
  (void) a, (void) tracking;
}

void
activity_drop (struct activity *a, struct bmfile *tracking)
{
  (void) a, (void) tracking;
}

bool
activity_covers (struct activity *a, const struct bmfile *tracking)
{
  (void) a, (void) tracking;
  return false;
}

void
activity_bind (struct activity *a, struct bmfile *tracking)
{
  (void) a, (void) tracking;
}

nbdkit_next *
next_open (nbdkit_backend *backend, bool readonly)
{
  (void) backend, (void) readonly;
  return NULL;
}

void
next_close (nbdkit_next *next)
{
  (void) next;
}

int
timed_fdatasync (struct timed *t, int fd)
{
  (void) t;
  return fdatasync (fd);
}

void
control_poke (struct control *c)
{
  (void) c;
}

/* --------------------------------------------------------------- the look */

void
look_start (void)
{
  static char template[] = "/dev/shm/powercut-XXXXXX";

  if (access ("/dev/shm", W_OK) == -1)
    strcpy (template, "/tmp/powercut-XXXXXX");
  work = mkdtemp (template);
  CHECK (work);
}

void
look_end (void)
{
  char command[PATH_MAX];

  snprintf (command, sizeof command, "rm -rf %s", work);
  CHECK (system (command) == 0);
}

static bool
begins (const struct file *f)
{
  return has_suffix (f, ".dirty") || has_suffix (f, ".map");
}

/* The scratch of a map is where we put it. */
static void
lead_to_scratch (char *header)
{
  struct bmfile_fixed *fixed = (struct bmfile_fixed *) header;
  struct bmfile_live *live = (struct bmfile_live *) (header
                                                     + BMFILE_LIVE_OFFSET);
  const char *name = strrchr (fixed->scratch, '/');
  char path[PATH_MAX];
  struct stat st;

  if (!name || strlen (work) + strlen (name) >= sizeof fixed->scratch)
    return;
  snprintf (path, sizeof path, "%s%s", work, name);
  memset (fixed->scratch, 0, sizeof fixed->scratch);
  strcpy (fixed->scratch, path);
  fixed->checksum = crc32 (crc32 (0, NULL, 0), (const void *) fixed,
                           offsetof (struct bmfile_fixed, checksum));
  if (stat (path, &st) == 0)
    live->scratch_ino = st.st_ino;
}

static void
write_file (const struct file *f)
{
  char path[PATH_MAX], header[PAGE];
  int fd;

  snprintf (path, sizeof path, "%s/%s", work, f->name);
  if (!f->there) {
    unlink (path);
    return;
  }
  fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  CHECK (fd != -1);
  CHECK (pwrite (fd, f->cut, f->size, 0) == (ssize_t) f->size);
  CHECK (ftruncate (fd, f->size) == 0);
  if (has_suffix (f, ".map")) {
    memcpy (header, f->cut, PAGE);
    lead_to_scratch (header);
    CHECK (pwrite (fd, header, PAGE, 0) == PAGE);
  }
  close (fd);
}

/* What the filter looks at; maps last, as they say what their scratch is. */
static void
write_files (void)
{
  unsigned i;

  for (i = 1; i < nr_files; i++)
    if (!has_suffix (&files[i], ".map") && !has_suffix (&files[i], ".raw"))
      write_file (&files[i]);
  for (i = 1; i < nr_files; i++)
    if (has_suffix (&files[i], ".map"))
      write_file (&files[i]);
}

/* As the daemon does before the filter starts. */
static void
remove_prepared (void)
{
  char path[PATH_MAX];
  unsigned i;

  for (i = 1; i < nr_files; i++)
    if (files[i].there && begins (&files[i])
        && live_part (files[i].cut)->state == BMFILE_PREPARED) {
      snprintf (path, sizeof path, "%s/%s", work, files[i].name);
      unlink (path);
    }
}

static void
take_up (uint64_t disk_size)
{
  static struct fleece f;
  struct snapset *set;
  unsigned i;

  memset (&f, 0, sizeof f);
  f.options.export_name = "vda";
  f.options.state = work;
  f.disk_size = disk_size;
  CHECK (gate_init (&f.gate) == 0);
  CHECK (snapshots_load (&f) == 0);
  /* No unload: that would be a clean stop. */
  set = snapset_current (&f);
  for (i = 0; i < set->nr; i++)
    snapshot_free (set->snapshots[i]);
  tracking_free (set->tracking);
  free (set);
  gate_destroy (&f.gate);
}

/* Adds what is marked in the bitmap and all that follow.  False: not
 * believed. */
static bool
add_chain (const struct bmfile *all, unsigned nr, unsigned n, bm_word *dirty)
{
  uint32_t state = atomic_load (&all[n].live->state);
  unsigned i;

  if (state != BMFILE_ACTIVE && state != BMFILE_FROZEN)
    return false;
  bm_or (dirty, all[n].bits[0], all[n].nr_clusters);
  for (i = 0; i < nr; i++)
    if (memcmp (all[i].live->prev, all[n].fixed->uuid, 16) == 0)
      return add_chain (all, nr, i, dirty);
  return state == BMFILE_ACTIVE;
}

static void
complain (const struct file *f, uint64_t number, const char *what, uint64_t n)
{
  fprintf (stderr, "powercut: FAILED: after record %llu: %s: %s (%llu)\n"
           "powercut: the last thing that was said: %s\n",
           (unsigned long long) number, f->name, what,
           (unsigned long long) n, said);
  look_end ();
  exit (EXIT_FAILURE);
}

static void
note_belief (const struct file *f, uint64_t number, bool believed)
{
  looked_at++;
  refused += !believed;
  if (!believed && f->told)
    complain (f, number, "is not believed", 0);
}

static void
check_one (const struct file *f, uint64_t number, bool believed,
           const bm_word *dirty)
{
  uint64_t n;

  note_belief (f, number, believed);
  for (n = 0; believed && n < files[0].nr_pages; n++)
    if (memcmp (files[0].cut + n * PAGE, f->instant[n], PAGE) != 0
        && !bm_test (dirty, n))
      complain (f, number, "a change is missing at cluster", n);
}

/* ------------------------------------------------------------- snapshots */

static const struct file *
file_named (const char *name)
{
  unsigned i;

  for (i = 1; i < nr_files; i++)
    if (strcmp (files[i].name, name) == 0)
      return &files[i];
  return NULL;
}

/* The file that goes by the map's name. */
static const struct file *
beside_map (const struct file *map, const char *format)
{
  char name[512], stem[256];

  snprintf (stem, sizeof stem, "%.*s",
            (int) (strlen (map->name) - strlen (".map")), map->name);
  snprintf (name, sizeof name, format, stem);
  return file_named (name);
}

static bool
is_old (const struct file *map, const char *pages, uint64_t cluster)
{
  return memcmp (pages + cluster * PAGE, map->instant[cluster], PAGE) == 0;
}

/* What a reader would get. */
static void
check_cluster (const struct file *f, uint64_t number, uint64_t cluster,
               enum map_state state, const char *scratch)
{
  if (state == MAP_LIVE && !is_old (f, files[0].cut, cluster))
    complain (f, number, "new data at cluster", cluster);
  if (state == MAP_COPIED && !is_old (f, scratch, cluster))
    complain (f, number, "wrong data in the scratch at cluster", cluster);
  if (state == MAP_LOST)
    complain (f, number, "lost without an error, cluster", cluster);
}

/* Of a job that copies the snapshot: what it still has to deliver can be read,
 * and what it has delivered is there. */
static void
check_job (const struct file *f, uint64_t number, const struct bmfile *map)
{
  const struct file *copy = beside_map (f, "%s.copy");
  const struct file *target = beside_map (f, "%s.raw");
  const bm_word *wanted;
  uint64_t n;

  if (!copy || !target || !copy->there)
    return;
  wanted = (const bm_word *) (copy->cut + BMFILE_HEADER_SIZE);
  for (n = 0; n < map->nr_clusters; n++) {
    bool released = bm_test (map->bits[MAP_RELEASED_BITS], n);

    if (bm_test (wanted, n) && released)
      complain (f, number, "wanted and released, cluster", n);
    if (!bm_test (wanted, n) && !is_old (f, target->cut, n))
      complain (f, number, "delivered and not there, cluster", n);
  }
}

static void
check_snapshot (const struct file *f, uint64_t number)
{
  const struct file *scratch = beside_map (f, "vda@%s.scratch");
  char path[PATH_MAX];
  struct bmfile map;
  const char *why;
  bool believed;
  uint64_t n;

  snprintf (path, sizeof path, "%s/%s", work, f->name);
  if (bmfile_open (path, false, BMFILE_MAP, &map, &why) == -1) {
    note_belief (f, number, false); /* on disk it had not begun */
    return;
  }
  CHECK (scratch && 1 << map.cluster_bits == PAGE);
  believed = map_is_active (&map);
  note_belief (f, number, believed);
  for (n = 0; believed && n < map.nr_clusters; n++)
    check_cluster (f, number, n, map_next_run (&map, n, n + 1).state,
                   scratch->cut);
  if (believed)
    check_job (f, number, &map);
  bmfile_close (&map);
}

void
look (uint64_t number)
{
  struct bmfile all[FILES_MAX];
  const struct file *of[FILES_MAX];
  char path[PATH_MAX];
  unsigned nr = 0, i;
  const char *why;

  said[0] = '\0';
  write_files ();
  remove_prepared ();
  take_up (files[0].size);
  for (i = 1; i < nr_files; i++) {
    if (!files[i].instant)
      continue;
    if (has_suffix (&files[i], ".map")) {
      check_snapshot (&files[i], number);
      continue;
    }
    snprintf (path, sizeof path, "%s/%s", work, files[i].name);
    if (bmfile_open (path, false, BMFILE_DIRTY, &all[nr], &why) == 0)
      of[nr++] = &files[i];
    else if (files[i].told)
      complain (&files[i], number, "is gone", 0);
  }
  for (i = 0; i < nr; i++) {
    bm_word *dirty = calloc (1, bm_bytes (all[i].nr_clusters));

    CHECK (dirty);
    check_one (of[i], number, add_chain (all, nr, i, dirty), dirty);
    free (dirty);
  }
  for (i = 0; i < nr; i++)
    bmfile_close (&all[i]);
  states++;
}

