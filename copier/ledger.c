/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The ledger of a job's clusters. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "ledger.h"
#include "replace.h"

#define COALESCE_AT 4096
#define LOCK_PAUSE 20           /* ms */

static int
lock (int fd, unsigned patience_ms)
{
  unsigned waited;

  for (waited = 0; flock (fd, LOCK_EX | LOCK_NB) == -1; waited += LOCK_PAUSE) {
    if (errno != EWOULDBLOCK || waited >= patience_ms)
      return -1;
    poll (NULL, 0, LOCK_PAUSE);
  }
  return 0;
}

static int
open_copy_bitmap (struct ledger *l, const char *path, unsigned patience_ms,
                  struct message *why)
{
  const char *reason;

  l->copy_fd = open (path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
  if (l->copy_fd == -1)
    return message_set (why, "%s: copy bitmap: %s", path, strerror (errno));
  if (lock (l->copy_fd, patience_ms) == -1)
    return message_set (why, "%s: copy bitmap: %s", path,
                        errno == EWOULDBLOCK
                        ? "another copier works on this job"
                        : strerror (errno));
  if (bmfile_open_fd (l->copy_fd, true, BMFILE_COPY, &l->copy, &reason) == -1)
    return message_set (why, "%s: copy bitmap: %s: %s", path, reason,
                        strerror (errno));
  if (l->copy.disk_size != l->disk_size) {
    errno = EINVAL;
    return message_set (why, "%s: copy bitmap: it is for a disk of %llu bytes,"
                        " the source has %llu", path,
                        (unsigned long long) l->copy.disk_size,
                        (unsigned long long) l->disk_size);
  }
  return 0;
}

/* The scope is counted at the job's first start and kept in the file, so that
 * a job that goes on knows how much it is in all. */
static void
count_scope (struct ledger *l)
{
  const uint64_t last = l->nr_clusters - 1;
  uint64_t left = (l->coarse.chunks ? sparse_count (&l->coarse)
                   : bm_count (l->wanted, 0, l->nr_clusters))
    << l->cluster_bits;
  uint64_t past = (l->nr_clusters << l->cluster_bits) - l->disk_size;

  if (ledger_find (l, NULL, last, last + 1) == last)
    left -= past;
  l->scope = atomic_load (&l->copy.live->scratch_bytes);
  if (l->scope < left || l->scope > l->disk_size) {
    l->scope = left;
    atomic_store (&l->copy.live->scratch_bytes, left);
  }
  l->delivered = l->scope - left;
}

static uint64_t
count_clusters (const struct ledger *l)
{
  uint64_t rest = l->disk_size & ((UINT64_C (1) << l->cluster_bits) - 1);

  return (l->disk_size >> l->cluster_bits) + (rest != 0);
}

int
ledger_open (struct ledger *l, const char *path, uint64_t disk_size,
             uint64_t cluster_size, unsigned patience_ms, struct message *why)
{
  memset (l, 0, sizeof *l);
  l->copy_fd = -1;
  l->disk_size = disk_size;
  l->cluster_bits = __builtin_ctzll (cluster_size);
  if (path) {
    if (open_copy_bitmap (l, path, patience_ms, why) == -1)
      goto failed;
    l->cluster_bits = l->copy.cluster_bits;
    l->wanted = l->copy.bits[0];
  }
  l->nr_clusters = count_clusters (l);
  if (sparse_init (&l->taken, l->nr_clusters) == -1) {
    message_set (why, "no memory for the job's bitmap");
    goto failed;
  }
  l->scope = disk_size;
  l->coalesce_at = COALESCE_AT;
  if (path)
    count_scope (l);
  return 0;

 failed:
  ledger_close (l);
  return -1;
}

/* The bits have to be there before the file is: without them it would say that
 * everything has been delivered. */
int
ledger_make (const char *path, uint64_t disk_size, uint64_t cluster_size,
             struct message *why)
{
  struct bmfile_params params = {
    .kind = BMFILE_COPY, .disk_size = disk_size, .cluster_size = cluster_size,
    .export_name = "copy", .name = "copy",
  };
  struct bmfile file;
  char tmp[PATH_MAX];
  int r;

