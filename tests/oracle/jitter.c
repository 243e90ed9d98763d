/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A filter for tests: holds and splits requests at random, to widen races. */

/* Below the fleece filter it stands for a slow backend that does things in
 * no particular order and not at once: a request is held before or after it
 * is done, or done in two parts with a pause between.  All that NBD allows.
 *
 *   jitter=PERCENT     of the requests (default 20)
 *   jitter-max=N       microseconds of a pause at most (default 2000)
 *   jitter-seed=N
 */

#include <config.h>

#include <stdatomic.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "../testing.h"

static int percent = 20, max_us = 2000;
static _Atomic uint64_t counter;

static int
jitter_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
               const char *key, const char *value)
{
  uint64_t seed;

  if (strcmp (key, "jitter") == 0)
    return nbdkit_parse_int ("jitter", value, &percent);
  if (strcmp (key, "jitter-max") == 0)
    return nbdkit_parse_int ("jitter-max", value, &max_us);
  if (strcmp (key, "jitter-seed") == 0) {
    if (nbdkit_parse_uint64_t ("jitter-seed", value, &seed) == -1)
      return -1;
    counter = seed;
    return 0;
  }
  return next (nxdata, key, value);
}

/* What happens to one request. */
struct plan {
  unsigned before, between, after; /* microseconds */
  uint32_t split;               /* bytes of the first part; 0: one part */
};

static struct plan
make_plan (uint32_t count)
{
  struct rng r = { atomic_fetch_add (&counter, 1) * UINT64_C (0x9e3779b97f4b) };
  struct plan p = { 0 };

  if ((int) rng_below (&r, 100) >= percent || max_us == 0)
    return p;
  switch (rng_below (&r, 3)) {
  case 0:
    p.before = rng_below (&r, max_us);
    break;
  case 1:
    p.after = rng_below (&r, max_us);
    break;
  default:
    p.between = rng_below (&r, max_us);
    p.split = count > 1 ? 1 + rng_below (&r, count - 1) : 0;
  }
  return p;
}

static void
pause_us (unsigned us)
{
  struct timespec t = { us / 1000000, us % 1000000 * 1000 };

  if (us > 0)
    nanosleep (&t, NULL);
}

static int
jitter_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
              uint64_t offset, uint32_t flags, int *err)
{
  struct plan p = make_plan (count);

  (void) handle;
  pause_us (p.before);
  if (p.split) {
    if (next->pread (next, buf, p.split, offset, flags, err) == -1)
      return -1;
    pause_us (p.between);
  }
  if (next->pread (next, (char *) buf + p.split, count - p.split,
                   offset + p.split, flags, err) == -1)
    return -1;
  pause_us (p.after);
  return 0;
}

static int
jitter_pwrite (nbdkit_next *next, void *handle, const void *buf,
               uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct plan p = make_plan (count);

  (void) handle;
  pause_us (p.before);
  if (p.split) {
    if (next->pwrite (next, buf, p.split, offset, flags, err) == -1)
      return -1;
    pause_us (p.between);
  }
  if (next->pwrite (next, (const char *) buf + p.split, count - p.split,
                    offset + p.split, flags, err) == -1)
    return -1;
  pause_us (p.after);
  return 0;
}

/* A fast zero must fail before it changed anything: not split. */
static int
jitter_zero (nbdkit_next *next, void *handle, uint32_t count,
             uint64_t offset, uint32_t flags, int *err)
{
  struct plan p = make_plan (flags & NBDKIT_FLAG_FAST_ZERO ? 1 : count);

  (void) handle;
  pause_us (p.before);
  if (p.split) {
    if (next->zero (next, p.split, offset, flags, err) == -1)
      return -1;
    pause_us (p.between);
  }
  if (next->zero (next, count - p.split, offset + p.split, flags, err) == -1)
    return -1;
  pause_us (p.after);
  return 0;
}

static int
jitter_trim (nbdkit_next *next, void *handle, uint32_t count,
             uint64_t offset, uint32_t flags, int *err)
{
  struct plan p = make_plan (count);

  (void) handle;
  pause_us (p.before);
  if (p.split) {
    if (next->trim (next, p.split, offset, flags, err) == -1)
      return -1;
    pause_us (p.between);
  }
  if (next->trim (next, count - p.split, offset + p.split, flags, err) == -1)
    return -1;
  pause_us (p.after);
  return 0;
}

/* Holding the answer makes it old: what it says may be wrong by then. */
static int
jitter_extents (nbdkit_next *next, void *handle, uint32_t count,
                uint64_t offset, uint32_t flags,
                struct nbdkit_extents *extents, int *err)
{
  struct plan p = make_plan (1);

  (void) handle;
  pause_us (p.before + p.between);
  if (next->extents (next, count, offset, flags, extents, err) == -1)
    return -1;
  pause_us (p.after);
  return 0;
}

static struct nbdkit_filter filter = {
  .name = "jitter",
  .longname = "hold and split requests at random",
  .config = jitter_config,
  .config_help = "jitter=<PERCENT> jitter-max=<MICROSECONDS> jitter-seed=<N>",
  .pread = jitter_pread,
  .pwrite = jitter_pwrite,
  .zero = jitter_zero,
  .trim = jitter_trim,
  .extents = jitter_extents,
};

NBDKIT_REGISTER_FILTER (filter)
