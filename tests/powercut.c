/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Cuts the power at every place of a record, and looks at what is left. */

/*   powercut RECORD STATE-DIR LIVE LIVE-BEFORE CHOICES [LAST]
 *
 * RECORD is what record.c noted while a filter served LIVE, with its files in
 * STATE-DIR, which are all there still; LIVE-BEFORE is a copy of LIVE from the
 * start of it.
 *
 * After each record, or each that is cut out for this, the power fails.  A page
 * that was written to and not flushed may then have any of the contents that
 * were noted for it since it was flushed, or of each of its sectors one of
 * them.  Tried are: the oldest of all, the newest of all, the newest of one page
 * and the oldest of the others, the other way round, and CHOICES times anything
 * at random.
 *
 * Then the filter's own code takes up what there is, on another run of the host,
 * and what it still believes must be true:
 *
 *   - for a checkpoint, whatever of the live disk differs from what it was at
 *     the instant is marked in its bitmap or a later one's,
 *   - and it is believed, if somebody had been told that it exists.
 */

#include <config.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actlog.h"
#include "activity.h"
#include "fleece.h"
#include "record.h"
#include "snapshot.h"
#include "testing.h"

#define PAGE RECORD_PAGE
#define SECTOR 512
#define SECTORS (PAGE / SECTOR)
#define FILES_MAX 16
#define VERSIONS_MAX 64

static const char zeroes[PAGE];

/* A page's contents since it was flushed last, oldest first; [0] is on disk. */
struct page {
  unsigned nr;
  uint64_t since[VERSIONS_MAX];
  const char *data[VERSIONS_MAX];
};

struct file {
  uint64_t ino, size;
  char name[256];               /* in STATE-DIR; "": the live disk */
  bool there;                   /* has been seen in the record */
  struct page *pages;
  uint64_t nr_pages;
  char *cut;                    /* content after the cut */

  /* A checkpoint's. */
  const char **instant;         /* the live disk's pages then, or NULL */
  bool told;                    /* somebody knows that it exists */
};

static struct file files[FILES_MAX]; /* the first is the live disk */
static unsigned nr_files;
static struct rng rng;
static const char *work;        /* directory of the files after the cut */
static uint64_t cuts, states, looked_at, refused;

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

/* -------------------------------------------------------------- the record */

static struct file *
file_of (uint64_t ino)
{
  unsigned i;

  for (i = 0; i < nr_files; i++)
    if (files[i].ino == ino)
      return &files[i];
  return NULL;
}

static struct file *
add_file (const char *path, const char *name)
{
  struct file *f = &files[nr_files];
  struct stat st;

  CHECK (nr_files < FILES_MAX && strlen (name) < sizeof f->name);
  CHECK (stat (path, &st) == 0);
  *f = (struct file) { .ino = st.st_ino, .size = st.st_size };
  strcpy (f->name, name);
  f->nr_pages = (f->size + PAGE - 1) / PAGE;
  f->pages = calloc (f->nr_pages, sizeof *f->pages);
  f->cut = calloc (f->nr_pages, PAGE);
  CHECK (f->pages && f->cut);
  nr_files++;
  return f;
}

static const char *
newest (const struct page *p)
{
  return p->nr == 0 ? zeroes : p->data[p->nr - 1];
}

static void
add_version (struct page *p, uint64_t number, const char *data)
{
  /* No room: the one after the oldest was there only for a moment. */
  if (p->nr == VERSIONS_MAX) {
    p->nr--;
    memmove (p->since + 1, p->since + 2, (p->nr - 1) * sizeof p->since[0]);
    memmove (p->data + 1, p->data + 2, (p->nr - 1) * sizeof p->data[0]);
  }
  p->since[p->nr] = number;
  p->data[p->nr++] = data;
}

/* Writes, of any alignment. */
static void
apply_write (struct file *f, uint64_t number, const struct record *r,
             const char *data)
{
  uint64_t at = r->offset, end = r->offset + r->length, n;

  for (; at < end && at / PAGE < f->nr_pages; at += n) {
    struct page *p = &f->pages[at / PAGE];
    char *copy = malloc (PAGE);

    CHECK (copy);
    n = PAGE - at % PAGE < end - at ? PAGE - at % PAGE : end - at;
    memcpy (copy, newest (p), PAGE);
    if (data)
      memcpy (copy + at % PAGE, data + (at - r->offset), n);
    else
      memset (copy + at % PAGE, 0, n);
    if (p->nr == 0)
      add_version (p, 0, zeroes);
    add_version (p, number, copy);
  }
}

