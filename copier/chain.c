/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Which backup may go on top of which. */

/* An incremental since checkpoint C has all that changed after C.  It makes a
 * whole disk on top of an image that holds the disk as it was at C, or at any
 * instant between C and the incremental's own: what changed in between is in
 * the incremental once more.  By the records, that is an image
 *
 *   - of the same export and of a disk of the same size,
 *   - that was made at C (its checkpoint-uuid is that of C) or since C (its
 *     since-uuid is),
 *   - of an instant before ours,
 *   - that has completed.
 *
 * An image that is brought up to date in place need not have completed: what a
 * job since C has begun, another one since C does again, and more.  Nor need
 * one that was made at C, if all it lacks is what could not be had: that counts
 * as changed since C.
 *
 * Checkpoints are told apart by their UUIDs: a name may be given again, to
 * another checkpoint or on another host.  What was not copied since a
 * checkpoint (full, top) needs less: whatever is known on both sides must
 * agree.
 *
 * The new image's header names the backing file without directory if both are
 * in the same one, so that a chain may be moved as a whole. */

#include <config.h>

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "chain.h"
#include "qcow2.h"
#include "qemu.h"

#define QCOW2 "qcow2:"

static int
refuse (struct message *why, const char *path, const char *what)
{
  errno = EINVAL;
  return message_set (why, "backing file %s: %s", path, what);
}

static int
check_file (const struct chain_backing *b, const char *image,
            const struct target_params *params, struct message *why)
{
  struct stat st, own;
  const char *clash;

  if (stat (b->path, &st) == -1)
    return refuse (why, b->path, strerror (errno));
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
    return refuse (why, b->path, "neither a file nor a block device");
  if (stat (image, &own) == 0 && own.st_dev == st.st_dev
      && own.st_ino == st.st_ino)
    return refuse (why, b->path, "it is the target itself");
  clash = target_clash (params, &st);
  if (clash) {
    errno = EINVAL;
    return message_set (why, "backing file %s: it is %s", b->path, clash);
  }
  return 0;
}

static int
check_size (const struct chain_backing *b, uint64_t disk_size,
            struct message *why)
{
  struct qcow2_header h;
  struct message said;
  struct stat st;
  uint64_t size, expected = disk_size;

  if (strcmp (b->format, "qcow2") == 0) {
    if (qcow2_read_header (b->path, &h, &said) == -1)
      return message_set (why, "backing file %s", said.text);
    if (h.corrupt)
      return refuse (why, b->path, "QEMU has marked it as corrupt");
    size = h.size;
    expected = qcow2_size (disk_size);
  }
  else if (stat (b->path, &st) == 0 && S_ISREG (st.st_mode))
    size = st.st_size;
  else
    return 0;                   /* a block device may be larger */
  if (size == expected)
    return 0;
  errno = EINVAL;
  return message_set (why, "backing file %s: of another size: %llu bytes, the "
                      "disk has %llu", b->path, (unsigned long long) size,
                      (unsigned long long) disk_size);
}

/* Whether both are known, and differ. */
static bool
differ (const char *a, const char *b)
{
  return a[0] && b[0] && strcmp (a, b) != 0;
}

/* Says in *what why r cannot be what the changes in id are relative to; false
 * if it can. */
static bool
breaks_chain (const struct identity *id, const struct record *r,
              struct message *what)
{
  char theirs[INSTANT_SIZE], ours[INSTANT_SIZE];

  if (differ (r->id.export_name, id->export_name))
    message_set (what, "it is of export %s, not of %s", r->id.export_name,
                 id->export_name);
  else if (r->id.size != id->size)
    message_set (what, "it is of a disk of %llu bytes, this one has %llu",
                 (unsigned long long) r->id.size,
                 (unsigned long long) id->size);
  else if (r->id.instant_ns && id->instant_ns
           && r->id.instant_ns >= id->instant_ns) {
    format_instant (r->id.instant_ns, theirs);
    format_instant (id->instant_ns, ours);
    message_set (what, "it is newer (%s) than this backup (%s)", theirs, ours);
  }
  else if (id->since_uuid[0]
           && strcmp (r->id.since_uuid, id->since_uuid) != 0
           && (strcmp (r->id.checkpoint_uuid, id->since_uuid) != 0
               || (r->state != RECORD_COMPLETED
                   && r->state != RECORD_INCOMPLETE)))
    message_set (what, "it is of another chain: made neither at checkpoint %s "
                 "nor since it", id->since);
  else
    return false;
  return true;
}

static int
check_record (const struct identity *id, const struct record *r, bool known,
              struct chain_backing *b, struct message *why)
{
  struct message what;

