/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The canonical form of a configuration, and ids made of it. */

/* The canonical form has every key in the order of the table, every default
 * written out, and one way to write each value.  Two configurations mean the
 * same exactly if their canonical forms are the same bytes.
 *
 * An id is length, CRC-32 and Adler-32 of the canonical form, in hex.  It only
 * has to tell an administrator's edits of one file apart, nobody gains from
 * making two of them collide (who may write the file may do everything), and
 * two checksums with different weaknesses and the length are plenty for that.
 * So no cryptographic library is pulled in.
 */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "schema.h"

void
show_quoted (const char *text, FILE *out)
{
  fputc ('"', out);
  for (; *text; text++) {
    if (*text == '"' || *text == '\\')
      fputc ('\\', out);
    fputc (*text, out);
  }
  fputc ('"', out);
}

void
config_dump (const struct config *config, FILE *out)
{
  section_show (&section_config, config, 0, "", out);
}

/* The front may write to what is in these directories. */
static void
show_scratches (const struct config *config, FILE *out)
{
  size_t i;

  for (i = 0; i < config->nr_exports; i++)
    if (config->exports[i].scratch.directory)
      show_quoted (config->exports[i].scratch.directory, out);
}

/* Makes the id of what section_show_started has to say about the struct at base, and
 * of directories and user; without a section, of the scratch directories.  Out of memory, it is an id that nothing else has: then
 * what is compared with it counts as changed. */
static void
make_id (const struct config *config, const struct section *section,
         const void *base, char id[CONFIG_ID_SIZE])
{
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream (&text, &size);
  bool ok = out != NULL;

  if (out) {
    show_quoted (config->state_dir, out);
    show_quoted (config->run_dir, out);
    if (config->user)
      show_quoted (config->user, out);
    if (config->group)
      show_quoted (config->group, out);
    fputc ('\n', out);
    if (section)
      section_show_started (section, base, out);
    else
      show_scratches (config, out);
    ok = !ferror (out);
    ok = fclose (out) == 0 && ok;
  }
  if (ok)
    snprintf (id, CONFIG_ID_SIZE, "%016" PRIx64 "%08lx%08lx", (uint64_t) size,
              crc32_z (0, (const Bytef *) text, size),
              adler32_z (1, (const Bytef *) text, size));
  else
    snprintf (id, CONFIG_ID_SIZE, "%032d", 0);
  free (text);
}

void
config_export_id (const struct config *config, const struct config_export *ex,
                  char id[CONFIG_ID_SIZE])
{
  make_id (config, &section_export, ex, id);
}

void
config_backup_id (const struct config *config, char id[CONFIG_ID_SIZE])
{
  make_id (config, NULL, NULL, id);
}
