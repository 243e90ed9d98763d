/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Small things the oracle's parts share; none of them returns an error. */

#include <config.h>

#include <stdarg.h>
#include <unistd.h>

#include "oracle.h"

/* One process, one death: the first thread that dies speaks. */
static struct {
  pthread_mutex_t lock;
  void (*handler) (void *);
  void *opaque;
} death = { .lock = PTHREAD_MUTEX_INITIALIZER };

void
at_death (void (*handler) (void *), void *opaque)
{
  death.handler = handler;
  death.opaque = opaque;
}

void
complain (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  flockfile (stderr);
  fputs ("oracle: ", stderr);
  vfprintf (stderr, fmt, args);
  fputc ('\n', stderr);
  funlockfile (stderr);
  va_end (args);
}

void
die (const char *fmt, ...)
{
  va_list args;

  pthread_mutex_lock (&death.lock); /* for good */
  va_start (args, fmt);
  fputs ("oracle: FAILED: ", stderr);
  vfprintf (stderr, fmt, args);
  fputc ('\n', stderr);
  va_end (args);
  if (death.handler)
    death.handler (death.opaque);
  fflush (NULL);
  _exit (1);
}

void *
xmalloc (size_t size)
{
  void *p = malloc (size);

  if (!p)
    die ("out of memory");
  return p;
}

void *
xcalloc (size_t n, size_t size)
{
  void *p = calloc (n, size);

  if (!p)
    die ("out of memory");
  return p;
}

void *
xrealloc (void *p, size_t size)
{
  p = realloc (p, size);
  if (!p)
    die ("out of memory");
  return p;
}

char *
xprintf (const char *fmt, ...)
{
  va_list args;
  char *text;

  va_start (args, fmt);
  if (vasprintf (&text, fmt, args) == -1)
    die ("out of memory");
  va_end (args);
  return text;
}

bool
chance (struct rng *r, unsigned percent)
{
  return rng_below (r, 100) < percent;
}

uint64_t
log_uniform (struct rng *r, uint64_t max)
{
  unsigned bits = 64 - __builtin_clzll (max);
  uint64_t top = UINT64_C (1) << rng_below (r, bits + 1);

  return 1 + rng_below (r, top < max ? top : max);
}

void
thread_start (pthread_t *t, void *(*run) (void *), void *arg)
{
  int err = pthread_create (t, NULL, run, arg);

  if (err)
    die ("pthread_create: %s", strerror (err));
}
