/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Sizes and times with units. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "units.h"

/* The largest come first, a factor of 1 last. */
struct unit {
  const char *name;
  uint64_t factor;
};

static const struct unit size_units[] = {
  { "T", UINT64_C (1) << 40 }, { "G", UINT64_C (1) << 30 },
  { "M", UINT64_C (1) << 20 }, { "K", UINT64_C (1) << 10 },
  { "", 1 }, { NULL, 0 }
};

static const struct unit time_units[] = {
  { "h", 3600 * 1000 }, { "m", 60 * 1000 }, { "s", 1000 }, { "ms", 1 },
  { NULL, 0 }
};

static int
fail (int err)
{
  errno = err;
  return -1;
}

static int
parse (const char *text, const struct unit *units, uint64_t *value)
{
  uint64_t n = 0;
  const char *s;

  for (s = text; *s >= '0' && *s <= '9'; s++)
    if (__builtin_mul_overflow (n, UINT64_C (10), &n)
        || __builtin_add_overflow (n, (uint64_t) (*s - '0'), &n))
      return fail (ERANGE);
  if (s == text)
    return fail (EINVAL);
  if (n == 0 && *s == '\0') {
    *value = 0;
    return 0;
  }
  while (units->name && strcmp (units->name, s) != 0)
    units++;
  if (!units->name)
    return fail (EINVAL);
  return __builtin_mul_overflow (n, units->factor, value) ? fail (ERANGE) : 0;
}

static const char *
format (uint64_t value, const struct unit *units, char buf[UNITS_SIZE])
{
  while (value % units->factor != 0 || (value == 0 && units->factor != 1))
    units++;
  snprintf (buf, UNITS_SIZE, "%" PRIu64 "%s", value / units->factor,
            units->name);
  return buf;
}

int
units_parse_size (const char *text, uint64_t *bytes)
{
  return parse (text, size_units, bytes);
}

int
units_parse_time (const char *text, uint64_t *milliseconds)
{
  return parse (text, time_units, milliseconds);
}

const char *
units_size (uint64_t bytes, char buf[UNITS_SIZE])
{
  return format (bytes, size_units, buf);
}

const char *
units_time (uint64_t milliseconds, char buf[UNITS_SIZE])
{
  return format (milliseconds, time_units, buf);
}
