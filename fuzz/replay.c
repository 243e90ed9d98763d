/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Runs a fuzz target without libFuzzer: on files, and on mutations of them. */

/* replay SECONDS FILE...
 *
 * Each file once; then, for so many seconds, files with random bytes changed,
 * doubled, left out or put together.  That finds little that libFuzzer would
 * not, but needs no compiler of its own, so the test suite can do it, and a
 * corpus stays what it is.  The seed is as in tests/testing.h.
 */

#include <config.h>

#include <time.h>

#include "testing.h"

#define INPUT_MAX 100000

extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

struct input {
  uint8_t *data;
  size_t size;
};

static struct input
read_input (const char *path)
{
  FILE *fp = fopen (path, "rb");
  struct input in = { malloc (INPUT_MAX), 0 };

  CHECK (fp && in.data);
  in.size = fread (in.data, 1, INPUT_MAX, fp);
  fclose (fp);
  return in;
}

/* Bytes worth trying: those at the ends of ranges. */
static uint8_t
some_byte (struct rng *rng)
{
  static const uint8_t bytes[] = { 0, 1, 2, 7, 8, 16, 32, 127, 128, 254, 255 };

  return rng_below (rng, 2) ? rng_next (rng)
    : bytes[rng_below (rng, sizeof bytes)];
}

static size_t
mutate (struct rng *rng, uint8_t *data, size_t size)
{
  size_t at = rng_below (rng, size), n = 1 + rng_below (rng, 64);

  if (n > size - at)
    n = size - at;
  switch (rng_below (rng, 4)) {
  case 0:                       /* left out */
    memmove (data + at, data + at + n, size - at - n);
    return size - n;
  case 1:                       /* doubled */
    if (size + n > INPUT_MAX)
      return size;
    memmove (data + at + n, data + at, size - at);
    return size + n;
  default:
    data[at] = some_byte (rng);
    return size;
  }
}

/* Its own copy, so that a read past the end is seen. */
static void
try (const uint8_t *data, size_t size)
{
  uint8_t *copy = malloc (size ? size : 1);

  CHECK (copy != NULL);
  memcpy (copy, data, size);
  LLVMFuzzerTestOneInput (copy, size);
  free (copy);
}

static size_t
make_input (struct rng *rng, const struct input *in, int nr, uint8_t *data)
{
  const struct input *a = &in[rng_below (rng, nr)];
  const struct input *b = &in[rng_below (rng, nr)];
  size_t size = a->size, cut, i, n;

  memcpy (data, a->data, size);
  if (rng_below (rng, 4) == 0 && b->size > 2) {
    cut = 2 + rng_below (rng, b->size - 2);
    n = b->size - cut;
    if (n > INPUT_MAX - size)
      n = INPUT_MAX - size;
    memcpy (data + size, b->data + cut, n);
    size += n;
  }
  for (i = rng_below (rng, 6); i > 0 && size > 4; i--)
    size = mutate (rng, data, size);
  return size;
}

int
main (int argc, char *argv[])
{
  struct input *in;
  struct rng rng;
  uint8_t *data = malloc (INPUT_MAX * 2);
  unsigned long done = 0;
  time_t end;
  int i;

  if (argc < 3) {
    fprintf (stderr, "usage: replay SECONDS FILE...\n");
    return 2;
  }
  in = calloc (argc - 2, sizeof *in);
  CHECK (in && data);
  for (i = 2; i < argc; i++) {
    in[i - 2] = read_input (argv[i]);
    try (in[i - 2].data, in[i - 2].size);
  }
  rng = rng_start ();
  for (end = time (NULL) + atoi (argv[1]); time (NULL) < end; done++)
    try (data, make_input (&rng, in, argc - 2, data));
  fprintf (stderr, "%d files, %lu mutations\n", argc - 2, done);
  printf ("cases: fuzzed inputs: %lu\n", argc - 2 + done);
  for (i = 2; i < argc; i++)
    free (in[i - 2].data);
  free (in);
  free (data);
  return EXIT_SUCCESS;
}
