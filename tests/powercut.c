/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Cuts the power at every place of a record, and looks at what is left. */

/*   powercut RECORD STATE-DIR LIVE LIVE-BEFORE CHOICES [LAST]
 *
 * RECORD is what record.c noted while a filter, and perhaps a copier, worked
 * with LIVE and the files in STATE-DIR, which are all there still; LIVE-BEFORE
 * is a copy of LIVE from the start of it.
 *
 * After each record the power fails.  A page that was written to and not flushed
 * may then have any of the contents that were noted for it since it was flushed,
 * or of each of its sectors one of them.  If there are not more than
 * $NBDFLEECE_EVERY states of all pages (without torn ones), each is tried.
 * Always tried are: the oldest of all, the newest of all, the newest of one page
 * and the oldest of the others, the other way round, and CHOICES times anything
 * at random.  powercut-look.c says what has to be true then.
 *
 * Places in the record are told by their offset; LAST is the first one that is
 * not tried.
 */

#include <config.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actlog.h"
#include "powercut.h"
#include "testing.h"

#define SECTOR 512
#define SECTORS (PAGE / SECTOR)

static const char zeroes[PAGE];

struct file files[FILES_MAX];
unsigned nr_files;
static struct rng rng;
static uint64_t every, cuts, cuts_in_full;

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

bool
has_suffix (const struct file *f, const char *suffix)
{
  size_t n = strlen (f->name), m = strlen (suffix);

  return n > m && strcmp (f->name + n - m, suffix) == 0;
}

const struct bmfile_live *
live_part (const char *header)
{
  return (const struct bmfile_live *) (header + BMFILE_LIVE_OFFSET);
}

/* The first time that a checkpoint or a snapshot is seen begun: what the disk is
 * now.  Somebody has asked for the end of one that has ended. */
static void
note_instants (void)
{
  unsigned i;
  uint64_t n;

  for (i = 1; i < nr_files; i++) {
    struct file *f = &files[i];

    if (!f->there || !(has_suffix (f, ".dirty") || has_suffix (f, ".map")))
      continue;
    if (live_part (newest (&f->pages[0]))->state == BMFILE_ENDED)
      f->told = false;
    if (f->instant
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
    if (files[i].instant
        && live_part (newest (&files[i].pages[0]))->state != BMFILE_ENDED)
      files[i].told = true;
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

/* How many states there are with no page torn, if at most as many as max. */
static uint64_t
count_states (uint64_t max)
{
  uint64_t product = 1, n;
  unsigned i;

  for (i = 0; i < nr_files; i++)
    for (n = 0; n < files[i].nr_pages && product <= max; n++)
      if (files[i].pages[n].nr > 1)
        product *= files[i].pages[n].nr;
  return product;
}

/* State number `which' of them. */
static void
cut_nth (uint64_t which)
{
  unsigned i, v;
  uint64_t n;

  for (i = 0; i < nr_files; i++)
    for (n = 0; n < files[i].nr_pages; n++) {
      const struct page *p = &files[i].pages[n];

      if (p->nr <= 1)
        continue;
      v = which % p->nr;
      which /= p->nr;
      memcpy (files[i].cut + n * PAGE, p->data[v], PAGE);
    }
}

static void
cut (uint64_t number, unsigned choices)
{
  unsigned nr = cut_all (OLDEST, UINT_MAX), i;
  uint64_t nr_states = count_states (every);

  look (number);
  cuts++;
  if (nr == 0)
    return;
  if (nr_states <= every) {
    for (i = 1; i < nr_states; i++) {
      cut_nth (i);
      look (number);
    }
    cuts_in_full++;
  }
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
    if (strstr (e->d_name, ".dirty") || strcmp (e->d_name, ACTLOG_NAME) == 0
        || strstr (e->d_name, ".map") || strstr (e->d_name, ".copy"))
      add_file (path, e->d_name);
    else if (strstr (e->d_name, ".scratch") || strstr (e->d_name, ".raw"))
      add_file (path, e->d_name)->there = true; /* a hole, on disk */
  }
  closedir (dir);
}

static void
play (const char *record, uint64_t size, unsigned choices, uint64_t stop)
{
  uint64_t at, number;
  struct record r;
  const char *data;

  for (at = 0; at + sizeof r <= size && at < stop;) {
    struct file *f;

    number = at;
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
    else if (r.type == RECORD_INITIAL && !f->there)
      apply_initial (f, data);
    else if (r.type == RECORD_FLUSH)
      apply_flush (f, &r);
    else
      apply_write (f, number, &r, r.type == RECORD_ZERO ? NULL : data);
    note_instants ();
    cut (number, choices);
  }
}

int
main (int argc, char **argv)
{
  const char *all = getenv ("NBDFLEECE_EVERY");
  const char *record;
  uint64_t size;

  CHECK (argc == 6 || argc == 7);
  every = all ? strtoull (all, NULL, 0) : 0;
  rng = rng_start ();
  look_start ();
  record = map_whole (argv[1], &size);
  find_files (argv[2], argv[3], argv[4]);
  play (record, size, atoi (argv[5]),
        argc == 7 ? strtoull (argv[6], NULL, 0) : UINT64_MAX);
  look_end ();
  printf ("powercut: %llu cuts, %llu of them in full, %llu states of the disk, "
          "%llu files looked at, %llu of them not believed and not told of\n",
          (unsigned long long) cuts, (unsigned long long) cuts_in_full,
          (unsigned long long) states, (unsigned long long) looked_at,
          (unsigned long long) refused);
  printf ("cases: power cuts: %llu\ncases: states after a power cut: %llu\n",
          (unsigned long long) cuts, (unsigned long long) states);
  CHECK (states > 0 && looked_at > refused);
  return 0;
}
