/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Settling the model: what the live disk holds now is what counts. */

#include <config.h>

#include <inttypes.h>

#include "oracle.h"

static void
read_live (void *opaque, uint64_t offset, uint64_t count, uint8_t *buf)
{
  struct oracle *o = opaque;

  if (nbd_pread (o->settler, buf, count, offset, 0) == -1)
    die ("reading the live disk at %" PRIu64 ": %s", offset, nbd_get_error ());
}

void
settle (struct oracle *o)
{
  if (!o->settler) {
    o->settler = server_connect (&o->export, EXPORT);
    if (!o->settler)
      die ("connecting to the export: %s", nbd_get_error ());
    if (nbd_get_size (o->settler) != (int64_t) o->opt.size)
      die ("the export has another size");
  }
  model_settle (o->model, read_live, o);
  atomic_fetch_add (&o->tally.settled, 1);
}
