/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Digests in the making, and their journal. */

/* The journal is read on the host that wrote it, by the same program: it is in
 * the host's order.  An entry that is not whole is the end of it: the process
 * was killed while it wrote, and its bits are still set. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "digests.h"
#include "scratch.h"

#define MAGIC "FLEECEMJ"
#define JOURNAL_VERSION 1

struct head {                   /* on disk */
  char magic[8];
  uint32_t version, entry_size;
  uint64_t size;                /* of the disk */
  uint8_t uuid[16];             /* of the copy bitmap */
  uint32_t checksum;            /* CRC-32 of all the above */
};

struct entry {                  /* on disk */
  uint64_t offset, length;
  uint32_t kind;
  uint32_t checksum;            /* CRC-32 of the rest */
  uint8_t digest[DIGEST_SIZE];
};

static uint32_t
entry_checksum (const struct entry *e)
{
  struct entry copy = *e;

  copy.checksum = 0;
  return crc32 (0, (const Bytef *) &copy, sizeof copy);
}

static void
make_head (struct head *h, const struct ledger *l)
{
  memset (h, 0, sizeof *h);
  memcpy (h->magic, MAGIC, sizeof h->magic);
  h->version = JOURNAL_VERSION;
  h->entry_size = sizeof (struct entry);
  h->size = l->disk_size;
  memcpy (h->uuid, l->copy.fixed->uuid, sizeof h->uuid);
  h->checksum = crc32 (0, (const Bytef *) h, offsetof (struct head, checksum));
}

/* An entry's clusters are delivered.  0, or -1 if it makes no sense. */
static int
take_entry (struct digests *d, struct ledger *l, const struct entry *on_disk)
{
  struct manifest_extent e = {
    on_disk->offset, on_disk->length, on_disk->kind, { 0 }
  };
  uint64_t mask = (UINT64_C (1) << l->cluster_bits) - 1;
  uint64_t end = e.offset + e.length;

  if (on_disk->kind > EXTENT_LEFT_OUT || e.length == 0 || end < e.offset
      || end > l->disk_size || (e.offset & mask) != 0)
    return -1;
  memcpy (e.digest, on_disk->digest, DIGEST_SIZE);
  ledger_deliver (l, e.offset >> l->cluster_bits,
                  (end + mask) >> l->cluster_bits);
  return manifest_list_add (&d->done, &e);
}

/* Reads the entries that there are; what comes after the last is cut off. */
static int
load (struct digests *d, struct ledger *l)
{
  off_t pos = sizeof (struct head);
  struct entry e;

  for (;; pos += sizeof e) {
    if (pread (d->journal, &e, sizeof e, pos) != sizeof e
        || e.checksum != entry_checksum (&e))
      return ftruncate (d->journal, pos);
    if (take_entry (d, l, &e) == -1)
      return -1;
  }
}

static uint64_t
total (const struct manifest_list *l)
{
  uint64_t n = 0;
  size_t i;

  for (i = 0; i < l->nr; i++)
    n += l->list[i].length;
  return n;
}

static int
failed (const struct digests *d, const char *what, struct message *why)
{
  return message_set (why, "%s.part: manifest: %s", d->path, what);
}

/* A copier that was killed between the end of the manifest and its own has
 * removed the journal already.  0 if so, and the manifest has it all. */
static int
take_manifest (struct digests *d, const struct identity *id)
{
  struct message ignored;
  struct manifest m;
  size_t i;
  int r = -1;

  if (!id->uuid[0] || manifest_read (d->path, &m, &ignored) == -1)
    return -1;
  if (strcmp (m.id.uuid, id->uuid) == 0)
    r = 0;
  d->done.nr = 0;
  for (i = 0; i < m.extents.nr && r == 0; i++)
    if (m.extents.list[i].kind != EXTENT_LOST)
      r = manifest_list_add (&d->done, &m.extents.list[i]);
  manifest_free (&m);
  return r;
}

static int
open_journal (struct digests *d, const struct identity *id, struct ledger *l,
              struct message *why)
{
  struct head wanted, found;
  char path[PATH_MAX];
  ssize_t n;

