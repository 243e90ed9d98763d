/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Messages for people: to stderr, the journal or syslog. */

#ifndef NBDFLEECE_LOG_H
#define NBDFLEECE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <syslog.h>             /* for the levels */

enum log_place { LOG_PLACE_STDERR, LOG_PLACE_JOURNAL, LOG_PLACE_SYSLOG };

struct log {
  int level;                    /* the least important that is written:
                                 * LOG_ERR to LOG_DEBUG */
  enum log_place place;
  bool discreet;                /* somebody's terminal: nothing but warnings
                                 * and errors to stderr, the rest to syslog */
};

/* Writes to stderr; with the prefixes of sd-daemon(3) if that is the
 * journal. */
extern void log_open (struct log *log, int level);

/* For a daemon in the background, until it has let go of stderr. */
extern void log_be_discreet (struct log *log);

/* From now on all to syslog. */
extern void log_to_syslog (struct log *log);

/* One line, whatever the text holds: control characters become blanks. */
extern void log_message (const struct log *log, int level,
                         const char *format, ...)
  __attribute__ ((format (printf, 3, 4)));

#define log_error(log, ...) log_message ((log), LOG_ERR, __VA_ARGS__)
#define log_warning(log, ...) log_message ((log), LOG_WARNING, __VA_ARGS__)
#define log_info(log, ...) log_message ((log), LOG_INFO, __VA_ARGS__)
#define log_debug(log, ...) log_message ((log), LOG_DEBUG, __VA_ARGS__)

#endif /* NBDFLEECE_LOG_H */
