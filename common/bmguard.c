/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What is in a bitmap file, for those who do not trust who may write to it. */

#include <config.h>

#include <string.h>

#include "bmfile.h"

/* The guard replaces all of the mapping at once. */
bool
bmfile_is_whole (const struct bmfile *bf)
{
  return memcmp (bf->base, BMFILE_MAGIC, sizeof bf->fixed->magic) == 0;
}

void
bmfile_reason (const struct bmfile *bf, char reason[BMFILE_REASON_SIZE])
{
  size_t i;

  memcpy (reason, bf->live->reason, BMFILE_REASON_SIZE);
  reason[BMFILE_REASON_SIZE - 1] = '\0';
  for (i = 0; reason[i]; i++)
    if (reason[i] < 0x20 || reason[i] > 0x7e)
      reason[i] = '?';
}
