/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Values of groups and hooks: lists of names, commands. */

/* A command is a program and its arguments, as they are: there is no shell in
 * between that would want things quoted.
 *
 *   before-freeze: /etc/nbdfleece/hooks/freeze        no arguments
 *   before-freeze: [/usr/bin/virsh, domfsfreeze, web]
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "names.h"
#include "schema.h"

#define ARGUMENT_MAX 4096       /* bytes */

static void
strings_clear (const struct option *opt, void *field)
{
  struct config_strings *s = field;
  size_t i;

  (void) opt;
  for (i = 0; i < s->nr; i++)
    free (s->v[i]);
  free (s->v);
  *s = (struct config_strings) { NULL, 0 };
}

static bool
strings_unset (const void *field)
{
  return ((const struct config_strings *) field)->nr == 0;
}

static void
strings_show (const struct option *opt, const void *field,
              unsigned indent, FILE *out)
{
  const struct config_strings *s = field;
  size_t i;

  (void) opt;
  (void) indent;
  for (i = 0; i < s->nr; i++) {
    fputs (i == 0 ? " [" : ", ", out);
    show_quoted (s->v[i], out);
  }
  fputs ("]\n", out);
}

/* Room for nr texts and a NULL. */
static int
strings_alloc (struct parse *p, struct config_strings *s, size_t nr)
{
  s->v = calloc (nr + 1, sizeof s->v[0]);
  return s->v ? 0 : parse_no_memory (p);
}

/* Adds a copy of text, which stands there in the file. */
static int
strings_add (struct parse *p, struct config_strings *s, const char *text,
             const struct node *value)
{
  char *copy = strdup (text);

  if (!copy)
    return parse_no_memory (p);
  note_mark (p, &s->v[s->nr], value);
  s->v[s->nr++] = copy;
  return 0;
}

/* NAMES of exports. */

static void
names_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "a list of names of exports, from 1 to %u",
            (unsigned) opt->max);
}

static int
names_set (struct parse *p, const struct option *opt,
           const struct node *value, void *field)
{
  const struct node *item;
  char quoted[QUOTE_SIZE];
  const char *text;
  size_t i;

  if (value->kind != NODE_LIST || value->nr == 0 || value->nr > opt->max)
    return parse_error_value (p, opt, value, value->kind != NODE_LIST
                              ? "no list" : value->nr == 0
                              ? "an empty list" : "a longer list");
  if (strings_alloc (p, field, value->nr) == -1)
    return -1;
  for (i = 0; i < value->nr; i++) {
    item = value->items[i];
    text = parse_text (p, opt, item);
    if (!text)
      return -1;
    if (!name_ok (text))
      return parse_error_value (p, opt, item, quote (text, quoted));
    if (strings_add (p, field, text, item) == -1)
      return -1;
  }
  return 0;
}

const struct option_type type_names = {
  .name = "NAMES",
  .expected = names_expected,
  .set = names_set,
  .show = strings_show,
  .unset = strings_unset,
  .clear = strings_clear,
};

/* COMMAND: what execv takes. */

static void
command_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "the absolute path of a program, or a list of that and "
            "at most %u arguments", (unsigned) opt->max);
}

static int
add_word (struct parse *p, const struct option *opt,
          const struct node *value, struct config_strings *s)
{
  const char *text = parse_text (p, opt, value);
  char quoted[QUOTE_SIZE];

  if (!text)
    return -1;
  if (strlen (text) > ARGUMENT_MAX || (s->nr == 0 && text[0] != '/'))
    return parse_error_value (p, opt, value, quote (text, quoted));
  return strings_add (p, s, text, value);
}

static int
command_set (struct parse *p, const struct option *opt,
             const struct node *value, void *field)
{
  size_t i;

  if (value->kind != NODE_LIST)
    return strings_alloc (p, field, 1) == -1 ? -1
      : add_word (p, opt, value, field);
  if (value->nr == 0 || value->nr > opt->max + 1)
    return parse_error_value (p, opt, value, value->nr == 0
                              ? "an empty list" : "a longer list");
  if (strings_alloc (p, field, value->nr) == -1)
    return -1;
  for (i = 0; i < value->nr; i++)
    if (add_word (p, opt, value->items[i], field) == -1)
      return -1;
  return 0;
}

const struct option_type type_command = {
  .name = "COMMAND",
  .expected = command_expected,
  .set = command_set,
  .show = strings_show,
  .unset = strings_unset,
  .clear = strings_clear,
};

/* HOOKS: a mapping that has to have one of them. */

static void
hooks_expected (const struct option *opt, char *buf, size_t size)
{
  (void) opt;
  snprintf (buf, size, "a mapping with before-freeze, after-thaw or both");
}

static bool
hooks_unset (const void *field)
{
  const struct config_hooks *hooks = field;

  return hooks->before_freeze.nr == 0 && hooks->after_thaw.nr == 0;
}

static int
hooks_set (struct parse *p, const struct option *opt,
           const struct node *value, void *field)
{
  if (value->kind != NODE_MAPPING)
    return parse_error_value (p, opt, value, "no mapping");
  if (section_parse (p, opt->section, value, field) == -1)
    return -1;
  return hooks_unset (field)
    ? parse_error_value (p, opt, value, "neither of them") : 0;
}

static void
hooks_show (const struct option *opt, const void *field,
            unsigned indent, FILE *out)
{
  type_section.show (opt, field, indent, out);
}

static void
hooks_clear (const struct option *opt, void *field)
{
  section_clear (opt->section, field);
}

const struct option_type type_hooks = {
  .name = "HOOKS",
  .expected = hooks_expected,
  .set = hooks_set,
  .show = hooks_show,
  .unset = hooks_unset,
  .clear = hooks_clear,
};
