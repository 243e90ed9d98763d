/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Shows a configuration file in its canonical form, or the table of keys. */

#include <config.h>

#include <stdlib.h>

#include "conf.h"

int
main (int argc, char **argv)
{
  struct config_errors errors = { .nr = 0 };
  struct config *config;
  size_t i;

  if (argc != 2) {
    config_help (stdout);
    return EXIT_SUCCESS;
  }
  config = config_load (argv[1], &errors);
  for (i = 0; i < errors.nr; i++)
    fprintf (stderr, "%s\n", errors.text[i]);
  config_errors_free (&errors);
  if (!config)
    return EXIT_FAILURE;
  config_dump (config, stdout);
  config_free (config);
  return EXIT_SUCCESS;
}
