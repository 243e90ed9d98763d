/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Metadata contexts: which there are, and which a client has chosen. */

/* "Metadata querying": base: is the protocol's own namespace, qemu: that of
 * QEMU's server.  In both, a query that ends with the colon lists what there
 * is and selects nothing; QEMU's qemu:dirty-bitmap: does the same one level
 * down.  What no query of a known form names is passed over.
 */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include "context.h"

unsigned
context_count (const struct view *v)
{
  return CONTEXT_NR_DIRTY + v->tracking.nr;
}

bool
context_is_offered (const struct view *v, unsigned nr)
{
  return nr < CONTEXT_NR_DIRTY
    || !tracking_is_deleted (&v->tracking, nr - CONTEXT_NR_DIRTY);
}

void
context_name (const struct view *v, unsigned nr, char name[CONTEXT_NAME_SIZE])
{
  if (nr == CONTEXT_NR_BASE)
    strcpy (name, CONTEXT_BASE);
  else if (nr == CONTEXT_NR_DEPTH)
    strcpy (name, CONTEXT_DEPTH);
  else
    snprintf (name, CONTEXT_NAME_SIZE, "%s%.*s", CONTEXT_DIRTY,
              NAME_LENGTH_MAX,
              v->tracking.maps[nr - CONTEXT_NR_DIRTY].fixed->name);
}

static bool
query_is (const uint8_t *query, size_t len, const char *text)
{
  return len == strlen (text) && memcmp (query, text, len) == 0;
}

bool
context_matches (const struct view *v, unsigned nr, const uint8_t *query,
                 size_t len, bool wildcards)
{
  char name[CONTEXT_NAME_SIZE];

  context_name (v, nr, name);
  if (query_is (query, len, name))
    return true;
  if (!wildcards)
    return false;
  if (query_is (query, len, "base:"))
    return nr == CONTEXT_NR_BASE;
  if (query_is (query, len, "qemu:"))
    return nr != CONTEXT_NR_BASE;
  return query_is (query, len, CONTEXT_DIRTY) && nr >= CONTEXT_NR_DIRTY;
}
