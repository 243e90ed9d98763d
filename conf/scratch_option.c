/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Where an export's scratches are, and whether they outlast the host. */

/*   scratch: /path                                 a directory
 *   scratch: {directory: /path, durable: true}     the same, and more
 */

#include <config.h>

#include "schema.h"

static void
scratch_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "an absolute path of at most %u bytes, or "
            "{directory: PATH, durable: true|false}", (unsigned) opt->max);
}

static int
scratch_set (struct parse *p, const struct option *opt,
             const struct node *value, void *field)
{
  struct config_scratch *scratch = field;
  struct option path = *opt;

  if (value->kind == NODE_MAPPING)
    return section_parse (p, opt->section, value, scratch);
  path.type = &type_path;
  return type_path.set (p, &path, value, &scratch->directory);
}

static bool
scratch_unset (const void *field)
{
  const struct config_scratch *scratch = field;

  return !scratch->directory && scratch->durable == CONFIG_NO;
}

/* One way to write what has two: a mapping if a path does not do. */
static void
scratch_show (const struct option *opt, const void *field, unsigned indent,
              FILE *out)
{
  const struct config_scratch *scratch = field;

  if (scratch->durable == CONFIG_NO)
    type_path.show (opt, &scratch->directory, indent, out);
  else
    type_section.show (opt, scratch, indent, out);
}

static void
scratch_clear (const struct option *opt, void *field)
{
  section_clear (opt->section, field);
}

const struct option_type type_scratch = {
  .name = "SCRATCH",
  .expected = scratch_expected,
  .set = scratch_set,
  .show = scratch_show,
  .unset = scratch_unset,
  .clear = scratch_clear,
};
