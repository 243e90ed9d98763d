/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Instants and UUIDs as text. */

#include <config.h>

#include <stdio.h>
#include <time.h>

#include "text.h"

void
format_instant (int64_t ns, char text[INSTANT_SIZE])
{
  time_t seconds = ns / 1000000000;
  char date[INSTANT_SIZE - 12];
  struct tm tm;

  gmtime_r (&seconds, &tm);
  strftime (date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
  snprintf (text, INSTANT_SIZE, "%s.%09uZ", date,
            (unsigned) (ns % 1000000000));
}

void
format_uuid (const uint8_t uuid[16], char text[UUID_SIZE])
{
  char *p = text;
  unsigned i;

  for (i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      *p++ = '-';
    p += sprintf (p, "%02x", uuid[i]);
  }
}
