/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Mappings and lists of mappings: walks the table of keys. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "schema.h"

static const char *
kind_name (const struct node *node)
{
  return node->kind == NODE_LIST ? "a list"
    : node->kind == NODE_MAPPING ? "a mapping"
    : node_is_null (node) ? "no value" : "a single value";
}

/* The keys of a section, with commas. */
static void
list_keys (const struct section *section, char *buf, size_t size)
{
  size_t i, used = 0;

  buf[0] = '\0';
  for (i = 0; i < section->nr_options && used < size; i++)
    used += snprintf (buf + used, size - used, "%s%s", i == 0 ? "" : ", ",
                      section->options[i].key);
}

static void
unknown_key (struct parse *p, const struct section *section,
             const struct node *key)
{
  const char *meant = suggest_key (section, key->text);
  char quoted[QUOTE_SIZE], keys[512];

  quote (key->text, quoted);
  if (meant) {
    parse_error (p, key->line, key->column,
                 "unknown key %s in %s, expected '%s'",
                 quoted, section->what, meant);
    return;
  }
  list_keys (section, keys, sizeof keys);
  parse_error (p, key->line, key->column,
               "unknown key %s in %s, expected one of: %s",
               quoted, section->what, keys);
}

/* The option of that key, as an index, or -1 after parse_error. */
static int
find_option (struct parse *p, const struct section *section,
             const struct node *key)
{
  size_t i;

  if (key->kind != NODE_SCALAR)
    return parse_error (p, key->line, key->column,
                        "%s as a key of %s, expected a word",
                        kind_name (key), section->what);
  for (i = 0; i < section->nr_options; i++)
    if (strlen (section->options[i].key) == key->length
        && memcmp (section->options[i].key, key->text, key->length) == 0)
      return i;
  unknown_key (p, section, key);
  return -1;
}

void
note_mark (struct parse *p, const void *field, const struct node *node)
{
  struct mark *marks;

  if ((p->nr_marks & (p->nr_marks + 1)) == 0) {
    marks = realloc (p->marks, (2 * p->nr_marks + 1) * sizeof *marks);
    if (!marks) {
      parse_no_memory (p);
      return;
    }
    p->marks = marks;
  }
  p->marks[p->nr_marks++] = (struct mark) { field, node->line, node->column };
}

static void
set_option (struct parse *p, const struct option *opt,
            const struct node *value, void *base)
{
  void *field = (char *) base + opt->offset;

  note_mark (p, field, value);
  opt->type->set (p, opt, value, field);
}

/* What the file leaves out.  The default goes the way of a value from the
 * file, so that there is one notion of each type. */
static void
set_absent (struct parse *p, const struct section *section,
            const struct option *opt, const struct node *mapping, void *base)
{
  struct node value = { .kind = NODE_SCALAR, .plain = true,
                        .line = mapping->line, .column = mapping->column };
  char expected[256];

  if (opt->required) {
    opt->type->expected (opt, expected, sizeof expected);
    parse_error (p, mapping->line, mapping->column,
                 "%s without '%s', expected %s",
                 section->what, opt->key, expected);
  }
  else if (opt->preset) {
    value.text = (char *) opt->preset;
    value.length = strlen (opt->preset);
    set_option (p, opt, &value, base);
  }
  else if (opt->type == &type_section) {
    /* For the defaults in it. */
    value.kind = NODE_MAPPING;
    set_option (p, opt, &value, base);
  }
}

int
section_parse (struct parse *p, const struct section *section,
               const struct node *mapping, void *base)
{
  const struct node *seen[SECTION_OPTIONS_MAX] = { NULL };
  const unsigned failures = p->nr_failures;
  const struct node *key;
  size_t i;
  int n;

  if (mapping->kind != NODE_MAPPING)
    return parse_error (p, mapping->line, mapping->column,
                        "%s, expected a mapping for %s",
                        kind_name (mapping), section->what);

  for (i = 0; i < mapping->nr; i += 2) {
    key = mapping->items[i];
    n = find_option (p, section, key);
    if (n == -1)
      continue;
    if (seen[n]) {
      parse_error (p, key->line, key->column,
                   "key '%s' again, expected once (first in line %u)",
                   key->text, seen[n]->line);
      continue;
    }
    seen[n] = key;
    set_option (p, &section->options[n], mapping->items[i + 1], base);
  }

  for (i = 0; i < section->nr_options; i++)
    if (!seen[i])
      set_absent (p, section, &section->options[i], mapping, base);
  return p->nr_failures == failures ? 0 : -1;
}

