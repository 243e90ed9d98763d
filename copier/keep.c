/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What is kept of a backup: its record, its manifest. */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copier.h"
#include "qemu.h"

#define QCOW2 "qcow2:"

/* NAME,UUID as the option table has checked it. */
static void
take_checkpoint (const char *text, char *name, char *uuid)
{
  size_t n;

  if (!text)
    return;
  n = strcspn (text, ",");
  memcpy (name, text, n);
  name[n] = '\0';
  strcpy (uuid, text + n + 1);
}

static void
identify (struct copier *c)
{
  struct identity *id = &c->id;
  const struct bmfile *map = &c->map.map;

  id->size = c->job.ledger.disk_size;
  id->cluster_size = UINT64_C (1) << c->job.ledger.cluster_bits;
  if (c->job.map) {
    strcpy (id->export_name, map->fixed->export_name);
    strcpy (id->snapshot, map->fixed->name);
    format_uuid (map->fixed->uuid, id->uuid);
    id->instant_ns = atomic_load (&map->live->instant_ns);
  }
  take_checkpoint (c->opt.checkpoint, id->checkpoint, id->checkpoint_uuid);
  take_checkpoint (c->opt.since, id->since, id->since_uuid);
}

/* target_params.claim: from now on the target is not what it was. */
static int
claim (void *opaque, struct message *why)
{
  struct copier *c = opaque;

  c->claimed = true;
  if (c->recording)
    return record_write (c->image, &c->record, why);
  if (c->image[0])
    record_remove (c->image);
  return 0;
}

static int
prepare_backing (struct copier *c, bool exists, struct message *why)
{
  struct record *r = &c->record;

  if (chain_check_backing (&c->id, c->image, c->opt.backing, &c->params,
                           &c->backing, why) == -1)
    return -1;
  if (exists && !c->params.may_exist) {
    errno = EEXIST;
    return message_set (why, "%s: the image exists, so it cannot be given a "
                        "backing file", c->opt.target);
  }
  if (exists && chain_check_own (&c->id, c->image, &c->backing, why) == -1)
    return -1;
  c->params.backing = c->backing.written;
  c->params.backing_format = c->backing.format;
  if (strlen (c->backing.written) < sizeof r->backing)
    strcpy (r->backing, c->backing.written);
  strcpy (r->backing_uuid, c->backing.uuid);
  return 0;
}

int
keep_begin (struct copier *c, struct message *why)
{
  identify (c);
  if (!c->opt.manifest)
    return 0;
  c->job.digests = &c->digests;
  return digests_open (&c->digests, c->opt.manifest,
                       c->opt.copy_bitmap != NULL, &c->id, &c->job.ledger,
                       why);
}

int
keep_prepare (struct copier *c, struct message *why)
{
  const char *name = c->opt.target;
  bool qcow2 = strncmp (name, QCOW2, strlen (QCOW2)) == 0, exists;
  const struct ledger *l = &c->job.ledger;
  struct stat st;

  c->params.claim = claim;
  c->params.opaque = c;
  if (!qcow2 && strstr (name, "://"))
    return 0;
  if (qemu_absolute (qcow2 ? name + strlen (QCOW2) : name, c->image, name,
                     why) == -1)
    return -1;
  exists = stat (c->image, &st) == 0;
  c->recording = c->id.uuid[0] && (!exists || S_ISREG (st.st_mode));
  c->record.id = c->id;
  c->record.state = RECORD_WRITING;
  strcpy (c->record.format, qcow2 ? "qcow2" : "raw");
  if (c->opt.backing)
    return prepare_backing (c, exists, why);
  if (exists && l->scope < l->disk_size)
    return chain_check_update (&c->id, c->image, why);
  return 0;
}

int
keep_complete (struct job *job, bool lost, struct message *why)
{
  struct copier *c = job->opaque;

  if (job->digests
      && digests_finish (job->digests, &c->id, &job->ledger, &job->lost,
                         why) == -1)
    return -1;
  if (!c->recording)
    return 0;
  c->record.state = lost ? RECORD_INCOMPLETE : RECORD_COMPLETED;
  return record_write (c->image, &c->record, why);
}

/* A target that was made and not written to is gone. */
void
keep_end (struct copier *c)
{
  if (c->claimed && c->image[0] && access (c->image, F_OK) == -1)
    record_remove (c->image);
}
