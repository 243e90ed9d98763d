/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One request: a run of clusters from the source to the target. */

/*           ┌── DATA ──▶ READING ─┬─▶ WRITING ──┐
 *   IDLE ───┤               │     └─ all skipped┤
 *           ├── ZERO ──▶ ZEROING ──────────────┤──▶ IDLE, clusters drained
 *           └── MOVE ──▶ MOVING ───────────────┘
 *
 * From each state an error leads to IDLE too, and the clusters go where
 * policy.c says; a refused offload or zero only sends them back to be planned
 * again, without it.
 *
 * A state's I/O may be several pieces; the state is left when the last one has
 * completed (pending), with the first error.  Between READING and WRITING the
 * data is looked through for runs of zeroes, which become zeroes or holes of
 * the target.
 *
 * The target may lose its connection between a write and its completion being
 * seen.  What counts is the connection (generation) the writing began on: if
 * it is not the present one, the clusters are copied again. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "job.h"
#include "offload.h"
#include "scratch.h"

/* Zeroes are looked for in blocks of this size, or of the target's. */
#define ZERO_BLOCK 4096

/* Buffers of all requests together. */
#define BUFFERS_MAX (64 * 1024 * 1024)

static void read_done (struct io *io);
static void write_done (struct io *io);

static struct io *
new_io (struct request *r, void (*done) (struct io *),
        uint64_t offset, uint64_t count)
{
  struct io *io = loop_io (r->job->loop, done, r);

  if (!io) {
    r->error = ENOMEM;
    job_fail (r->job, "no memory");
    return NULL;
  }
  io->offset = offset;
  io->count = count;
  io->buf = r->buf + (offset - r->offset);
  r->pending++;
  return io;
}

static void
become_idle (struct request *r)
{
  struct job *job = r->job;

  r->state = REQUEST_IDLE;
  if (r->windowed)
    job->under_way -= r->count;
  r->next = job->unused;
  job->unused = r;
  job->in_flight--;
}

static void
drained (struct request *r)
{
  struct job *job = r->job;

  if (r->generation == job->generation) {
    if (job->digests && digests_drained (job->digests, &r->digest) == -1)
      job_fail (job, "no memory");
    flush_drained (job, r->first, r->end);
  }
  else {
    job->stats.recopied += r->count;
    ledger_give_back (&job->ledger, r->first, r->end);
  }
  become_idle (r);
}

static void
give_back (struct request *r)
{
  ledger_give_back (&r->job->ledger, r->first, r->end);
  become_idle (r);
}

/* Gives back the memory of a piece's io; true if it was the last. */
static bool
piece_done (struct io *io)
{
  struct request *r = io->owner;

  if (io->error && !r->error)
    r->error = io->error;
  loop_io_free (io);
  return --r->pending == 0;
}

/* Called when there may be nothing pending any more in WRITING or ZEROING. */
static void
written (struct request *r)
{
  struct job *job = r->job;

  if (r->error) {
    policy_target_error (job, r->first, r->end, r->error);
    become_idle (r);
  }
  else
    drained (r);
}

static void
write_done (struct io *io)
{
  struct request *r = io->owner;

  if (!io->error)
    r->job->stats.written += io->count;
  if (piece_done (io))
    written (r);
}

static void
zero_piece_done (struct io *io)
{
  struct request *r = io->owner;
  struct job *job = r->job;

  if (io->error == ENOTSUP || io->error == EOPNOTSUPP) {
    /* The buffer has the zeroes. */
    job->target->can_zero = false;
    io->done = write_done;
    job->target->ops->write (job->target, io);
    return;
  }
  if (!io->error)
    job->stats.zero += io->count;
  if (piece_done (io))
    written (r);
}

/* What is written up to the end of the disk goes on to the end of the target's
 * block; buffers and targets have room for it. */
static uint64_t
padded (const struct job *job, uint64_t end)
{
  uint64_t block = job->target->min_block;

  if (end == job->ledger.disk_size)
    end = (end + block - 1) / block * block;
  return end;
}

