/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Fuzz target: images and records that the copier finds, and its orders. */

/* The first byte says what the rest is:
 *
 *   0..127  two bytes, the length of an image's head; the head; and the record
 *           beside it.  1 in the byte: the backup that is made knows its
 *           checkpoint; 2: and its uuid; 4: the image is asked for as raw
 *   128..   lines of the control pipe
 *
 * control.c is included for what it does not show, and what it orders is
 * played here.  What must hold: a head or a record that makes sense gives text
 * that ends and numbers in range; a chain is followed to an end; a record
 * written again reads back as what it was.
 */

#include <config.h>

#include <stdio.h>

/* It complains of each line that is no order. */
#define fputs(text, file) ((void) (text))
#include "../copier/control.c"
#undef fputs
#include "chain.h"
#include "fuzz.h"
#include "qcow2.h"
#include "record.h"

enum { KNOWS_SINCE = 1, KNOWS_UUID = 2, RAW = 4, ORDERS = 128 };

static struct world {
  char dir[64];
  char image[96], record[112], other[96];
} world;

static void
remove_world (void)
{
  remove (world.record);
  remove (world.image);
  remove (world.other);
  remove (world.dir);
}

static void
put (const char *path, const uint8_t *data, size_t size)
{
  int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  if (fd == -1 || write (fd, data, size) != (ssize_t) size)
    abort ();
  close (fd);
}

static void
make_world (void)
{
  fuzz_make_dir (world.dir);
  atexit (remove_world);
  snprintf (world.image, sizeof world.image, "%s/image", world.dir);
  snprintf (world.record, sizeof world.record, "%s.nbdfleece", world.image);
  snprintf (world.other, sizeof world.other, "%s/other", world.dir);
  put (world.other, (const uint8_t *) "x", 1);
}

static void
check_why (const struct message *why)
{
  if (memchr (why->text, '\0', sizeof why->text) == NULL || !why->text[0])
    abort ();
}

static void
try_header (void)
{
  struct message why = { "" };
  struct qcow2_header h;

  if (qcow2_read_header (world.image, &h, &why) == -1) {
    check_why (&why);
    return;
  }
  if (h.cluster_size < 512 || h.cluster_size > (2 << 20)
      || strlen (h.backing) > QCOW2_BACKING_MAX)
    abort ();
}

static void
try_record (void)
{
  struct message why = { "" };
  struct record first, second;
  int known = record_read (world.image, &first, &why);

  if (known == -1)
    check_why (&why);
  if (known != 1)
    return;
  if (first.id.size == 0 || !record_state_name (first.state)
      || record_write (world.image, &first, &why) == -1
      || record_read (world.image, &second, &why) != 1
      || memcmp (&first, &second, sizeof first) != 0)
    abort ();
}

static void
try_chain (unsigned mode)
{
  static struct target_params params;
  struct message why = { "" };
  struct chain_backing b;
  char name[128];
  struct identity id = {
    .export_name = "vda", .snapshot = "s", .size = 1048576,
    .instant_ns = INT64_C (1700000000000000000),
  };

  if (mode & KNOWS_SINCE) {
    strcpy (id.since, "c");
    strcpy (id.since_uuid, "01234567-89ab-cdef-0123-456789abcdef");
  }
  if (mode & KNOWS_UUID)
    strcpy (id.uuid, "11234567-89ab-cdef-0123-456789abcdef");
  params.nr_taken = 0;
  snprintf (name, sizeof name, "%s%s", mode & RAW ? "" : "qcow2:",
            world.image);
  if (chain_check_backing (&id, world.other, name, &params, &b, &why) == -1)
    check_why (&why);
  else if (strlen (b.written) > QCOW2_BACKING_MAX)
    abort ();
  if (chain_check_own (&id, world.image, &b, &why) == -1
      || chain_check_update (&id, world.image, &why) == -1)
    check_why (&why);
  if (chain_take (&params, name, &why) == -1)
    check_why (&why);
  if (params.nr_taken > TARGET_TAKEN_MAX)
    abort ();
}

/* ------------------------------------------------------------------ orders */

void
job_pause (struct job *job)
{
  job->verdict = JOB_PAUSED;
}

void
job_resume (struct job *job)
{
  job->verdict = JOB_RUNNING;
}

void
job_cancel (struct job *job)
{
  job->verdict = JOB_CANCELLED;
}

void
job_set_speed (struct job *job, uint64_t rate)
{
  if (rate > INT64_MAX)
    abort ();
  (void) job;
}

static void
try_orders (const uint8_t *data, size_t size)
{
  static struct job job;
  struct control c = { .job = &job, .fd = -1 };

  while (size-- > 0) {
    take_byte (&c, *data++);
    if (c.length >= sizeof c.line)
      abort ();
  }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  size_t head;

  if (!world.dir[0])
    make_world ();
  if (size < 3)
    return 0;
  if (data[0] & ORDERS) {
    try_orders (data + 1, size - 1);
    return 0;
  }
  head = data[1] + 256 * data[2];
  if (head > size - 3)
    head = size - 3;
  put (world.image, data + 3, head);
  put (world.record, data + 3 + head, size - 3 - head);
  try_header ();
  try_record ();
  try_chain (data[0]);
  return 0;
}
