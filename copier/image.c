/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Images to read from. */

/* What is in a raw image the guest has written.  It could have written a
 * qcow2 header there, with /etc/shadow as the backing file, and get that as
 * its disk from whoever believes the header.  So an image's format is what its
 * name says (raw:, qcow2:) or what the record beside it says, and a file that
 * has neither and looks like qcow2 is not read at all.
 *
 * A backing file may have been overwritten by another backup, cut, or lost,
 * since the image on top of it was made: then the image reads as a disk that
 * never was.  The records have the UUIDs to tell by. */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "chain.h"
#include "image.h"
#include "qcow2.h"
#include "qemu.h"
#include "record.h"
#include "source.h"

#define RAW "raw:"
#define QCOW2 "qcow2:"
#define CHAIN_MAX 256           /* as many as a target may have to shun */

static bool
has_prefix (const char *s, const char *prefix)
{
  return strncmp (s, prefix, strlen (prefix)) == 0;
}

static int
set_path (struct image *im, enum image_kind kind, const char *path,
          const char *name, struct message *why)
{
  const char *prefix = kind == IMAGE_QCOW2 ? QCOW2 : "";
  char absolute[PATH_MAX];

  if (qemu_absolute (path, absolute, name, why) == -1)
    return -1;
  im->kind = kind;
  snprintf (im->name, sizeof im->name, "%s%s", prefix, absolute);
  im->path = im->name + strlen (prefix);
  return 0;
}

/* A path with nothing that says what it is. */
static int
detect (struct image *im, const char *path, struct message *why)
{
  struct qcow2_header h;
  struct message ignored;
  struct record r;
  int known = record_read (path, &r, why);

  if (known == -1)
    return -1;
  if (known)
    return set_path (im, strcmp (r.format, "qcow2") == 0 ? IMAGE_QCOW2
                     : IMAGE_RAW, path, path, why);
  if (qcow2_read_header (path, &h, &ignored) == -1)
    return set_path (im, IMAGE_RAW, path, path, why);
  errno = EINVAL;
  return message_set (why, "%s: it begins like a qcow2 image, and has no record"
                      " that says so: say " QCOW2 "%s or " RAW "%s", path,
                      path, path);
}

int
image_resolve (struct image *im, const char *name, struct message *why)
{
  if (has_prefix (name, QCOW2))
    return set_path (im, IMAGE_QCOW2, name + strlen (QCOW2), name, why);
  if (has_prefix (name, RAW))
    return set_path (im, IMAGE_RAW, name + strlen (RAW), name, why);
  if (!has_prefix (name, "map:") && !strstr (name, "://"))
    return detect (im, name, why);
  im->kind = has_prefix (name, "map:") ? IMAGE_MAP : IMAGE_NBD;
  im->path = NULL;
  if (snprintf (im->name, sizeof im->name, "%s", name)
      < (int) sizeof im->name)
    return 0;
  errno = ENAMETOOLONG;
  return message_set (why, "%s: %s", name, strerror (errno));
}

struct source *
image_source (const struct image *im, struct loop *l, struct pool *pool,
              unsigned connections)
{
  switch (im->kind) {
  case IMAGE_NBD: return source_nbd_new (l, im->name, connections);
  case IMAGE_RAW: return source_file_new (pool, im->name);
  case IMAGE_QCOW2: return source_qcow2_new (l, pool, im->name);
  case IMAGE_MAP: break;
  }
  errno = EINVAL;
  return NULL;
}

/* One image of a chain. */
struct link {
  char path[PATH_MAX];
  bool qcow2, known;            /* it has a record */
  struct record r;
  struct qcow2_header h;        /* if qcow2 */
};

static int
refuse (struct message *why, const char *path, const char *what)
{
  errno = EINVAL;
  return message_set (why, "%s: %s", path, what);
}

static int
look (struct link *l, struct message *why)
{
  struct stat st;
  int known;

  if (stat (l->path, &st) == -1)
    return message_set (why, "%s: %s", l->path, strerror (errno));
  known = record_read (l->path, &l->r, why);
  if (known == -1 || (l->qcow2 && qcow2_read_header (l->path, &l->h, why) == -1))
    return -1;
  l->known = known;
  if (l->qcow2 && l->h.corrupt)
    return refuse (why, l->path, "QEMU has marked it as corrupt");
  if (!known)
    return 0;
  if (l->qcow2 != (strcmp (l->r.format, "qcow2") == 0))
    return refuse (why, l->path, l->qcow2 ? "it is a raw image by its record"
                   : "it is a qcow2 image by its record");
  if (l->qcow2 ? l->h.size != qcow2_size (l->r.id.size)
      : S_ISREG (st.st_mode) && (uint64_t) st.st_size != l->r.id.size) {
    errno = EINVAL;
    return message_set (why, "%s: of another size than the backup by its "
                        "record: %llu bytes, not %llu", l->path,
                        (unsigned long long) (l->qcow2 ? l->h.size
                                              : (uint64_t) st.st_size),
                        (unsigned long long) l->r.id.size);
  }
  return 0;
}

/* The same backup that the image on top was made on. */
static int
fits (const struct link *top, const struct link *l, struct message *why)
{
  if (!top->known || !top->r.backing_uuid[0])
    return 0;
  errno = EINVAL;
  if (!l->known)
    return message_set (why, "%s: backing file of %s: there is no record of it "
                        "(its file .nbdfleece), so nobody knows what it holds",
                        l->path, top->path);
  if (strcmp (l->r.id.uuid, top->r.backing_uuid) != 0)
    return message_set (why, "%s: backing file of %s: of another chain: it is "
                        "not the backup that this one was made on top of",
                        l->path, top->path);
  if (l->r.id.size != top->r.id.size)
    return message_set (why, "%s: backing file of %s: of another size", l->path,
                        top->path);
  return 0;
}

static int
is_complete (const struct link *l, bool allow_incomplete, struct message *why)
{
  if (!l->known || l->r.state == RECORD_COMPLETED)
    return 0;
  if (l->r.state == RECORD_WRITING)
    return refuse (why, l->path, "the backup has not completed: a job writes "
                   "it, or did not end well");
  return allow_incomplete ? 0
    : refuse (why, l->path, "the backup is incomplete: clusters were lost (to "
              "read it all the same: --allow-incomplete)");
}

int
image_check (const struct image *im, bool allow_incomplete,
             struct message *why)
{
  struct link links[2], *l = &links[0], *top = NULL;
  unsigned n;

  if (!im->path)
    return 0;
  strcpy (l->path, im->path);
  l->qcow2 = im->kind == IMAGE_QCOW2;
  for (n = 1; n < CHAIN_MAX; n++) {
    if (look (l, why) == -1 || is_complete (l, allow_incomplete, why) == -1
        || (top && fits (top, l, why) == -1))
      return -1;
    top = l;
    l = &links[n % 2];
    strcpy (l->path, top->path);
    if (!top->qcow2 || !chain_find_backing (l->path, top->h.backing))
      return 0;
    /* Without a record QEMU, which knows the format, will tell. */
    l->qcow2 = record_read (l->path, &l->r, why) != 1
      || strcmp (l->r.format, "qcow2") == 0;
    if (!top->known)
      return 0;
  }
  return refuse (why, im->path, "its chain is too long");
}
