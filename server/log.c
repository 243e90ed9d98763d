/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Where messages for people go. */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

#define LINE_SIZE 1024

/* systemd says which file the journal's stream is; stderr may have been
 * redirected since. */
static bool
stderr_is_journal (void)
{
  const char *stream = getenv ("JOURNAL_STREAM");
  unsigned long long dev, ino;
  struct stat st;

  return stream && sscanf (stream, "%llu:%llu", &dev, &ino) == 2
    && fstat (STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

void
log_open (struct log *log, int level)
{
  log->level = level;
  log->discreet = false;
  log->place = stderr_is_journal () ? LOG_PLACE_JOURNAL : LOG_PLACE_STDERR;
}

void
log_be_discreet (struct log *log)
{
  openlog ("nbdfleeced", LOG_PID, LOG_DAEMON);
  log->discreet = true;
}

void
log_to_syslog (struct log *log)
{
  log->place = LOG_PLACE_SYSLOG;
}

static const char *
level_word (int level)
{
  switch (level) {
  case LOG_ERR: return "error: ";
  case LOG_WARNING: return "warning: ";
  case LOG_DEBUG: return "debug: ";
  default: return "";
  }
}

void
log_message (const struct log *log, int level, const char *format, ...)
{
  char line[LINE_SIZE], *p;
  va_list args;

  if (level > log->level)
    return;
  va_start (args, format);
  vsnprintf (line, sizeof line, format, args);
  va_end (args);
  for (p = line; *p; p++)
    if ((unsigned char) *p < ' ' || *p == 127)
      *p = ' ';

  if (log->place == LOG_PLACE_SYSLOG || (log->discreet && level > LOG_WARNING))
    syslog (level, "%s", line);
  else if (log->place == LOG_PLACE_JOURNAL)
    fprintf (stderr, "<%d>%s\n", level, line);
  else
    fprintf (stderr, "nbdfleeced: %s%s\n", level_word (level), line);
}
