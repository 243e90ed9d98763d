/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Single values: paths, names, sizes, times, words. */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "names.h"
#include "schema.h"
#include "units.h"

static int
bad_value (struct parse *p, const struct option *opt,
           const struct node *value, const char *text)
{
  char quoted[QUOTE_SIZE];

  return parse_error_value (p, opt, value, quote (text, quoted));
}

static int
copy_text (struct parse *p, const char *text, void *field)
{
  char *copy = strdup (text);

  if (!copy)
    return parse_no_memory (p);
  *(char **) field = copy;
  return 0;
}

static bool
text_unset (const void *field)
{
  return *(char *const *) field == NULL;
}

static void
text_clear (const struct option *opt, void *field)
{
  (void) opt;
  free (*(char **) field);
  *(char **) field = NULL;
}

static void
text_show (const struct option *opt, const void *field,
           unsigned indent, FILE *out)
{
  (void) opt;
  (void) indent;
  fputc (' ', out);
  show_quoted (*(char *const *) field, out);
  fputc ('\n', out);
}

static void
number_show (const struct option *opt, const void *field,
             unsigned indent, FILE *out)
{
  (void) opt;
  (void) indent;
  fprintf (out, " %" PRIu64 "\n", *(const uint64_t *) field);
}

/* PATH: absolute.  A relative one would mean another file when a daemon is
 * started from elsewhere, or for the programs that it starts. */

static void
path_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "an absolute path of at most %u bytes",
            (unsigned) opt->max);
}

/* Slashes that do not count go away, so that equal paths look equal. */
static void
normalise_path (char *path)
{
  char *to = path;
  const char *from = path;

  while (*from) {
    if (from[0] == '/' && (from[1] == '/' || from[1] == '\0'))
      from++;
    else if (from[0] == '/' && from[1] == '.'
             && (from[2] == '/' || from[2] == '\0'))
      from += 2;
    else
      *to++ = *from++;
  }
  if (to == path)
    *to++ = '/';
  *to = '\0';
}

static int
path_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  const char *text = parse_text (p, opt, value);

  if (!text)
    return -1;
  if (text[0] != '/' || strlen (text) > opt->max)
    return bad_value (p, opt, value, text);
  if (copy_text (p, text, field) == -1)
    return -1;
  normalise_path (*(char **) field);
  return 0;
}

const struct option_type type_path = {
  .name = "PATH",
  .expected = path_expected,
  .set = path_set,
  .show = text_show,
  .unset = text_unset,
  .clear = text_clear,
};

/* NAME of an export. */

static void
name_expected (const struct option *opt, char *buf, size_t size)
{
  (void) opt;
  snprintf (buf, size, "a name that matches %s", NAME_RULE);
}

static int
name_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  const char *text = parse_text (p, opt, value);

  if (!text)
    return -1;
  if (!name_ok (text))
    return bad_value (p, opt, value, text);
  return copy_text (p, text, field);
}

const struct option_type type_name = {
  .name = "NAME",
  .expected = name_expected,
  .set = name_set,
  .show = text_show,
  .unset = text_unset,
  .clear = text_clear,
};

/* TEXT that means something to somebody else. */

static void
text_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "a text of 1 to %u bytes", (unsigned) opt->max);
}

static int
text_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  const char *text = parse_text (p, opt, value);

  if (!text)
    return -1;
  if (text[0] == '\0' || strlen (text) > opt->max)
    return bad_value (p, opt, value, text);
  return copy_text (p, text, field);
}

const struct option_type type_text = {
  .name = "TEXT",
  .expected = text_expected,
  .set = text_set,
  .show = text_show,
  .unset = text_unset,
  .clear = text_clear,
};

/* NUMBER, SIZE and TIME. */

static int
number_set (struct parse *p, const struct option *opt,
            const struct node *value,
            int (*parse) (const char *, uint64_t *), uint64_t *field)
{
  const char *text = parse_text (p, opt, value);
  uint64_t n;

  if (!text)
    return -1;
  if (parse (text, &n) == -1
      || ((n < opt->min || n > opt->max)
          && !(n == 0 && opt->zero_is_none)))
    return bad_value (p, opt, value, text);
  *field = n;
  return 0;
}

static int
parse_number (const char *text, uint64_t *n)
{
  /* Without a unit, a size is a number. */
  return text[strspn (text, "0123456789")] ? -1 : units_parse_size (text, n);
}

static void
number_expected (const struct option *opt, char *buf, size_t size)
{
  snprintf (buf, size, "a number from %" PRIu64 " to %" PRIu64,
            opt->min, opt->max);
}

static int
plain_number_set (struct parse *p, const struct option *opt,
                  const struct node *value, void *field)
{
  return number_set (p, opt, value, parse_number, field);
}

