/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Fuzz target: configuration files. */

/* The input is the file.  What must hold: either a configuration or at least
 * one error comes out of it; each error is one line, with nothing in it that a
 * terminal could take for an order, and starts with the file's name; and a
 * configuration that is written down (config_dump) reads back as the same.
 */

#include <config.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "fuzz.h"

static void
check_errors (const struct config_errors *errors)
{
  size_t i, j;

  if (errors->nr > CONFIG_ERRORS_MAX)
    abort ();
  for (i = 0; i < errors->nr; i++) {
    if (strncmp (errors->text[i], "file:", 5) != 0)
      abort ();
    for (j = 0; errors->text[i][j]; j++)
      if ((unsigned char) errors->text[i][j] < 0x20
          || errors->text[i][j] == 0x7f)
        abort ();
  }
}

static char *
dump (const struct config *config, size_t *size)
{
  char *text = NULL;
  FILE *fp = open_memstream (&text, size);

  if (!fp)
    abort ();
  config_dump (config, fp);
  if (fclose (fp) == EOF)
    abort ();
  return text;
}

static void
check_dump (const struct config *config)
{
  struct config_errors errors = { 0 };
  char ids[2][CONFIG_ID_SIZE], *first, *second;
  size_t size, again, i;
  struct config *copy;

  first = dump (config, &size);
  copy = config_parse ("file", first, size, &errors);
  if (!copy)
    abort ();
  second = dump (copy, &again);
  if (size != again || memcmp (first, second, size) != 0
      || copy->nr_exports != config->nr_exports)
    abort ();
  for (i = 0; i < config->nr_exports; i++) {
    config_export_id (config, &config->exports[i], ids[0]);
    config_export_id (copy, &copy->exports[i], ids[1]);
    if (strcmp (ids[0], ids[1]) != 0
        || !config_find_export (copy, config->exports[i].name))
      abort ();
  }
  config_backup_id (config, ids[0]);
  config_backup_id (copy, ids[1]);
  if (strcmp (ids[0], ids[1]) != 0)
    abort ();
  free (first);
  free (second);
  config_free (copy);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct config_errors errors = { 0 };
  struct config *config;

  config = config_parse ("file", (const char *) data, size, &errors);
  if ((config != NULL) == (errors.nr > 0))
    abort ();
  check_errors (&errors);
  config_errors_free (&errors);
  if (config)
    check_dump (config);
  config_free (config);
  return 0;
}
