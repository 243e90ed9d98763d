/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Whose a bitmap file is, on which run of the host: claiming one, letting it
 * go, and what a crash of the host leaves of it. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bmfile.h"

int
bmfile_boot_id (uint8_t id[16])
{
  char text[37] = "";
  unsigned byte;
  int i;
  const char *p = text;
  FILE *fp = fopen ("/proc/sys/kernel/random/boot_id", "re");

  if (!fp)
    return -1;
  if (!fgets (text, sizeof text, fp))
    text[0] = '\0';
  fclose (fp);
  for (i = 0; i < 16; i++, p += 2) {
    if (*p == '-')
      p++;
    if (sscanf (p, "%2x", &byte) != 1) {
      errno = EIO;
      return -1;
    }
    id[i] = byte;
  }
  return 0;
}

static int64_t
ns (struct timespec t)
{
  return t.tv_sec * INT64_C (1000000000) + t.tv_nsec;
}

int
bmfile_identify (const char *path, struct bmfile_identity *id)
{
  struct stat st;

  if (stat (path, &st) == -1)
    return -1;
  *id = (struct bmfile_identity) { .dev = st.st_dev, .ino = st.st_ino,
                                   .size = st.st_size };
  if (S_ISBLK (st.st_mode))
    id->dev = st.st_rdev, id->ino = 0;
  else
    id->mtime_ns = ns (st.st_mtim), id->ctime_ns = ns (st.st_ctim);
  return 0;
}

const char *
bmfile_live_path (const struct bmfile *bf)
{
  return strncmp (bf->fixed->live, "file:", 5) == 0
    ? bf->fixed->live + 5 : NULL;
}

/* Model: clean, host. */
bool
bmfile_has_crashed (const struct bmfile *bf)
{
  uint8_t boot_id[16];

  return atomic_load (&bf->live->clean) != BMFILE_CLEAN
    && (bmfile_boot_id (boot_id) == -1
        || memcmp (boot_id, bf->live->boot_id, sizeof boot_id) != 0);
}

/* When this run of the host began, CLOCK_REALTIME. */
static int64_t
boot_time_ns (void)
{
  struct timespec real, boot;

  clock_gettime (CLOCK_REALTIME, &real);
  clock_gettime (CLOCK_BOOTTIME, &boot);
  return ns (real) - ns (boot);
}

/* What is wrong with the live disk, or NULL.  Model: clean, host. */
static const char *
judge_disk (const struct bmfile *bf, const struct bmfile_identity *now,
            bool crashed)
{
  const struct bmfile_identity *then = &bf->live->identity;

  if (atomic_load (&bf->live->clean) == BMFILE_CLEAN)
    return now->dev != then->dev || now->ino != then->ino
      || now->size != then->size || now->mtime_ns != then->mtime_ns
      || now->ctime_ns != then->ctime_ns
      ? "the live disk changed while nothing was in front of it" : NULL;
  /* The numbers of file systems and devices are the host's run's. */
  if ((!crashed && now->dev != then->dev) || now->ino != then->ino)
    return "the live disk is another file than it was";
  if (crashed && now->mtime_ns > boot_time_ns ())
    return "the live disk changed after the host had started, while nothing "
      "was in front of it";
  return NULL;
}

/* Model: clean, claim. */
int
bmfile_claim (struct bmfile *bf, const char *live_path, bool recovered,
              const char **why)
{
  struct bmfile_identity now;
  bool crashed = bmfile_has_crashed (bf);
  uint8_t boot_id[16];

  *why = "the host's boot id cannot be read";
  if (bmfile_boot_id (boot_id) == -1)
    return -1;
  *why = "the live disk cannot be examined";
  if (live_path && bmfile_identify (live_path, &now) == -1)
    return -1;
  *why = crashed && !recovered ? "the host stopped without closing it"
    : live_path ? judge_disk (bf, &now, crashed) : NULL;
  if (*why) {
    errno = ESTALE;
    return -1;
  }
  /* The next look at it must not take its numbers for another's. */
  if (crashed && live_path)
    bf->live->identity.dev = now.dev;
  memcpy (bf->live->boot_id, boot_id, sizeof boot_id);
  /* A crash of the host must find it unclean on disk, too, and before
   * anybody sees it in use: map_settle_release relies on that. */
  atomic_store (&bf->live->clean, BMFILE_CLOSING);
  *why = "cannot be flushed";
  if (bmfile_sync_header (bf) == -1)
    return -1;
  atomic_store (&bf->live->clean, BMFILE_IN_USE);
  *why = NULL;
  return 0;
}

int
bmfile_record_files (struct bmfile *bf, int scratch_fd)
{
  const char *live_path = bmfile_live_path (bf);
  struct bmfile_identity id = { 0 };
  struct stat st;

  if ((scratch_fd != -1 && fstat (scratch_fd, &st) == -1)
      || (live_path && bmfile_identify (live_path, &id) == -1))
    return -1;
  if (scratch_fd != -1) {
    bf->live->scratch_dev = st.st_dev;
    bf->live->scratch_ino = st.st_ino;
  }
  bf->live->identity = id;
  return 0;
}

/* The bitmaps reach the disk while the file still says unclean.  The times of
 * a network file may still move until its data is flushed.  Model: clean,
 * stop. */
int
bmfile_release (struct bmfile *bf, const char *live_path)
{
  struct bmfile_identity id = { 0 };

  atomic_store (&bf->live->clean, BMFILE_CLOSING);
  if (bmfile_sync (bf) == -1
      || (live_path && (bmfile_sync_path (live_path) == -1
                        || bmfile_identify (live_path, &id) == -1)))
    return -1;
  bf->live->identity = id;
  atomic_store (&bf->live->clean, BMFILE_CLEAN);
  return bmfile_sync_header (bf);
}

/* Model: clean, stop; activity, settle. */
int
bmfile_settle (struct bmfile *bf)
{
  if (bmfile_sync (bf) == -1)
    return -1;
  atomic_store (&bf->live->clean, BMFILE_CLEAN);
  return bmfile_sync_header (bf);
}

bool
bmfile_is_settled (const struct bmfile *bf)
{
  return !bmfile_has_crashed (bf);
}
