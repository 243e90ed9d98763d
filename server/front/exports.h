/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The exports a client may see: the snapshots that exist. */

#ifndef NBDFLEECE_EXPORTS_H
#define NBDFLEECE_EXPORTS_H

#include "statedir.h"
#include "tracking.h"

/* EXPORT@SNAPSHOT, its instant, and words. */
#define DESCRIPTION_SIZE (FULL_NAME_SIZE + STATEDIR_INSTANT_SIZE + 16)

/* A snapshot as one connection has it open.  Set once. */
struct view {
  struct bmfile map;            /* writable if clusters may be released */
  int scratch;                  /* then open read-write; else -1 */
  struct tracking tracking;
  char name[FULL_NAME_SIZE];    /* "" : not open */
  char description[DESCRIPTION_SIZE];
};

/* Opens EXPORT@SNAPSHOT of the state directory open as state_dir, for releasing
 * clusters, too, if release is true or its map says so.  Returns 0; or -1 and
 * errno, ENOENT if there is no such snapshot (whatever is wrong with the
 * name). */
extern int view_open (int state_dir, const char *name, bool release,
                      struct view *v);

/* Harmless on a zeroed struct. */
extern void view_close (struct view *v);

/* True if its clusters can be released. */
static inline bool
view_can_release (const struct view *v)
{
  return v->scratch != -1;
}

/* True while the snapshot exists. */
extern bool view_is_active (const struct view *v);

/* Releases the clusters that lie wholly in [offset, offset + count) of a view
 * opened for that: they are punched out of the scratch and cannot be read any
 * more.  Returns 0, or -1 and errno (ESHUTDOWN: the snapshot has ended). */
extern int view_release (const struct view *v, uint64_t offset,
                         uint64_t count);

/* The snapshots there are, sorted by name. */
struct listing {
  struct listed {
    char name[FULL_NAME_SIZE];
    char description[DESCRIPTION_SIZE];
  } *items;
  size_t nr;
};

/* Calls wanted for each export's name.  Returns 0, or -1 and errno; the caller
 * frees the listing in both cases. */
extern int listing_read (int state_dir,
                         bool (*wanted) (void *opaque, const char *export_name),
                         void *opaque, struct listing *l);
extern void listing_free (struct listing *l);

#endif /* NBDFLEECE_EXPORTS_H */