const struct option_type type_number = {
  .name = "NUMBER",
  .expected = number_expected,
  .set = plain_number_set,
  .show = number_show,
};

static void
size_expected (const struct option *opt, char *buf, size_t size)
{
  char min[UNITS_SIZE], max[UNITS_SIZE];

  snprintf (buf, size, "a size from %s to %s%s",
            units_size (opt->min, min),
            units_size (opt->max, max),
            opt->zero_is_none ? ", or 0 for none" : "");
}

static int
size_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  return number_set (p, opt, value, units_parse_size, field);
}

const struct option_type type_size = {
  .name = "SIZE",
  .expected = size_expected,
  .set = size_set,
  .show = number_show,
};

static void
duration_expected (const struct option *opt, char *buf, size_t size)
{
  char min[UNITS_SIZE], max[UNITS_SIZE];

  snprintf (buf, size, "a time from %s to %s with its unit%s",
            units_time (opt->min, min),
            units_time (opt->max, max),
            opt->zero_is_none ? ", or 0 for none" : "");
}

static int
duration_set (struct parse *p, const struct option *opt,
              const struct node *value, void *field)
{
  return number_set (p, opt, value, units_parse_time, field);
}

static void
duration_show (const struct option *opt, const void *field,
               unsigned indent, FILE *out)
{
  (void) opt;
  (void) indent;
  fprintf (out, " %" PRIu64 "ms\n", *(const uint64_t *) field);
}

const struct option_type type_duration = {
  .name = "TIME",
  .expected = duration_expected,
  .set = duration_set,
  .show = duration_show,
};

/* Cluster size: auto (0 in memory) or a power of two. */

static void
cluster_size_expected (const struct option *opt, char *buf, size_t size)
{
  char min[UNITS_SIZE], max[UNITS_SIZE];

  snprintf (buf, size, "auto, or a power of two from %s to %s",
            units_size (opt->min, min),
            units_size (opt->max, max));
}

static int
cluster_size_set (struct parse *p, const struct option *opt,
                  const struct node *value, void *field)
{
  const char *text = parse_text (p, opt, value);
  uint64_t n = 0;

  if (!text)
    return -1;
  if (strcmp (text, "auto") != 0
      && (units_parse_size (text, &n) == -1
          || n < opt->min || n > opt->max || (n & (n - 1)) != 0))
    return bad_value (p, opt, value, text);
  *(uint64_t *) field = n;
  return 0;
}

static void
cluster_size_show (const struct option *opt, const void *field,
                   unsigned indent, FILE *out)
{
  if (*(const uint64_t *) field == 0)
    fputs (" auto\n", out);
  else
    number_show (opt, field, indent, out);
}

const struct option_type type_cluster_size = {
  .name = "auto|SIZE",
  .expected = cluster_size_expected,
  .set = cluster_size_set,
  .show = cluster_size_show,
};

/* One word of a few; the field is an enum, which counts like the list. */

static void
word_expected (const struct option *opt, char *buf, size_t size)
{
  size_t i, used = 0;

  for (i = 0; opt->words[i] && used < size; i++)
    used += snprintf (buf + used, size - used, "%s%s",
                      i == 0 ? "" : opt->words[i + 1] ? ", " : " or ",
                      opt->words[i]);
}

static int
word_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  const char *text = parse_text (p, opt, value);
  unsigned i;

  if (!text)
    return -1;
  for (i = 0; opt->words[i]; i++)
    if (strcmp (opt->words[i], text) == 0) {
      *(unsigned *) field = i;
      return 0;
    }
  return bad_value (p, opt, value, text);
}

static void
word_show (const struct option *opt, const void *field,
           unsigned indent, FILE *out)
{
  (void) indent;
  fprintf (out, " %s\n", opt->words[*(const unsigned *) field]);
}

const struct option_type type_word = {
  .name = "WORD",
  .expected = word_expected,
  .set = word_set,
  .show = word_show,
};

/* A plugin as nbdkit takes it: a short name, or a path. */

static void
plugin_name_expected (const struct option *opt, char *buf, size_t size)
{
  (void) opt;
  snprintf (buf, size, "the name of an nbdkit plugin, or its absolute path");
}

static int
plugin_name_set (struct parse *p, const struct option *opt,
                 const struct node *value, void *field)
{
  const char *text = parse_text (p, opt, value);

  if (!text)
    return -1;
  /* nbdkit takes what has a dot in it for a path, too. */
  if (text[0] != '/' && (!name_ok (text) || strchr (text, '.')))
    return bad_value (p, opt, value, text);
  return copy_text (p, text, field);
}

const struct option_type type_plugin_name = {
  .name = "PLUGIN",
  .expected = plugin_name_expected,
  .set = plugin_name_set,
  .show = text_show,
  .unset = text_unset,
  .clear = text_clear,
};
