/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the fuzz targets share. */

#ifndef NBDFLEECE_FUZZ_H
#define NBDFLEECE_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* A new directory, in memory if possible: targets flush a lot. */
static inline void
fuzz_make_dir (char dir[64])
{
  snprintf (dir, 64, "%s/nbdfleece-fuzz.XXXXXX",
            access ("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  if (!mkdtemp (dir))
    abort ();
}

#endif /* NBDFLEECE_FUZZ_H */
