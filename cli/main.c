/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* nbdfleece, the command line of nbdfleeced. */

/* Each command is one request to the daemon (client.c), whose reply is
 * printed as tables (status.c, snapshot.c, job.c) or, with --json, as it is.
 * Only what waits for a job (wait.c) sees more than one message.  What there
 * is to type is in one table (commands.c).
 */

#include <config.h>

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

int
main (int argc, char **argv)
{
  const char *env = getenv (CLI_SOCKET_ENV);
  struct cli cli = { .socket = env && *env ? env : CLI_SOCKET };
  int first, status;

  setlocale (LC_TIME, "");
  if (command_globals (&cli, argc, argv, &first, &status) == 0)
    status = command_run (&cli, argc - first, argv + first);

  /* A full disk or closed pipe must not pass for success. */
  if ((fflush (stdout) != 0 || ferror (stdout)) && status == CLI_DONE) {
    fprintf (stderr, "nbdfleece: cannot write: %s\n", strerror (errno));
    status = CLI_FAILED;
  }
  return status;
}