static void
write_data (struct request *r, uint64_t first, uint64_t end)
{
  struct job *job = r->job;
  uint64_t max = job->target->max_write;
  struct range_iter it = { .pos = first, .end = padded (job, end),
                           .align = max, .max = max };
  struct range_piece p;
  struct io *io;

  if (first == end)
    return;
  if (it.end > end)
    memset (r->buf + (end - r->offset), 0, it.end - end);
  while (range_next (&it, &p)) {
    io = new_io (r, write_done, p.first, p.end - p.first);
    if (!io)
      return;
    job->target->ops->write (job->target, io);
  }
}

static void
write_zeroes (struct request *r, uint64_t first, uint64_t end)
{
  struct job *job = r->job;
  struct io *io;

  if (job->target->known_zero) {
    job->stats.skipped += end - first;
    return;
  }
  if (!job->target->can_zero) {
    write_data (r, first, end);
    return;
  }
  io = new_io (r, zero_piece_done, first, padded (job, end) - first);
  if (!io)
    return;
  if (io->count > end - first)  /* for the case that it has to be written */
    memset (r->buf + (end - r->offset), 0, first + io->count - end);
  job->target->ops->zero (job->target, io);
}

static void
digest_done (struct io *io)
{
  struct request *r = io->owner;

  if (io->error)
    job_fail (r->job, "digest: %s", strerror (io->error));
  if (piece_done (io))
    written (r);
}

static int
run_digest (struct io *io)
{
  struct request *r = io->end;

  return manifest_digest (io->buf, io->count, &r->digest);
}

/* On a thread, while the same buffer is written. */
static void
start_digest (struct request *r)
{
  struct io *io = new_io (r, digest_done, r->offset, r->count);

  if (!io)
    return;
  io->end = r;
  io->run = run_digest;
  pool_submit (r->job->pool, io);
}

/* Writes what was read.  A run of zeroes counts as such if it is long enough
 * or all there is. */
static void
start_write (struct request *r)
{
  struct target *t = r->job->target;
  uint64_t block = t->min_block > ZERO_BLOCK ? t->min_block : ZERO_BLOCK;
  uint64_t end = r->offset + r->count, data = r->offset, zero = end;
  struct range_iter it = { .pos = r->offset, .end = end,
                           .align = block, .max = block };
  struct range_piece p;

  r->state = REQUEST_WRITING;
  r->generation = r->job->generation;
  r->pending = 1;               /* until all pieces have been started */
  if (r->job->digests)
    start_digest (r);
  while (range_next (&it, &p)) {
    if (is_zero (r->buf + (p.first - r->offset), p.end - p.first)) {
      if (zero == end)
        zero = p.first;
      continue;
    }
    if (zero != end && p.first - zero >= t->zero_run) {
      write_data (r, data, zero);
      write_zeroes (r, zero, p.first);
      data = p.first;
    }
    zero = end;
  }
  if (end - zero < t->zero_run && zero != r->offset)
    zero = end;
  write_data (r, data, zero);
  if (zero < end)
    write_zeroes (r, zero, end);
  if (--r->pending == 0)
    written (r);
}

static void
read_done (struct io *io)
{
  struct request *r = io->owner;
  struct job *job = r->job;

  if (!io->error)
    job->stats.read += io->count;
  if (!piece_done (io))
    return;
  if (r->error) {
    policy_source_error (job, r->first, r->end, r->error);
    become_idle (r);
  }
  else if (job->ends[SIDE_TARGET].state != END_UP
           || job->verdict != JOB_CREATED)
    give_back (r);
  else
    start_write (r);
}

static void
start_read (struct request *r)
{
  struct job *job = r->job;
  uint64_t max = job->source->max_read;
  struct range_iter it = { .pos = r->offset, .end = r->offset + r->count,
                           .align = max, .max = max };
  struct range_piece p;
  struct io *io;

  r->state = REQUEST_READING;
  while (range_next (&it, &p)) {
    io = new_io (r, read_done, p.first, p.end - p.first);
    if (!io)
      break;
    job->source->ops->read (job->source, io);
  }
  if (r->pending == 0)
    give_back (r);
}

static void
zero_done (struct io *io)
{
  struct request *r = io->owner;
  struct job *job = r->job;
  int error = io->error;

  if (!error)
    job->stats.zero += r->count;
  piece_done (io);
  if (error == ENOTSUP || error == EOPNOTSUPP) {
    job_log (job, "the target cannot zero: writing zeroes from now on");
    job->target->can_zero = false;
    give_back (r);
  }
  else
    written (r);
}