static void
apply_flush (struct file *f, const struct record *r)
{
  uint64_t i, last = (r->offset + r->length + PAGE - 1) / PAGE;

  for (i = r->offset / PAGE; i < last && i < f->nr_pages; i++) {
    struct page *p = &f->pages[i];
    unsigned keep = 0;

    while (keep + 1 < p->nr && p->since[keep + 1] < r->upto)
      keep++;
    if (keep == 0)
      continue;
    memmove (p->since, p->since + keep, (p->nr - keep) * sizeof p->since[0]);
    memmove (p->data, p->data + keep, (p->nr - keep) * sizeof p->data[0]);
    p->nr -= keep;
  }
}

static void
apply_initial (struct file *f, const char *data)
{
  uint64_t i;

  for (i = 0; i < f->nr_pages; i++) {
    f->pages[i].nr = 0;
    add_version (&f->pages[i], 0, data + i * PAGE);
  }
  f->there = true;
}

static bool
is_checkpoint (const struct file *f)
{
  size_t n = strlen (f->name);

  return n > 6 && strcmp (f->name + n - 6, ".dirty") == 0;
}

static const struct bmfile_live *
live_part (const char *header)
{
  return (const struct bmfile_live *) (header + BMFILE_LIVE_OFFSET);
}

/* The first time that a checkpoint is seen begun: what the disk is now. */
static void
note_instants (void)
{
  unsigned i;
  uint64_t n;

  for (i = 1; i < nr_files; i++) {
    struct file *f = &files[i];

    if (!f->there || f->instant || !is_checkpoint (f)
        || live_part (newest (&f->pages[0]))->state != BMFILE_ACTIVE)
      continue;
    f->instant = calloc (files[0].nr_pages, sizeof *f->instant);
    CHECK (f->instant);
    for (n = 0; n < files[0].nr_pages; n++)
      f->instant[n] = newest (&files[0].pages[n]);
  }
}

static void
note_told (void)
{
  unsigned i;

  for (i = 1; i < nr_files; i++)
    if (files[i].instant)
      files[i].told = true;
}

/* --------------------------------------------------------------- the look */

static void
write_files (void)
{
  char path[PATH_MAX];
  unsigned i;
  int fd;

  for (i = 1; i < nr_files; i++) {
    snprintf (path, sizeof path, "%s/%s", work, files[i].name);
    if (!files[i].there) {
      unlink (path);
      continue;
    }
    fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK (fd != -1);
    CHECK (pwrite (fd, files[i].cut, files[i].size, 0)
           == (ssize_t) files[i].size);
    CHECK (ftruncate (fd, files[i].size) == 0);
    close (fd);
  }
}

/* As the daemon does before the filter starts. */
static void
remove_prepared (void)
{
  char path[PATH_MAX];
  unsigned i;

  for (i = 1; i < nr_files; i++)
    if (files[i].there && is_checkpoint (&files[i])
        && live_part (files[i].cut)->state == BMFILE_PREPARED) {
      snprintf (path, sizeof path, "%s/%s", work, files[i].name);
      unlink (path);
    }
}

static void
take_up (uint64_t disk_size)
{
  static struct fleece f;

  memset (&f, 0, sizeof f);
  f.options.export_name = "vda";
  f.options.state = work;
  f.disk_size = disk_size;
  CHECK (gate_init (&f.gate) == 0);
  CHECK (snapshots_load (&f) == 0);
  /* No unload: that would be a clean stop. */
  tracking_free (snapset_current (&f)->tracking);
  free (snapset_current (&f));
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
  exit (EXIT_FAILURE);
}

static void
check_one (const struct file *f, uint64_t number, bool believed,
           const bm_word *dirty)
{
  uint64_t n;

  looked_at++;
  refused += !believed;
  if (!believed && f->told)
    complain (f, number, "is not believed", 0);
  for (n = 0; believed && n < files[0].nr_pages; n++)
    if (memcmp (files[0].cut + n * PAGE, f->instant[n], PAGE) != 0
        && !bm_test (dirty, n))
      complain (f, number, "a change is missing at cluster", n);
}

static void
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

/* ---------------------------------------------------------------- the cut */

enum choice { OLDEST, NEWEST, ANY };

static void
cut_page (struct file *f, uint64_t n, enum choice choice)
{
  const struct page *p = &f->pages[n];
  char *to = f->cut + n * PAGE;
  unsigned s;
  bool torn = rng_below (&rng, 4) == 0;
  unsigned v = p->nr == 0 ? 0 : rng_below (&rng, p->nr);

  if (p->nr == 0)
    memset (to, 0, PAGE);
  else if (choice != ANY)
    memcpy (to, p->data[choice == OLDEST ? 0 : p->nr - 1], PAGE);
  else
    for (s = 0; s < SECTORS; s++) {
      if (torn)
        v = rng_below (&rng, p->nr);
      memcpy (to + s * SECTOR, p->data[v] + s * SECTOR, SECTOR);
    }
}