  if (snprintf (path, sizeof path, "%s.part", d->path)
      >= (int) sizeof path) {
    errno = ENAMETOOLONG;
    return failed (d, strerror (errno), why);
  }
  d->journal = open (path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (d->journal == -1)
    return failed (d, strerror (errno), why);
  make_head (&wanted, l);
  n = pread (d->journal, &found, sizeof found, 0);
  if (n == sizeof found && memcmp (&found, &wanted, sizeof found) == 0) {
    if (load (d, l) == -1)
      return failed (d, "damaged", why);
  }
  else if (n > 0 && (n < 8 || memcmp (&found, MAGIC, 8) != 0)) {
    errno = EEXIST;
    return failed (d, "there is such a file, and it is none of ours", why);
  }
  else if (ftruncate (d->journal, 0) == -1
           || full_pwrite (d->journal, &wanted, sizeof wanted, 0) == -1)
    return failed (d, strerror (errno), why);
  if (total (&d->done) == l->delivered
      || (l->delivered > 0 && d->done.nr == 0 && take_manifest (d, id) == 0))
    return 0;
  errno = ENODATA;
  return failed (d, "it does not have what was copied before; the manifest "
                 "cannot be made", why);
}

/* What is replaced in the end must be a manifest, if there is something. */
static int
check_file (struct digests *d, struct message *why)
{
  char text[64] = "";
  int fd = open (d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  ssize_t n;

  if (fd == -1 && errno == ENOENT)
    return 0;
  n = fd == -1 ? -1 : read (fd, text, sizeof text - 1);
  if (fd != -1)
    close (fd);
  if (n == 0 || (n > 0 && strstr (text, "\"nbdfleece-manifest\"")))
    return 0;
  if (n > 0)
    errno = EEXIST;
  return message_set (why, "%s: manifest: %s", d->path, n > 0 ? "there is such a"
                      " file, and it is no manifest" : strerror (errno));
}

int
digests_open (struct digests *d, const char *path, bool resumable,
              const struct identity *id, struct ledger *l, struct message *why)
{
  d->path = path;
  d->journal = -1;
  if (check_file (d, why) == -1)
    return -1;
  return resumable ? open_journal (d, id, l, why) : 0;
}

void
digests_close (struct digests *d)
{
  if (d->journal != -1)
    close (d->journal);
  manifest_list_free (&d->pending);
  manifest_list_free (&d->flushing);
  manifest_list_free (&d->done);
}

int
digests_drained (struct digests *d, const struct manifest_extent *e)
{
  return manifest_list_add (&d->pending, e);
}

void
digests_flush_begin (struct digests *d)
{
  struct manifest_list empty = d->flushing;

  d->flushing = d->pending;
  d->pending = empty;
  d->pending.nr = 0;
}

static int
append (const struct digests *d)
{
  const struct manifest_list *l = &d->flushing;
  struct entry *entries = calloc (l->nr, sizeof *entries);
  size_t i;
  int r;

  if (!entries)
    return -1;
  for (i = 0; i < l->nr; i++) {
    entries[i].offset = l->list[i].offset;
    entries[i].length = l->list[i].length;
    entries[i].kind = l->list[i].kind;
    memcpy (entries[i].digest, l->list[i].digest, DIGEST_SIZE);
    entries[i].checksum = entry_checksum (&entries[i]);
  }
  r = full_pwrite (d->journal, entries, l->nr * sizeof *entries,
                   sizeof (struct head) + d->done.nr * sizeof *entries);
  free (entries);
  return r;
}

int
digests_flushed (struct digests *d)
{
  size_t i;

  if (d->journal != -1 && d->flushing.nr > 0 && append (d) == -1)
    return -1;
  for (i = 0; i < d->flushing.nr; i++)
    if (manifest_list_add (&d->done, &d->flushing.list[i]) == -1)
      return -1;
  d->flushing.nr = 0;
  return 0;
}

void
digests_lost (struct digests *d)
{
  d->pending.nr = d->flushing.nr = 0;
}

int
digests_finish (struct digests *d, const struct identity *id,
                const struct ledger *l, const struct range_list *lost,
                struct message *why)
{
  struct manifest m = { .incomplete = lost->nr > 0, .id = *id };
  char path[PATH_MAX];
  size_t i;
  int r = 0;

  m.extents = d->done;
  for (i = 0; i < lost->nr && r == 0; i++) {
    struct manifest_extent e = {
      ledger_offset (l, lost->list[i].first),
      ledger_length (l, lost->list[i].first, lost->list[i].end),
      EXTENT_LOST, { 0 }
    };

    r = manifest_list_add (&m.extents, &e);
  }
  d->done = m.extents;
  if (r == -1)
    return message_set (why, "%s: manifest: %s", d->path, strerror (errno));
  r = manifest_write (d->path, &m, why);
  d->done = m.extents;
  if (r == 0 && d->journal != -1
      && snprintf (path, sizeof path, "%s.part", d->path) < (int) sizeof path)
    unlink (path);
  return r;
}
