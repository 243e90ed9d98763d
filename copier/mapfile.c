/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Map and scratch of the snapshot that is copied. */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "mapfile.h"
#include "scratch.h"

int
mapfile_open (struct mapfile *m, const char *path, bool writable,
              struct message *why)
{
  const char *reason;

  memset (m, 0, sizeof *m);
  m->scratch = -1;
  if (bmfile_open (path, writable, BMFILE_MAP, &m->map, &reason) == -1)
    return message_set (why, "%s: map: %s: %s", path, reason,
                        strerror (errno));
  if (!map_is_active (&m->map)) {
    message_set (why, "%s: the snapshot does not exist any more", path);
    goto failed;
  }
  m->scratch = scratch_open (&m->map, writable, false);
  if (m->scratch == -1) {
    message_set (why, "%s: its scratch %s: %s", path, m->map.fixed->scratch,
                 errno == ESTALE ? "not the file that it was begun with"
                 : strerror (errno));
    goto failed;
  }
  return 0;

 failed:
  mapfile_close (m);
  return -1;
}

void
mapfile_close (struct mapfile *m)
{
  bmfile_close (&m->map);
  if (m->scratch != -1)
    close (m->scratch);
  m->scratch = -1;
}

int
mapfile_punch (struct mapfile *m, uint64_t first, uint64_t end)
{
  return scratch_punch_released (&m->map, m->scratch, first, end);
}