  if (access (path, F_OK) == 0)
    return 0;
  if (snprintf (tmp, sizeof tmp, "%s.new", path) >= (int) sizeof tmp) {
    errno = ENAMETOOLONG;
    return message_set (why, "%s: copy bitmap: %s", path, strerror (errno));
  }
  unlink (tmp);
  r = bmfile_create (tmp, &params, &file);
  if (r == 0) {
    bm_set_range (file.bits[0], 0, file.nr_clusters);
    atomic_store (&file.live->state, BMFILE_ACTIVE);
    r = bmfile_sync (&file);
    bmfile_close (&file);
  }
  if (r == -1 || rename (tmp, path) == -1 || sync_directory (path) == -1)
    return message_set (why, "%s: copy bitmap: %s", path, strerror (errno));
  return 0;
}

int
ledger_coarsen (struct ledger *l, uint64_t cluster_size)
{
  uint64_t a, b, nr_fine = l->nr_clusters;
  const bm_word *fine = l->wanted;

  if (UINT64_C (1) << l->cluster_bits >= cluster_size)
    return 0;
  l->copy_shift = __builtin_ctzll (cluster_size) - l->cluster_bits;
  l->cluster_bits += l->copy_shift;
  sparse_free (&l->taken);
  l->nr_clusters = count_clusters (l);
  if (sparse_init (&l->taken, l->nr_clusters) == -1)
    return -1;
  if (!fine)
    return 0;
  if (sparse_init (&l->coarse, l->nr_clusters) == -1)
    return -1;
  for (a = bm_next_set (fine, 0, nr_fine); a < nr_fine;
       a = bm_next_set (fine, b, nr_fine)) {
    b = bm_next_clear (fine, a, nr_fine);
    sparse_set (&l->coarse, a >> l->copy_shift,
                ((b - 1) >> l->copy_shift) + 1);
  }
  count_scope (l);
  return 0;
}

void
ledger_deliver (struct ledger *l, uint64_t first, uint64_t end)
{
  uint64_t a, b;

  if (!l->wanted)
    return;
  for (a = bm_next_set (l->wanted, first, end); a < end;
       a = bm_next_set (l->wanted, b, end)) {
    b = bm_next_clear (l->wanted, a, end);
    bm_clear_range (l->copy.bits[0], a, b);
    l->delivered += ledger_length (l, a, b);
  }
}

int
ledger_limit (struct ledger *l, const struct range_list *scope)
{
  size_t i;

  if (sparse_init (&l->coarse, l->nr_clusters) == -1)
    return -1;
  l->scope = 0;
  for (i = 0; i < scope->nr; i++) {
    sparse_set (&l->coarse, scope->list[i].first, scope->list[i].end);
    l->scope += ledger_length (l, scope->list[i].first, scope->list[i].end);
  }
  return 0;
}

void
ledger_narrow (struct ledger *l, uint64_t bytes)
{
  l->scope -= bytes;
  if (l->copy.live)
    atomic_store (&l->copy.live->scratch_bytes, l->scope);
}

void
ledger_close (struct ledger *l)
{
  bmfile_close (&l->copy);
  if (l->copy_fd != -1)
    close (l->copy_fd);
  l->copy_fd = -1;
  sparse_free (&l->taken);
  sparse_free (&l->coarse);
  range_list_free (&l->drained);
  range_list_free (&l->flushing);
}

uint64_t
ledger_offset (const struct ledger *l, uint64_t cluster)
{
  uint64_t offset = cluster << l->cluster_bits;

  return offset < l->disk_size ? offset : l->disk_size;
}

uint64_t
ledger_length (const struct ledger *l, uint64_t first, uint64_t end)
{
  return ledger_offset (l, end) - ledger_offset (l, first);
}

static uint64_t
load (const bm_word *bm, uint64_t w)
{
  return atomic_load_explicit (&bm[w], memory_order_acquire);
}

/* WANTED bits of word w that are in filter too, not masked to the disk. */
static uint64_t
wanted_word (const struct ledger *l, const bm_word *filter, uint64_t w)
{
  uint64_t bits = ~sparse_word (&l->taken, w);

  if (l->coarse.chunks)
    bits &= sparse_word (&l->coarse, w);
  else if (l->wanted)
    bits &= load (l->wanted, w);
  if (filter)
    bits &= load (filter, w);
  return bits;
}

uint64_t
ledger_find (const struct ledger *l, const bm_word *filter,
             uint64_t from, uint64_t end)
{
  uint64_t w, bits;

  if (from >= end)
    return end;
  for (w = from / 64; w <= (end - 1) / 64; w++) {
    bits = wanted_word (l, filter, w) & bm_mask (w, from, end);
    if (bits)
      return w * 64 + __builtin_ctzll (bits);
  }
  return end;
}

uint64_t
ledger_first (struct ledger *l)
{
  l->cursor = ledger_find (l, NULL, l->cursor, l->nr_clusters);
  return l->cursor;
}

uint64_t
ledger_run_end (const struct ledger *l, const bm_word *filter,
                uint64_t first, uint64_t end)
{
  uint64_t w, bits;

  if (end > l->nr_clusters)
    end = l->nr_clusters;
  for (w = first / 64; w <= (end - 1) / 64; w++) {
    bits = ~wanted_word (l, filter, w) & bm_mask (w, first, end);
    if (bits)
      return w * 64 + __builtin_ctzll (bits);
  }
  return end;
}

void
ledger_take (struct ledger *l, uint64_t first, uint64_t end)
{
  sparse_set (&l->taken, first, end);
}

void
ledger_give_back (struct ledger *l, uint64_t first, uint64_t end)
{
  sparse_clear (&l->taken, first, end);
  if (first < l->cursor)
    l->cursor = first;
}

int
ledger_drained (struct ledger *l, uint64_t first, uint64_t end)
{
  if (range_list_add (&l->drained, first, end) == -1)
    return -1;
  /* Requests complete nearly in order, so sorting leaves few ranges. */
  if (l->drained.nr >= l->coalesce_at) {
    range_list_coalesce (&l->drained);
    l->coalesce_at = l->drained.nr * 2 + COALESCE_AT;
  }
  l->drained_bytes += ledger_length (l, first, end);
  return 0;
}

void
ledger_flush_begin (struct ledger *l)
{
  struct range_list empty = l->flushing;

  l->flushing = l->drained;
  l->drained = empty;
  l->drained_bytes = 0;
}

/* For good. */
static void
clear_wanted (struct ledger *l, uint64_t first, uint64_t end)
{
  uint64_t copy_end = end << l->copy_shift;

  if (!l->wanted && !l->coarse.chunks)
    return;
  if (copy_end > l->copy.nr_clusters)
    copy_end = l->copy.nr_clusters;
  if (l->wanted)
    bm_clear_range (l->copy.bits[0], first << l->copy_shift, copy_end);
  if (l->coarse.chunks)
    sparse_clear (&l->coarse, first, end);
  sparse_clear (&l->taken, first, end);
}

void
ledger_flushed (struct ledger *l, struct range_list *delivered)
{
  struct range_list empty = *delivered;
  size_t i;

  for (i = 0; i < l->flushing.nr; i++) {
    struct range *r = &l->flushing.list[i];

    clear_wanted (l, r->first, r->end);
    l->delivered += ledger_length (l, r->first, r->end);
  }
  *delivered = l->flushing;
  l->flushing = empty;
}

static uint64_t
give_back_list (struct ledger *l, struct range_list *list)
{
  uint64_t bytes = 0;
  size_t i;

  for (i = 0; i < list->nr; i++) {
    struct range *r = &list->list[i];

    ledger_give_back (l, r->first, r->end);
    bytes += ledger_length (l, r->first, r->end);
  }
  range_list_clear (list);
  return bytes;
}

uint64_t
ledger_lost (struct ledger *l)
{
  l->drained_bytes = 0;
  return give_back_list (l, &l->drained) + give_back_list (l, &l->flushing);
}
