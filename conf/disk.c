/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The live disk of an export in its four forms. */

/*   disk: /path                               a raw file or block device
 *   disk: nbd+unix:///name?socket=/path       any NBD server
 *   disk: {plugin: NAME, options: {...}}      any nbdkit plugin
 *   disk: {qcow2: /path}                      through qemu-nbd
 *
 * The mapping is a section of its own in the table of keys, read into a
 * struct disk_mapping and then moved into the struct config_disk.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "schema.h"

#define PLUGIN_OPTIONS_MAX 256

/* Parameters of that prefix are the filter's own; the daemon sets them. */
#define FILTER_PREFIX "fleece-"

static bool
uri_ok (const char *uri)
{
  static const char *const schemes[] = {
    "nbd://", "nbds://", "nbd+unix://", "nbds+unix://",
    "nbd+vsock://", "nbds+vsock://",
  };
  size_t i;

  if (strpbrk (uri, " \"<>\\^`{|}"))
    return false;
  for (i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
    if (strncasecmp (uri, schemes[i], strlen (schemes[i])) == 0)
      return uri[strlen (schemes[i])] != '\0'
        && (!strstr (schemes[i], "+unix") || strstr (uri, "socket="));
  return false;
}

static void
options_clear (struct config_plugin_option *options, size_t nr)
{
  size_t i;

  for (i = 0; i < nr; i++) {
    free (options[i].key);
    free (options[i].value);
  }
  free (options);
}

static void
disk_clear (const struct option *opt, void *field)
{
  struct config_disk *disk = field;

  (void) opt;
  free (disk->where);
  options_clear (disk->options, disk->nr_options);
  *disk = (struct config_disk) { .where = NULL };
}

static void
disk_expected (const struct option *opt, char *buf, size_t size)
{
  (void) opt;
  snprintf (buf, size, "an absolute path, an NBD URI, "
            "{plugin: NAME, options: {...}} or {qcow2: PATH}");
}

/* Moves what the mapping says into the disk. */
static int
take_mapping (struct parse *p, const struct option *opt,
              const struct node *value, struct disk_mapping *m,
              struct config_disk *disk)
{
  if (!m->plugin == !m->qcow2)
    return parse_error_value (p, opt, value,
                              m->plugin ? "both 'plugin' and 'qcow2'"
                              : "neither 'plugin' nor 'qcow2'");
  if (m->qcow2 && m->parameters.options)
    return parse_error_value (p, opt, value, "'options' for a qcow2 disk");
  disk->kind = m->plugin ? CONFIG_DISK_PLUGIN : CONFIG_DISK_QCOW2;
  disk->where = m->plugin ? m->plugin : m->qcow2;
  disk->options = m->parameters.options;
  disk->nr_options = m->parameters.nr;
  memset (m, 0, sizeof *m);
  return 0;
}

static int
disk_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  struct config_disk *disk = field;
  struct disk_mapping m = { .plugin = NULL };
  struct option path = *opt;
  char quoted[QUOTE_SIZE];
  const char *text;
  int r;

  if (value->kind == NODE_MAPPING) {
    r = section_parse (p, opt->section, value, &m);
    if (r == 0)
      r = take_mapping (p, opt, value, &m, disk);
    section_clear (opt->section, &m);
    return r;
  }

  text = parse_text (p, opt, value);
  if (!text)
    return -1;
  if (text[0] == '/') {
    path.type = &type_path;
    disk->kind = CONFIG_DISK_RAW;
    return type_path.set (p, &path, value, &disk->where);
  }
  if (strlen (text) > opt->max || !uri_ok (text))
    return parse_error_value (p, opt, value, quote (text, quoted));
  disk->kind = CONFIG_DISK_NBD;
  disk->where = strdup (text);
  return disk->where ? 0 : parse_no_memory (p);
}

static void
disk_show (const struct option *opt, const void *field,
           unsigned indent, FILE *out)
{
  const struct config_disk *disk = field;
  const struct disk_mapping m = {
    .plugin = disk->kind == CONFIG_DISK_PLUGIN ? disk->where : NULL,
    .qcow2 = disk->kind == CONFIG_DISK_QCOW2 ? disk->where : NULL,
    .parameters = { disk->options, disk->nr_options },
  };

  if (m.plugin || m.qcow2) {
    fputc ('\n', out);
    section_show (opt->section, &m, indent + 2, "", out);
    return;
  }
  fputc (' ', out);
  show_quoted (disk->where, out);
  fputc ('\n', out);
}

