/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The token bucket. */

#include <config.h>

#include "bucket.h"

#define DEPTH_SECONDS 0.1

static double
tokens_at (const struct bucket *b, double now)
{
  double depth = b->rate * DEPTH_SECONDS;
  double tokens = b->tokens + (now - b->then) * b->rate;

  return tokens < depth ? tokens : depth;
}

void
bucket_set_rate (struct bucket *b, uint64_t rate, double now)
{
  *b = (struct bucket) { .rate = rate, .tokens = 1, .then = now };
}

bool
bucket_take (struct bucket *b, uint64_t bytes, double now)
{
  if (b->rate == 0)
    return true;
  b->tokens = tokens_at (b, now);
  b->then = now;
  if (b->tokens <= 0)
    return false;
  b->tokens -= bytes;
  return true;
}

void
bucket_return (struct bucket *b, uint64_t bytes)
{
  b->tokens += bytes;
}

double
bucket_wait (const struct bucket *b, double now)
{
  double tokens;

  if (b->rate == 0)
    return 0;
  tokens = tokens_at (b, now);
  /* One token past zero, so that rounding cannot make the caller spin. */
  return tokens > 0 ? 0 : (1 - tokens) / b->rate;
}

uint64_t
bucket_largest (const struct bucket *b)
{
  return b->rate == 0 ? UINT64_MAX : b->rate * DEPTH_SECONDS;
}
