/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the front is told to do: options, and the file they may come from. */

#ifndef NBDFLEECE_SETTINGS_H
#define NBDFLEECE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "address.h"
#include "allow.h"

/* Nothing in it changes after it was read. */
struct settings {
  char *config;                 /* file to read more from, or NULL */
  char *state;
  char *backend;                /* path of its unix socket */
  char *status;                 /* or NULL */
  char *id;                     /* of these settings, or NULL */
  struct address *listen;
  size_t nr_listen;
  struct rule *allow;
  size_t nr_allow;
  char **release;               /* EXPORT@SNAPSHOT */
  size_t nr_release;
  uint64_t max_connections, max_connections_per_client;
  uint64_t max_request;         /* bytes */
  uint64_t handshake_timeout, idle_timeout; /* seconds; idle 0: none */
  uint64_t verbose;
  bool check;                   /* only say whether all this is right */
};

/* Room for a message. */
#define SETTINGS_WHY 512

/* What to do after reading a command line. */
enum settings_result { SETTINGS_OK, SETTINGS_BAD, SETTINGS_EXIT };

/* Reads a command line and the file it names.  SETTINGS_OK: the settings are
 * complete, and the caller's to settings_free.  SETTINGS_BAD with a message;
 * SETTINGS_EXIT if --help or --version was asked for and printed. */
extern enum settings_result settings_read (int argc, char *const *argv,
                                           struct settings **settings,
                                           char why[SETTINGS_WHY]);

/* True if all that can change while running is all that differs; else why says
 * which does. */
extern bool settings_can_replace (const struct settings *now,
                                  const struct settings *next,
                                  char why[SETTINGS_WHY]);

/* Harmless on NULL. */
extern void settings_free (struct settings *settings);

/* True if clusters of EXPORT@SNAPSHOT may be released. */
extern bool settings_may_release (const struct settings *s, const char *name);

/* Prints every option with its meaning, range and default. */
extern void settings_help (FILE *out);

#endif /* NBDFLEECE_SETTINGS_H */
