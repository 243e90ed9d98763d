/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Fuzz target: files of bitmaps, and the reader on top of a map. */

/* The input is two bytes of instructions, the fixed part of the header, the
 * live part, and the bitmaps, without the gaps between them:
 *
 *   0  bits: 1 the checksum is made right; 2 the sizes that follow from others
 *      are; 4 the file gets the length that its header says; 8 it is opened
 *      for writing; 16 its names are terminated
 *   1  kind that is asked for
 *
 * What must hold: what is opened is a file that bmfile.h describes, whatever
 * reads its bits stays inside, and each cluster reads as a plain look at its
 * three bits says: from the live disk, from the scratch, or not at all.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include "dirty.h"
#include "fuzz.h"
#include "live.h"
#include "reader.h"
#include "scratch.h"
#include "statedir.h"

#define FILE_MAX (4 << 20)      /* longer ones are only opened */
#define CLUSTERS_MAX 256        /* of more, only some are looked at */
#define LIVE_BYTE 'L'           /* what the live disk is full of */

enum { RIGHT_SUM = 1, RIGHT_SIZES = 2, RIGHT_LENGTH = 4, WRITABLE = 8,
       RIGHT_NAMES = 16 };

/* What is the same for all inputs. */
static struct world {
  char dir[64];
  int state_dir, file, scratch;
} world;

/* ------------------------------------------------------------- the live disk */

static int
live_pread (struct live *live, void *buf, uint32_t count, uint64_t offset)
{
  if (offset > live->size || count > live->size - offset)
    abort ();
  memset (buf, LIVE_BYTE, count);
  return 0;
}

static int64_t
live_extent (struct live *live, uint64_t offset, uint64_t count, int *is_hole)
{
  if (count == 0 || offset > live->size || count > live->size - offset)
    abort ();
  *is_hole = offset / 65536 % 2;
  return 65536 - offset % 65536 < count ? 65536 - offset % 65536 : count;
}

static void
live_close (struct live *live)
{
  (void) live;
}

static const struct live_ops live_ops = {
  .pread = live_pread, .extent = live_extent, .close = live_close,
};

/* ------------------------------------------------------------------ the world */

static void
remove_world (void)
{
  static const char *const files[] = {
    "/exports/vda/s.map", "/exports/vda", "/exports", "",
  };
  char path[128];
  size_t i;

  for (i = 0; i < sizeof files / sizeof files[0]; i++) {
    snprintf (path, sizeof path, "%s%s", world.dir, files[i]);
    remove (path);
  }
}

