/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Which key was meant by one that does not exist. */

#include <config.h>

#include <string.h>

#include "schema.h"

/* Keys are short; what is longer was not meant to be one. */
#define WORD_MAX 32

static unsigned
least (unsigned a, unsigned b, unsigned c)
{
  const unsigned m = a < b ? a : b;

  return m < c ? m : c;
}

/* How many letters have to be inserted, deleted, replaced or exchanged with
 * their neighbour to make b of a (optimal string alignment). */
static unsigned
distance (const char *a, const char *b)
{
  const size_t la = strlen (a), lb = strlen (b);
  unsigned d[WORD_MAX + 1][WORD_MAX + 1];
  size_t i, j;

  if (la > WORD_MAX || lb > WORD_MAX)
    return WORD_MAX;
  for (i = 0; i <= la; i++)
    d[i][0] = i;
  for (j = 0; j <= lb; j++)
    d[0][j] = j;
  for (i = 1; i <= la; i++)
    for (j = 1; j <= lb; j++) {
      d[i][j] = least (d[i - 1][j] + 1, d[i][j - 1] + 1,
                       d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
          && d[i - 2][j - 2] + 1 < d[i][j])
        d[i][j] = d[i - 2][j - 2] + 1;
    }
  return d[la][lb];
}

const char *
suggest_key (const struct section *section, const char *text)
{
  const char *best = NULL;
  unsigned best_distance = 0, d;
  size_t i;

  for (i = 0; i < section->nr_options; i++) {
    d = distance (text, section->options[i].key);
    if (!best || d < best_distance) {
      best = section->options[i].key;
      best_distance = d;
    }
  }
  /* One letter in three may be wrong, and always one. */
  if (best && best_distance <= 1 + strlen (best) / 4
      && best_distance < strlen (best))
    return best;
  return NULL;
}
