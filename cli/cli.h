/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One run of nbdfleece: what was asked for, and how it answers. */

#ifndef NBDFLEECE_CLI_H
#define NBDFLEECE_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <json.h>

/* Exit statuses. */
enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

#define CLI_SOCKET "/run/nbdfleece/control.sock"
#define CLI_SOCKET_ENV "NBDFLEECE_SOCKET"

struct cli {
  const char *socket;           /* path of the control socket */
  bool json;                    /* one JSON document on stdout */
  const char *command;          /* as typed by the user, for messages */
};

/* printf in which every control character but newline, which could do things
 * to a terminal, becomes '?': most text comes from others. */
extern void print (FILE *out, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* Says on stderr, in one line, what failed and why; and with --json on stdout
 * as {"error": {"code": ..., "message": ...}}.  Returns CLI_FAILED. */
extern int cli_fail (const struct cli *cli, const char *code,
                     const char *fmt, ...)
  __attribute__ ((format (printf, 3, 4)));

/* The same for a command line that makes no sense.  Returns CLI_USAGE. */
extern int cli_usage (const struct cli *cli, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* Prints the JSON document of a command. */
extern void cli_print_json (json_object *document);

#endif /* NBDFLEECE_CLI_H */
