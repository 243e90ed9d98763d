/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Finding the snapshots of a state directory. */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "map.h"
#include "statedir.h"

#define SUFFIX ".map"
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int
statedir_open_export (int state_dir, const char *export_name)
{
  int all = openat (state_dir, "exports", DIR_FLAGS), fd, err;

  if (all == -1)
    return -1;
  fd = openat (all, export_name, DIR_FLAGS);
  err = errno;
  close (all);
  errno = err;
  return fd;
}

static int
refuse (struct bmfile *map, int err, const char *phrase, const char **why)
{
  bmfile_close (map);
  *why = phrase;
  errno = err;
  return -1;
}

static int
open_map (int export_dir, const char *export_name, const char *snapshot,
          bool writable, struct bmfile *map, const char **why)
{
  char file[NAME_LENGTH_MAX + sizeof SUFFIX];
  int fd, r, err;

  snprintf (file, sizeof file, "%s" SUFFIX, snapshot);
  fd = openat (export_dir, file, (writable ? O_RDWR : O_RDONLY)
               | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd == -1) {
    *why = errno == ENOENT ? "no such snapshot" : "it cannot be opened";
    return -1;
  }
  r = bmfile_open_fd (fd, writable, BMFILE_MAP, map, why);
  err = errno;
  close (fd);
  errno = err;
  if (r == -1)
    return -1;
  if (strcmp (map->fixed->export_name, export_name) != 0
      || strcmp (map->fixed->name, snapshot) != 0)
    return refuse (map, EINVAL, "it is another snapshot's", why);
  if (!map_is_active (map))
    return refuse (map, ENOENT, "it has ended, or has not begun", why);
  return 0;
}

int
statedir_open_map (int state_dir, const char *export_name,
                   const char *snapshot, bool writable,
                   struct bmfile *map, const char **why)
{
  int dir = statedir_open_export (state_dir, export_name), r, err;

  memset (map, 0, sizeof *map);
  if (dir == -1) {
    *why = errno == ENOENT ? "no snapshot of that export"
      : "its directory cannot be opened";
    return -1;
  }
  r = open_map (dir, export_name, snapshot, writable, map, why);
  err = errno;
  close (dir);
  errno = err;
  return r;
}

/* A directory to read, from a descriptor that it takes over. */
static DIR *
read_dir (int fd)
{
  DIR *d = fd == -1 ? NULL : fdopendir (fd);
  int err = errno;

  if (!d && fd != -1)
    close (fd);
  errno = err;
  return d;
}

/* Reports one entry of an export's directory if it is a snapshot. */
static int
list_file (int export_dir, const char *export_name, const char *file,
           statedir_found found, void *opaque)
{
  char snapshot[NAME_LENGTH_MAX + 1];
  size_t len = strlen (file), suffix = strlen (SUFFIX);
  struct bmfile map;
  const char *why;
  int r;

  if (len <= suffix || len - suffix > NAME_LENGTH_MAX
      || strcmp (file + len - suffix, SUFFIX) != 0)
    return 0;
  memcpy (snapshot, file, len - suffix);
  snapshot[len - suffix] = '\0';
  if (!name_ok (snapshot)
      || open_map (export_dir, export_name, snapshot, false, &map, &why) == -1)
    return 0;
  r = found (opaque, &map);
  bmfile_close (&map);
  return r;
}

static int
list_export (int state_dir, const char *export_name, statedir_found found,
             void *opaque)
{
  DIR *d = read_dir (statedir_open_export (state_dir, export_name));
  struct dirent *e;
  int r = 0;

  if (!d)                       /* gone meanwhile, or not a directory */
    return 0;
  while (r == 0 && (e = readdir (d)))
    r = list_file (dirfd (d), export_name, e->d_name, found, opaque);
  closedir (d);
  return r;
}

int
statedir_list (int state_dir, statedir_found found, void *opaque)
{
  DIR *d = read_dir (openat (state_dir, "exports", DIR_FLAGS));
  struct dirent *e;
  int r = 0;

  if (!d)
    return errno == ENOENT ? 0 : -1;
  while (r == 0 && (e = readdir (d)))
    if (name_ok (e->d_name))
      r = list_export (state_dir, e->d_name, found, opaque);
  closedir (d);
  return r;
}

void
statedir_name (const struct bmfile *map, char name[FULL_NAME_SIZE])
{
  snprintf (name, FULL_NAME_SIZE, "%.*s@%.*s",
            NAME_LENGTH_MAX, map->fixed->export_name,
            NAME_LENGTH_MAX, map->fixed->name);
}

/* Model: none; written once, at F1. */
void
statedir_instant (const struct bmfile *map, char text[STATEDIR_INSTANT_SIZE])
{
  int64_t ns = atomic_load (&map->live->instant_ns);
  time_t t = ns / 1000000000;
  struct tm tm;
  size_t n;

  gmtime_r (&t, &tm);
  n = strftime (text, STATEDIR_INSTANT_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf (text + n, STATEDIR_INSTANT_SIZE - n, ".%03dZ",
            (int) (ns / 1000000 % 1000));
}