  if (!known) {
    if (id->since_uuid[0])
      return refuse (why, b->path, "there is no record of it (its file "
                     ".nbdfleece), so nobody knows what it holds");
    return 0;
  }
  if (r->state != RECORD_COMPLETED) {
    errno = EINVAL;
    return message_set (why, "backing file %s: its backup has not completed "
                        "(%s)", b->path, record_state_name (r->state));
  }
  if (breaks_chain (id, r, &what))
    return refuse (why, b->path, what.text);
  strcpy (b->uuid, r->id.uuid);
  return 0;
}

static bool
same_directory (const char *a, const char *b)
{
  char copy_a[PATH_MAX], copy_b[PATH_MAX];
  struct stat st_a, st_b;

  strcpy (copy_a, a);
  strcpy (copy_b, b);
  return stat (dirname (copy_a), &st_a) == 0
    && stat (dirname (copy_b), &st_b) == 0
    && st_a.st_dev == st_b.st_dev && st_a.st_ino == st_b.st_ino;
}

static int
choose_name (const char *image, struct chain_backing *b, struct message *why)
{
  const char *base = strrchr (b->path, '/') + 1;

  if (!same_directory (image, b->path))
    strcpy (b->written, b->path);
  else                          /* a colon would make it a protocol */
    snprintf (b->written, sizeof b->written, "%s%s",
              strchr (base, ':') ? "./" : "", base);
  if (strlen (b->written) <= QCOW2_BACKING_MAX)
    return 0;
  return refuse (why, b->path, "its name is too long");
}

int
chain_check_backing (const struct identity *id, const char *image,
                     const char *backing, const struct target_params *params,
                     struct chain_backing *b, struct message *why)
{
  bool qcow2 = strncmp (backing, QCOW2, strlen (QCOW2)) == 0;
  struct record r;
  int known;

  memset (b, 0, sizeof *b);
  if (qemu_absolute (qcow2 ? backing + strlen (QCOW2) : backing, b->path,
                     "backing file", why) == -1)
    return -1;
  known = record_read (b->path, &r, why);
  if (known == -1)
    return -1;
  b->format = !qcow2 && known && strcmp (r.format, "raw") == 0 ? "raw"
    : "qcow2";
  if (check_file (b, image, params, why) == -1
      || check_size (b, id->size, why) == -1
      || check_record (id, &r, known, b, why) == -1)
    return -1;
  return choose_name (image, b, why);
}

int
chain_check_own (const struct identity *id, const char *image,
                 const struct chain_backing *b, struct message *why)
{
  struct qcow2_header h;
  struct record r;
  int known;

  if (qcow2_read_header (image, &h, why) == -1)
    return -1;
  known = record_read (image, &r, why);
  if (known == -1)
    return -1;
  if (strcmp (h.backing, b->written) == 0
      && (!id->uuid[0] || (known && strcmp (r.id.uuid, id->uuid) == 0)))
    return 0;
  errno = EEXIST;
  return message_set (why, "%s: the image exists and was not made by this job, "
                      "so it cannot be given a backing file", image);
}

int
chain_check_update (const struct identity *id, const char *image,
                    struct message *why)
{
  struct message what;
  struct record r;
  int known = record_read (image, &r, why);

  if (known == -1)
    return -1;
  if (!known || (id->uuid[0] && strcmp (r.id.uuid, id->uuid) == 0)
      || !breaks_chain (id, &r, &what))
    return 0;
  errno = EINVAL;
  return message_set (why, "%s: cannot be brought up to date: %s", image,
                      what.text);
}

bool
chain_find_backing (char path[PATH_MAX], const char *backing)
{
  char copy[PATH_MAX];
  const char *colon = strchr (backing, ':'), *slash = strchr (backing, '/');

  if (backing[0] == '\0' || (colon && (!slash || colon < slash)))
    return false;               /* none, or some protocol */
  strcpy (copy, path);
  if (backing[0] == '/')
    return snprintf (path, PATH_MAX, "%s", backing) < PATH_MAX;
  return snprintf (path, PATH_MAX, "%s/%s", dirname (copy), backing)
    < PATH_MAX;
}

int
chain_take (struct target_params *params, const char *image,
            struct message *why)
{
  bool qcow2 = strncmp (image, QCOW2, strlen (QCOW2)) == 0;
  struct qcow2_header h;
  struct message ignored;
  char path[PATH_MAX];

  if (qemu_absolute (qcow2 ? image + strlen (QCOW2) : image, path, image,
                     why) == -1)
    return -1;
  do
    if (target_take (params, path, "what the source is read from") == -1)
      return message_set (why, "%s: %s: %s", image, path, errno == E2BIG
                          ? "its chain is too long" : strerror (errno));
  while (qcow2 && qcow2_read_header (path, &h, &ignored) == 0
         && chain_find_backing (path, h.backing));
  return 0;
}