const struct option_type type_disk = {
  .name = "DISK",
  .expected = disk_expected,
  .set = disk_set,
  .show = disk_show,
  .clear = disk_clear,
};

/* The plugin's options: a mapping of keys that only the plugin knows. */

static void
plugin_options_expected (const struct option *opt, char *buf, size_t size)
{
  (void) opt;
  snprintf (buf, size, "a mapping of the plugin's parameters, each a text or "
            "a list of texts");
}

/* A parameter as nbdkit wants it, and not one that the filter would take. */
static bool
parameter_ok (const char *key)
{
  static const char letters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  static const char more[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

  return strspn (key, letters) > 0 && key[strspn (key, more)] == '\0'
    && strncmp (key, FILTER_PREFIX, strlen (FILTER_PREFIX)) != 0;
}

static int
check_parameter (struct parse *p, const struct node *mapping, size_t n)
{
  const struct node *key = mapping->items[n];
  char quoted[QUOTE_SIZE];
  size_t i;

  if (key->kind != NODE_SCALAR || strlen (key->text) != key->length
      || !parameter_ok (key->text))
    return parse_error (p, key->line, key->column,
                        "%s as a parameter of a plugin, expected a letter "
                        "and letters, digits, '.', '_' or '-', not '"
                        FILTER_PREFIX "...'",
                        key->kind == NODE_SCALAR ? quote (key->text, quoted)
                        : "no single value");
  for (i = 0; i < n; i += 2)
    if (strcmp (mapping->items[i]->text, key->text) == 0)
      return parse_error (p, key->line, key->column,
                          "key '%s' again, expected once (first in line %u; "
                          "several values go in a list)",
                          key->text, mapping->items[i]->line);
  return 0;
}

static int
add_option (struct parse *p, const struct option *opt,
            struct disk_parameters *params,
            const char *key, const struct node *value)
{
  const char *text = parse_text (p, opt, value);
  struct config_plugin_option *o;

  if (!text)
    return -1;
  if (params->nr == PLUGIN_OPTIONS_MAX)
    return parse_error (p, value->line, value->column,
                        "more than %d parameters, expected fewer",
                        PLUGIN_OPTIONS_MAX);
  o = &params->options[params->nr++];
  o->key = strdup (key);
  o->value = strdup (text);
  return o->key && o->value ? 0 : parse_no_memory (p);
}

static int
plugin_options_set (struct parse *p, const struct option *opt,
                    const struct node *value, void *field)
{
  struct disk_parameters *params = field;
  const struct node *v;
  size_t i, j;

  if (value->kind != NODE_MAPPING)
    return parse_error_value (p, opt, value, "no mapping");
  if (value->nr == 0)
    return 0;
  params->options = calloc (PLUGIN_OPTIONS_MAX, sizeof *params->options);
  if (!params->options)
    return parse_no_memory (p);
  for (i = 0; i < value->nr; i += 2) {
    v = value->items[i + 1];
    if (check_parameter (p, value, i) == -1)
      return -1;
    if (v->kind != NODE_LIST) {
      if (add_option (p, opt, params, value->items[i]->text, v) == -1)
        return -1;
      continue;
    }
    for (j = 0; j < v->nr; j++)
      if (add_option (p, opt, params, value->items[i]->text, v->items[j]) == -1)
        return -1;
  }
  return 0;
}

/* A key that repeats has all its values in one list. */
static void
plugin_options_show (const struct option *opt, const void *field,
                     unsigned indent, FILE *out)
{
  const struct disk_parameters *params = field;
  const struct config_plugin_option *o = params->options;
  size_t i;

  (void) opt;
  for (i = 0; i < params->nr; i++) {
    if (i > 0 && strcmp (o[i].key, o[i - 1].key) == 0)
      fputs (", ", out);
    else {
      fprintf (out, "%s\n%*s", i == 0 ? "" : "]", (int) indent + 2, "");
      show_quoted (o[i].key, out);
      fputs (": [", out);
    }
    show_quoted (o[i].value, out);
  }
  fputs ("]\n", out);
}

static bool
plugin_options_unset (const void *field)
{
  return ((const struct disk_parameters *) field)->nr == 0;
}

static void
plugin_options_clear (const struct option *opt, void *field)
{
  struct disk_parameters *params = field;

  (void) opt;
  options_clear (params->options, params->nr);
  params->options = NULL;
  params->nr = 0;
}

const struct option_type type_plugin_options = {
  .name = "PARAMETERS",
  .expected = plugin_options_expected,
  .set = plugin_options_set,
  .show = plugin_options_show,
  .unset = plugin_options_unset,
  .clear = plugin_options_clear,
};
