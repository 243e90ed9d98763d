/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A copy that compares: its target, and its verdict. */

#include <config.h>

#include <string.h>
#include <sys/stat.h>

#include "copier.h"
#include "qcow2.h"

/* The target is complete: tells whether it is the same. */
static int
judge (struct job *job, bool lost, struct message *why)
{
  const struct comparison *d = job->comparison;
  const struct copier *c = job->opaque;

  (void) lost;
  if (!d->differs)
    return 0;
  if (job->expected)
    return message_set (why, "%s: differs from manifest %s, first in the extent"
                        " at byte %llu: extents of %llu bytes in all",
                        c->other.name, c->opt.source + strlen (MANIFEST),
                        (unsigned long long) d->first,
                        (unsigned long long) d->bytes);
  return message_set (why, "%s: differs from %s, first at byte %llu: %llu "
                      "bytes in %llu clusters", job->target->name,
                      job->source->name, (unsigned long long) d->first,
                      (unsigned long long) d->bytes,
                      (unsigned long long) d->clusters);
}

/* A raw file is as long as the disk, a qcow2 image too, but for its sectors;
 * what a server or a block device has behind it is nobody's business. */
static int
check_size (const struct copier *c, uint64_t size, struct message *why)
{
  uint64_t disk = c->params.size;
  struct stat st;

  if (!c->other.path || size == disk)
    return 0;
  if (c->other.kind == IMAGE_QCOW2 ? size == qcow2_size (disk)
      : stat (c->other.path, &st) == 0 && S_ISBLK (st.st_mode))
    return 0;
  return message_set (why, "%s: it has another size: %llu bytes, not %llu",
                      c->other.name, (unsigned long long) size,
                      (unsigned long long) disk);
}

int
open_compared (struct copier *c, struct message *why)
{
  struct job *job = &c->job;
  struct source *other;

  if (image_resolve (&c->other, c->opt.target, why) == -1)
    return -1;
  if (c->other.kind == IMAGE_MAP)
    return message_set (why, "%s: a map cannot be what is compared",
                        c->other.name);
  if (strcmp (c->other.name, c->source.name) == 0)
    return message_set (why, "%s: the target is the source", c->other.name);
  c->params.size = job->ledger.disk_size;
  c->params.exact = c->opt.same_size;
  c->comparison.disk_size = job->ledger.disk_size;
  c->comparison.cluster_bits = job->ledger.cluster_bits;
  other = image_source (&c->other, &c->loop, job->pool, c->opt.connections);
  if (!other)
    return message_set (why, "no memory");
  job->target = target_compare_new (&c->loop, other, &c->params,
                                    &c->comparison);
  if (!job->target) {
    other->ops->free (other);
    return message_set (why, "no memory");
  }
  if (connect_side (job, SIDE_TARGET, why) == -1
      || check_size (c, job->target->size, why) == -1)
    return -1;
  if (ledger_coarsen (&job->ledger, job->target->min_block) == -1)
    return message_set (why, "no memory for the job's bitmap");
  c->comparison.cluster_bits = job->ledger.cluster_bits;
  job->comparison = &c->comparison;
  job->complete = judge;
  return 0;
}

static int
limit_to_manifest (struct copier *c, struct message *why)
{
  struct ledger *l = &c->job.ledger;
  const struct manifest_list *list = &c->expected.extents;
  struct range_list scope = { 0 };
  uint64_t longest = 0;
  size_t i;
  int r = 0;

  for (i = 0; i < list->nr && r == 0; i++) {
    const struct manifest_extent *e = &list->list[i];
    uint64_t end = e->offset + e->length;

    r = range_list_add (&scope, e->offset >> l->cluster_bits,
                        (end + c->expected.id.cluster_size - 1)
                        >> l->cluster_bits);
    if (e->kind == EXTENT_DATA && e->length > longest)
      longest = e->length;
  }
  if (r == 0)
    r = ledger_limit (l, &scope);
  range_list_free (&scope);
  while (c->opt.request_size < longest)
    c->opt.request_size *= 2;
  return r == 0 ? 0 : message_set (why, "no memory for the job's bitmap");
}

/* The image is the job's source here, since it is what is read. */
int
open_proved (struct copier *c, struct message *why)
{
  const char *path = c->opt.source + strlen (MANIFEST);
  struct job *job = &c->job;

  if (manifest_read (path, &c->expected, why) == -1
      || image_resolve (&c->other, c->opt.target, why) == -1)
    return -1;
  if (c->other.kind == IMAGE_MAP)
    return message_set (why, "%s: a map cannot be what is compared",
                        c->other.name);
  c->params.size = c->expected.id.size;
  job->source = image_source (&c->other, &c->loop, job->pool,
                              c->opt.connections);
  if (!job->source)
    return message_set (why, "no memory");
  if (connect_side (job, SIDE_SOURCE, why) == -1
      || check_size (c, job->source->size, why) == -1)
    return -1;
  if (job->source->size < c->params.size)
    return message_set (why, "%s: it has another size: %llu bytes, not %llu",
                        c->other.name, (unsigned long long) job->source->size,
                        (unsigned long long) c->params.size);
  if (ledger_open (&job->ledger, NULL, c->params.size,
                   c->expected.id.cluster_size, 0, why) == -1
      || limit_to_manifest (c, why) == -1)
    return -1;
  job->target = target_prove_new (job->pool, path, &c->expected,
                                  &c->comparison);
  if (!job->target)
    return message_set (why, "no memory");
  c->comparison.disk_size = c->params.size;
  c->comparison.cluster_bits = job->ledger.cluster_bits;
  job->comparison = &c->comparison;
  job->expected = &c->expected;
  job->complete = judge;
  return connect_side (job, SIDE_TARGET, why);
}
