/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Error messages of one line. */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "message.h"

int
message_set (struct message *m, const char *fmt, ...)
{
  int err = errno;
  va_list ap;
  char *p;

  va_start (ap, fmt);
  vsnprintf (m->text, sizeof m->text, fmt, ap);
  va_end (ap);
  for (p = m->text; *p; p++)
    if ((unsigned char) *p < 0x20 || *p == 0x7f)
      *p = ' ';
  errno = err;
  return -1;
}