static void
start_zero (struct request *r)
{
  struct job *job = r->job;
  struct io *io;

  r->generation = job->generation;
  if (!job->target->can_zero) {
    memset (r->buf, 0, r->count);
    r->state = REQUEST_WRITING;
    write_data (r, r->offset, r->offset + r->count);
    if (r->pending == 0)
      give_back (r);
    return;
  }
  r->state = REQUEST_ZEROING;
  io = new_io (r, zero_done, r->offset,
               padded (job, r->offset + r->count) - r->offset);
  if (io)
    job->target->ops->zero (job->target, io);
  else
    give_back (r);
}

/* Whatever goes wrong with an in-kernel copy is tried once more the plain
 * way, which tells whose fault it is. */
static void
move_done (struct io *io)
{
  struct request *r = io->owner;
  struct job *job = r->job;
  int error = io->error, method = io->method;
  uint64_t moved = io->moved;

  loop_io_free (io);
  r->pending--;
  if (!error) {
    job->stats.offloaded += r->count;
    job->stats.recopied += moved - r->count;
    drained (r);
    return;
  }
  bucket_return (&job->bucket, r->count);
  if (offload_refused (error)) {
    if (method == (int) job->offload) {
      job_log (job, "%s refused: %s", offload_name (job->offload),
               strerror (error));
      job->offload++;
    }
    give_back (r);
    return;
  }
  if (range_list_add (&job->plain, r->first, r->end) == -1)
    job_fail (job, "no memory");
  become_idle (r);
}

static void
start_move (struct request *r)
{
  struct job *job = r->job;
  struct io *io = new_io (r, move_done, r->offset, r->count);

  r->state = REQUEST_MOVING;
  r->generation = job->generation;
  if (!io) {
    give_back (r);
    return;
  }
  io->method = job->offload;
  job->target->ops->move (job->target, job->source->reader, io);
}

static int
need_buffer (struct request *r)
{
  if (r->buf)
    return 0;
  r->buf = mmap (NULL, r->job->buf_size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (r->buf == MAP_FAILED) {
    r->buf = NULL;
    return -1;
  }
  return 0;
}

void
request_start (struct job *job, const struct step *step)
{
  struct request *r = job->unused;

  job->unused = r->next;
  job->in_flight++;
  r->first = step->first;
  r->end = step->end;
  r->offset = ledger_offset (&job->ledger, r->first);
  r->count = ledger_length (&job->ledger, r->first, r->end);
  r->pending = 0;
  r->error = 0;
  r->digest = (struct manifest_extent) { r->offset, r->count, EXTENT_ZERO,
                                         { 0 } };
  r->windowed = step->kind == STEP_DATA;
  if (r->windowed)
    job->under_way += r->count;
  if ((step->kind == STEP_DATA || !job->target->can_zero)
      && step->kind != STEP_MOVE && need_buffer (r) == -1) {
    job_fail (job, "no memory");
    give_back (r);
    return;
  }
  switch (step->kind) {
  case STEP_DATA: start_read (r); break;
  case STEP_ZERO: start_zero (r); break;
  case STEP_MOVE: start_move (r); break;
  default: give_back (r);
  }
}

int
requests_init (struct job *job)
{
  uint64_t nr = BUFFERS_MAX / job->buf_size;
  unsigned i;

  if (nr > job->opt->max_requests)
    nr = job->opt->max_requests;
  if (nr == 0)
    nr = 1;
  job->requests = calloc (nr, sizeof *job->requests);
  if (!job->requests)
    return -1;
  job->nr_requests = nr;
  for (i = 0; i < nr; i++) {
    job->requests[i].job = job;
    job->requests[i].next = job->unused;
    job->unused = &job->requests[i];
  }
  return 0;
}

void
requests_free (struct job *job)
{
  unsigned i;

  for (i = 0; i < job->nr_requests; i++)
    if (job->requests[i].buf)
      munmap (job->requests[i].buf, job->buf_size);
  free (job->requests);
  job->requests = NULL;
}