void
section_clear (const struct section *section, void *base)
{
  const struct option *opt;
  size_t i;

  for (i = 0; i < section->nr_options; i++) {
    opt = &section->options[i];
    if (opt->type->clear)
      opt->type->clear (opt, (char *) base + opt->offset);
  }
}

static void
show_options (const struct section *section, const void *base,
              unsigned indent, const char *lead, bool only_started, FILE *out)
{
  const struct option *opt;
  const void *field;
  size_t i;

  for (i = 0; i < section->nr_options; i++) {
    opt = &section->options[i];
    field = (const char *) base + opt->offset;
    if ((opt->type->unset && opt->type->unset (field))
        || (only_started && opt->unstarted))
      continue;
    fprintf (out, "%*s%s:", (int) indent, lead, opt->key);
    opt->type->show (opt, field, indent, out);
    lead = "";
  }
}

void
section_show (const struct section *section, const void *base,
              unsigned indent, const char *lead, FILE *out)
{
  show_options (section, base, indent, lead, false, out);
}

void
section_show_started (const struct section *section, const void *base,
                      FILE *out)
{
  show_options (section, base, 0, "", true, out);
}

/* A mapping: its fields lie in the same struct as the key itself would. */

static void
section_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "a mapping for %s", opt->section->what);
}

static int
section_set (struct parse *p, const struct option *opt,
             const struct node *value, void *field)
{
  return section_parse (p, opt->section, value, field);
}

static void
section_show_value (const struct option *opt, const void *field,
                    unsigned indent, FILE *out)
{
  fputc ('\n', out);
  section_show (opt->section, field, indent + 2, "", out);
}

static void
section_clear_value (const struct option *opt, void *field)
{
  section_clear (opt->section, field);
}

const struct option_type type_section = {
  .name = "MAPPING",
  .expected = section_expected,
  .set = section_set,
  .show = section_show_value,
  .clear = section_clear_value,
};

/* A list of mappings: an array of structs, which the field points to, and its
 * length, a size_t straight after the pointer in the same struct.  What the
 * structs are is unknown here, hence the copies. */

struct list {
  void *items;
  size_t nr;
};

static struct list
get_list (const void *field)
{
  struct list list;

  memcpy (&list.items, field, sizeof list.items);
  memcpy (&list.nr, (const char *) field + sizeof list.items, sizeof list.nr);
  return list;
}

static void
put_list (void *field, struct list list)
{
  memcpy (field, &list.items, sizeof list.items);
  memcpy ((char *) field + sizeof list.items, &list.nr, sizeof list.nr);
}

static void *
list_item (const struct option *opt, struct list list, size_t i)
{
  return (char *) list.items + i * opt->section->size;
}

static void
list_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "a list, each item a mapping for %s",
            opt->section->what);
}

static int
list_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  const unsigned failures = p->nr_failures;
  struct list list = { NULL, value->nr };
  size_t i;

  if (value->kind != NODE_LIST)
    return parse_error_value (p, opt, value, kind_name (value));
  if (list.nr == 0)
    return 0;
  list.items = calloc (list.nr, opt->section->size);
  if (!list.items)
    return parse_no_memory (p);
  put_list (field, list);
  for (i = 0; i < list.nr; i++)
    section_parse (p, opt->section, value->items[i], list_item (opt, list, i));
  return p->nr_failures == failures ? 0 : -1;
}

static void
list_show (const struct option *opt, const void *field,
           unsigned indent, FILE *out)
{
  const struct list list = get_list (field);
  size_t i;

  fputs (list.nr == 0 ? " []\n" : "\n", out);
  for (i = 0; i < list.nr; i++)
    section_show (opt->section, list_item (opt, list, i), indent + 4, "- ",
                  out);
}

static void
list_clear (const struct option *opt, void *field)
{
  const struct list list = get_list (field);
  size_t i;

  for (i = 0; i < list.nr; i++)
    section_clear (opt->section, list_item (opt, list, i));
  free (list.items);
  put_list (field, (struct list) { NULL, 0 });
}

const struct option_type type_list = {
  .name = "LIST",
  .expected = list_expected,
  .set = list_set,
  .show = list_show,
  .clear = list_clear,
};