static void
make_world (void)
{
  char path[128];

  fuzz_make_dir (world.dir);
  atexit (remove_world);
  snprintf (path, sizeof path, "%s/exports", world.dir);
  mkdir (path, 0700);
  snprintf (path, sizeof path, "%s/exports/vda", world.dir);
  mkdir (path, 0700);
  snprintf (path, sizeof path, "%s/exports/vda/s.map", world.dir);
  world.file = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  world.state_dir = open (world.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  world.scratch = memfd_create ("scratch", MFD_CLOEXEC);
  if (world.file == -1 || world.state_dir == -1 || world.scratch == -1)
    abort ();
}

/* Takes up to n bytes of the input. */
static void
take (const uint8_t **data, size_t *size, void *to, size_t n)
{
  if (n > *size)
    n = *size;
  memcpy (to, *data, n);
  *data += n;
  *size -= n;
}

static void
put_right (struct bmfile_fixed *f, unsigned mode)
{
  uint64_t cs = f->cluster_size, bytes;

  if (mode & RIGHT_NAMES) {
    f->export_name[sizeof f->export_name - 1] = '\0';
    f->name[sizeof f->name - 1] = '\0';
    f->parent[sizeof f->parent - 1] = '\0';
    f->live[sizeof f->live - 1] = '\0';
    f->scratch[sizeof f->scratch - 1] = '\0';
  }
  if ((mode & RIGHT_SIZES) && cs > 0 && f->disk_size <= BMFILE_DISK_MAX) {
    f->header_size = BMFILE_HEADER_SIZE;
    f->nr_bitmaps = f->kind == BMFILE_MAP ? 3 : 1;
    f->nr_clusters = f->disk_size / cs + (f->disk_size % cs != 0);
    bytes = (bm_bytes (f->nr_clusters) + 4095) / 4096 * 4096;
    f->file_size = BMFILE_HEADER_SIZE + f->nr_bitmaps * bytes;
  }
  if (mode & RIGHT_SUM)
    f->checksum = crc32 (crc32 (0, NULL, 0), (const void *) f,
                         offsetof (struct bmfile_fixed, checksum));
}

static void
write_file (const uint8_t *data, size_t size, unsigned mode)
{
  struct bmfile_fixed f = { 0 };
  uint8_t live[sizeof (struct bmfile_live)] = { 0 };
  off_t length;

  take (&data, &size, &f, sizeof f);
  take (&data, &size, live, sizeof live);
  put_right (&f, mode);
  length = BMFILE_HEADER_SIZE + size;
  if ((mode & RIGHT_LENGTH) && f.file_size <= FILE_MAX)
    length = f.file_size;
  if (ftruncate (world.file, 0) == -1
      || pwrite (world.file, &f, sizeof f, 0) != sizeof f
      || pwrite (world.file, live, sizeof live, BMFILE_LIVE_OFFSET)
      != sizeof live
      || pwrite (world.file, data, size, BMFILE_HEADER_SIZE)
      != (ssize_t) size
      || ftruncate (world.file, length) == -1)
    abort ();
}

/* --------------------------------------------------------------- the checking */

static void
check_open (const struct bmfile *bf)
{
  struct stat st;
  unsigned i;

  if (fstat (world.file, &st) == -1
      || bf->map_size != (uint64_t) st.st_size
      || bf->nr_clusters == 0 || bf->disk_size == 0
      || ((bf->nr_clusters - 1) << bf->cluster_bits) >= bf->disk_size
      || !name_ok (bf->fixed->export_name) || !name_ok (bf->fixed->name)
      || strlen (bf->fixed->live) >= sizeof bf->fixed->live
      || strlen (bf->fixed->scratch) >= sizeof bf->fixed->scratch)
    abort ();
  for (i = 0; i < bf->nr_bitmaps; i++)
    if ((const char *) bf->bits[i] < bf->base
        || (const char *) bf->bits[i] + bm_bytes (bf->nr_clusters)
        > bf->base + st.st_size
        || bm_count (bf->bits[i], 0, bf->nr_clusters) > bf->nr_clusters)
      abort ();
}

static enum map_state
plain_state (const struct bmfile *map, uint64_t n)
{
  if (bm_test (map->bits[MAP_RELEASED_BITS], n))
    return MAP_RELEASED;
  if (bm_test (map->bits[MAP_LOST_BITS], n))
    return MAP_LOST;
  return bm_test (map->bits[MAP_COPIED_BITS], n) ? MAP_COPIED : MAP_LIVE;
}

static void
check_cluster (const struct reader *r, uint64_t n)
{
  static const int errors[] = { 0, 0, EPERM, ENODATA };
  enum map_state state = plain_state (r->map, n);
  uint64_t at = map_offset (r->map, n);
  char byte = 'x';
  int got;

  errno = 0;
  got = reader_pread (r, &byte, 1, at);
  if (!map_is_active (r->map)) {
    if (got != -1 || errno != ESHUTDOWN)
      abort ();
  }
  else if ((got == -1 ? errno : 0) != errors[state]
           || (got == 0 && byte != (state == MAP_LIVE ? LIVE_BYTE : 0)))
    abort ();
}

static void
check_extents (struct reader *r)
{
  uint64_t size = r->map->disk_size, at = 0;
  enum reader_extent type;
  enum map_state state;
  int i;

  for (i = 0; i < CLUSTERS_MAX && at < size; i++) {
    int64_t n = reader_extent (r, at, size - at, &type);

    if (n == -1 && !map_is_active (r->map) && errno == ESHUTDOWN)
      return;
    if (n <= 0 || (uint64_t) n > size - at)
      abort ();
    state = plain_state (r->map, at >> r->map->cluster_bits);
    if ((state == MAP_RELEASED) != (type == READER_FORBIDDEN)
        || (state == MAP_LOST) != (type == READER_LOST))
      abort ();
    at += n;
  }
}

static void
check_map (struct bmfile *map)
{
  struct live live = { .ops = &live_ops, .size = map->disk_size, .fd = -1 };
  struct reader r = { .map = map, .live = &live, .scratch = world.scratch };
  uint64_t n, step = map->nr_clusters / CLUSTERS_MAX + 1;
  static char buf[1 << 16];
  uint32_t count = map->disk_size < sizeof buf ? map->disk_size : sizeof buf;

  if (map->disk_size > INT64_MAX / 2
      || ftruncate (world.scratch, map->disk_size) == -1)
    return;
  for (n = 0; n < map->nr_clusters; n += step)
    check_cluster (&r, n);
  check_cluster (&r, map->nr_clusters - 1);
  check_extents (&r);
  reader_pread (&r, buf, count, map->disk_size - count);
  if (reader_pread (&r, buf, 1, map->disk_size) == 0)
    abort ();
  if (!map->writable)
    return;
  map_release (map, 0, map->nr_clusters);
  if (map_settle_release (map) == 0
      && scratch_punch_released (map, world.scratch, 0, map->nr_clusters) == 0
      && map_next_live (map, 0, map->nr_clusters) != map->nr_clusters)
    abort ();
}

static void
check_dirty (const struct bmfile *bf)
{
  unsigned bits;
  uint64_t nr;
  bm_word *sum;

  for (bits = 12; bits <= 21; bits += 3) {
    nr = ((bf->disk_size - 1) >> bits) + 1;
    if (nr > FILE_MAX)
      continue;
    sum = calloc (1, bm_bytes (nr));
    if (!sum)
      abort ();
    dirty_add (sum, bits, bf);
    if (dirty_bytes (sum, bits, bf->disk_size) > bf->disk_size)
      abort ();
    free (sum);
  }
}

static int
found (void *opaque, const struct bmfile *map)
{
  char name[FULL_NAME_SIZE], instant[STATEDIR_INSTANT_SIZE];

  statedir_name (map, name);
  statedir_instant (map, instant);
  if (strcmp (name, "vda@s") != 0)
    abort ();
  ++*(int *) opaque;
  return 0;
}

static void
check_statedir (void)
{
  struct bmfile map;
  const char *why = NULL;
  int nr = 0;

  if (statedir_list (world.state_dir, found, &nr) == -1)
    abort ();
  if ((statedir_open_map (world.state_dir, "vda", "s", false, &map, &why) == 0)
      != (nr == 1))
    abort ();
  if (nr == 0 && !why)
    abort ();
  bmfile_close (&map);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct bmfile bf;
  const char *why = NULL;
  unsigned mode;

  if (!world.dir[0])
    make_world ();
  if (size < 2)
    return 0;
  mode = data[0];
  write_file (data + 2, size - 2, mode);
  check_statedir ();
  if (bmfile_open_fd (world.file, mode & WRITABLE, data[1] % 4, &bf, &why)
      == -1) {
    if (!why || bf.fixed)
      abort ();
    return 0;
  }
  check_open (&bf);
  if (bf.fixed->kind == BMFILE_MAP)
    check_map (&bf);
  else
    check_dirty (&bf);
  bmfile_close (&bf);
  return 0;
}