/* All pages one way, but that number `other' in order of the unflushed ones
 * goes the other way; returns how many unflushed ones there are. */
static unsigned
cut_all (enum choice choice, unsigned other)
{
  unsigned i, nr = 0;
  uint64_t n;

  for (i = 0; i < nr_files; i++)
    for (n = 0; n < files[i].nr_pages; n++) {
      bool unflushed = files[i].pages[n].nr > 1;

      cut_page (&files[i], n, unflushed && nr == other
                ? (choice == OLDEST ? NEWEST : OLDEST) : choice);
      nr += unflushed;
    }
  return nr;
}

static void
cut (uint64_t number, unsigned choices)
{
  unsigned nr = cut_all (OLDEST, UINT_MAX), i;

  look (number);
  cuts++;
  if (nr == 0)
    return;
  cut_all (NEWEST, UINT_MAX);
  look (number);
  for (i = 0; nr > 1 && i < nr && i < choices; i++) {
    unsigned one = nr <= choices ? i : rng_below (&rng, nr);

    cut_all (OLDEST, one);
    look (number);
    cut_all (NEWEST, one);
    look (number);
  }
  for (i = 0; i < choices; i++) {
    cut_all (ANY, UINT_MAX);
    look (number);
  }
}

/* ---------------------------------------------------------------- reading */

static char *
map_whole (const char *path, uint64_t *size)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  struct stat st;
  char *p;

  CHECK (fd != -1 && fstat (fd, &st) == 0 && st.st_size > 0);
  *size = st.st_size;
  p = mmap (NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  CHECK (p != MAP_FAILED);
  close (fd);
  return p;
}

static void
find_files (const char *state, const char *live, const char *before)
{
  char path[PATH_MAX];
  DIR *dir = opendir (state);
  struct dirent *e;
  struct file *f = add_file (live, "");
  uint64_t size;
  char *data = map_whole (before, &size);

  CHECK (dir && size == f->size && size % PAGE == 0);
  apply_initial (f, data);
  while ((e = readdir (dir))) {
    snprintf (path, sizeof path, "%s/%s", state, e->d_name);
    if (strstr (e->d_name, ".dirty") || strcmp (e->d_name, ACTLOG_NAME) == 0)
      add_file (path, e->d_name);
  }
  closedir (dir);
}

static void
play (const char *record, uint64_t size, unsigned choices, uint64_t stop)
{
  uint64_t at, number = 0;
  struct record r;
  const char *data;

  for (at = 0; at + sizeof r <= size && number < stop; number++) {
    struct file *f;

    memcpy (&r, record + at, sizeof r);
    data = record + at + sizeof r;
    at += sizeof r;
    if (r.type == RECORD_INITIAL || r.type == RECORD_WRITE)
      at += r.length;
    if (at > size)
      break;                    /* killed in the middle of it */
    f = file_of (r.ino);
    if (r.type == RECORD_SENT)
      note_told ();
    else if (!f)
      continue;
    else if (r.type == RECORD_INITIAL)
      apply_initial (f, data);
    else if (r.type == RECORD_FLUSH)
      apply_flush (f, &r);
    else
      apply_write (f, number, &r, r.type == RECORD_WRITE ? data : NULL);
    note_instants ();
    cut (number, choices);
  }
}

int
main (int argc, char **argv)
{
  char template[] = "/dev/shm/powercut-XXXXXX", command[PATH_MAX];
  uint64_t size;
  const char *record;

  CHECK (argc == 6 || argc == 7);
  rng = rng_start ();
  if (access ("/dev/shm", W_OK) == -1)
    strcpy (template, "/tmp/powercut-XXXXXX");
  work = mkdtemp (template);
  CHECK (work);
  record = map_whole (argv[1], &size);
  find_files (argv[2], argv[3], argv[4]);
  play (record, size, atoi (argv[5]),
        argc == 7 ? strtoull (argv[6], NULL, 0) : UINT64_MAX);
  snprintf (command, sizeof command, "rm -rf %s", work);
  CHECK (system (command) == 0);
  printf ("powercut: %llu cuts, %llu states of the disk, %llu checkpoints "
          "looked at, %llu of them not believed and not yet told of\n",
          (unsigned long long) cuts, (unsigned long long) states,
          (unsigned long long) looked_at, (unsigned long long) refused);
  printf ("cases: power cuts: %llu\ncases: states after a power cut: %llu\n",
          (unsigned long long) cuts, (unsigned long long) states);
  CHECK (states > 0 && looked_at > refused);
  return 0;
}
