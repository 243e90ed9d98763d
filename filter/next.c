/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Opening and negotiating contexts. */

#include <config.h>

#include "next.h"

int64_t
next_negotiate (nbdkit_next *next, bool readonly)
{
  int64_t size = next->get_size (next);

  if (size == -1
      || next->can_flush (next) == -1
      || next->can_extents (next) == -1
      || next->can_cache (next) == -1)
    return -1;
  if (!readonly
      && (next->can_write (next) == -1
          || next->can_trim (next) == -1
          || next->can_zero (next) == -1
          || next->can_fast_zero (next) == -1
          || next->can_fua (next) == -1))
    return -1;
  return size;
}

nbdkit_next *
next_open (nbdkit_backend *backend, bool readonly)
{
  nbdkit_next *next = nbdkit_next_context_open (backend, readonly, "", 1);

  if (!next)
    return NULL;
  if (next->prepare (next) == 0) {
    if (next_negotiate (next, readonly) != -1)
      return next;
    next->finalize (next);
  }
  nbdkit_next_context_close (next);
  return NULL;
}

void
next_close (nbdkit_next *next)
{
  next->finalize (next);
  nbdkit_next_context_close (next);
}
