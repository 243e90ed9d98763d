/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Sizes and times: what is read, what is refused, and back again. */

#include <config.h>

#include "testing.h"
#include "units.h"

#define KIB UINT64_C (1024)

static void
test_good (void)
{
  static const struct { const char *text; uint64_t value; } sizes[] = {
    { "0", 0 }, { "0K", 0 }, { "1", 1 }, { "007", 7 }, { "1K", KIB },
    { "2M", 2 * KIB * KIB }, { "3G", 3 * KIB * KIB * KIB },
    { "4T", 4 * KIB * KIB * KIB * KIB }, { "18446744073709551615", UINT64_MAX },
  }, times[] = {
    { "0", 0 }, { "0h", 0 }, { "1ms", 1 }, { "2s", 2000 }, { "3m", 180000 },
    { "4h", 4 * 3600000 },
  };
  uint64_t n;
  size_t i;

  for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    CHECK (units_parse_size (sizes[i].text, &n) == 0 && n == sizes[i].value);
  for (i = 0; i < sizeof times / sizeof times[0]; i++)
    CHECK (units_parse_time (times[i].text, &n) == 0 && n == times[i].value);
}

static void
test_bad (void)
{
  static const char *const sizes[] = {
    "", " 1", "1 ", "-1", "+1", "0x10", "1.5G", "1k", "1KB", "K", "1KK", "1P"
  }, *const times[] = { "", "1", "-1s", "1.5s", "1d", "s", "1 s", "1S", "0x" };
  static const char *const large[] = {
    "18446744073709551616", "99999999999999999999999", "18014398509481984K",
    "16777216T"
  };
  uint64_t n = 42;
  size_t i;

  for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    CHECK (units_parse_size (sizes[i], &n) == -1 && errno == EINVAL);
  for (i = 0; i < sizeof times / sizeof times[0]; i++)
    CHECK (units_parse_time (times[i], &n) == -1 && errno == EINVAL);
  for (i = 0; i < sizeof large / sizeof large[0]; i++)
    CHECK (units_parse_size (large[i], &n) == -1 && errno == ERANGE);
  CHECK (units_parse_time ("18446744073709551615s", &n) == -1
         && errno == ERANGE);
}

static void
test_format (void)
{
  char buf[UNITS_SIZE];

  CHECK (strcmp (units_size (0, buf), "0") == 0);
  CHECK (strcmp (units_size (1023, buf), "1023") == 0);
  CHECK (strcmp (units_size (1536, buf), "1536") == 0);
  CHECK (strcmp (units_size (2 * KIB * KIB, buf), "2M") == 0);
  CHECK (strcmp (units_size (UINT64_MAX, buf), "18446744073709551615") == 0);
  CHECK (strcmp (units_time (0, buf), "0ms") == 0);
  CHECK (strcmp (units_time (1500, buf), "1500ms") == 0);
  CHECK (strcmp (units_time (3600000, buf), "1h") == 0);
}

static void
test_round_trip (void)
{
  struct rng rng = rng_start ();
  char buf[UNITS_SIZE];
  uint64_t n, back;
  int i;

  for (i = 0; i < 100000; i++) {
    n = rng_next (&rng) >> rng_below (&rng, 64);
    n &= UINT64_MAX << rng_below (&rng, 64);
    CHECK (units_parse_size (units_size (n, buf), &back) == 0 && back == n);
    CHECK (units_parse_time (units_time (n, buf), &back) == 0 && back == n);
  }
}

int
main (void)
{
  test_good ();
  test_bad ();
  test_format ();
  test_round_trip ();
  return EXIT_SUCCESS;
}
