/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* From a file to a struct config, or to a list of what is wrong with it. */

/* Three steps, each only if the one before found nothing wrong:
 *
 *   tree.c      YAML to a tree of nodes            first error only
 *   section.c   the tree to structs, by the table  all errors
 *   check.c     rules about several values         all errors
 *
 * Errors are sentences for people, one line each, no matter what the file
 * has in it: quote () shortens and escapes whatever is repeated from there.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "schema.h"

/* Keeps text, an allocated string or NULL, as the next error. */
static void
keep_error (struct parse *p, char *text)
{
  struct config_errors *errors = p->errors;
  char *more;

  p->nr_failures++;
  if (!text)
    text = strdup ("out of memory");
  if (!text || errors->nr == CONFIG_ERRORS_MAX) {
    free (text);
    return;
  }
  if (errors->nr == CONFIG_ERRORS_MAX - 1
      && asprintf (&more, "%s: and more errors", p->file) != -1) {
    free (text);
    text = more;
  }
  errors->text[errors->nr++] = text;
}

static int
parse_error_va (struct parse *p, unsigned line, unsigned column,
                const char *fmt, va_list args)
{
  char *what, *text;

  if (vasprintf (&what, fmt, args) == -1)
    what = NULL;
  if (!what)
    text = NULL;
  else if (asprintf (&text, "%s:%u:%u: %s", p->file, line, column, what) == -1)
    text = NULL;
  keep_error (p, text);
  free (what);
  return -1;
}

int
parse_error (struct parse *p, unsigned line, unsigned column,
             const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  parse_error_va (p, line, column, fmt, args);
  va_end (args);
  return -1;
}

int
parse_no_memory (struct parse *p)
{
  char *text;

  if (asprintf (&text, "%s: out of memory", p->file) == -1)
    text = NULL;
  keep_error (p, text);
  return -1;
}

int
parse_error_value (struct parse *p, const struct option *opt,
                   const struct node *value, const char *what)
{
  char expected[256];

  opt->type->expected (opt, expected, sizeof expected);
  return parse_error (p, value->line, value->column, "%s: %s, expected %s",
                      opt->key, what, expected);
}

unsigned
mark_line (const struct parse *p, const void *field)
{
  unsigned line = 1;
  size_t i;

  for (i = 0; i < p->nr_marks; i++)
    if (p->marks[i].field == field)
      line = p->marks[i].line;
  return line;
}

int
parse_error_field (struct parse *p, const void *field, const char *fmt, ...)
{
  unsigned line = 1, column = 1;
  va_list args;
  size_t i;

  for (i = 0; i < p->nr_marks; i++)
    if (p->marks[i].field == field) {
      line = p->marks[i].line;
      column = p->marks[i].column;
    }
  va_start (args, fmt);
  parse_error_va (p, line, column, fmt, args);
  va_end (args);
  return -1;
}

const char *
quote (const char *text, char buf[QUOTE_SIZE])
{
  const size_t room = QUOTE_SIZE - sizeof "'...'";
  size_t used = 0, len;
  const unsigned char *s = (const unsigned char *) text;

  buf[used++] = '\'';
  while (*s) {
    len = *s < 0x80 ? 1 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4; /* of UTF-8 */
    if (used + 4 > room)
      break;
    if (*s < 0x20 || *s == 0x7f) {
      used += sprintf (buf + used, "\\x%02x", *s++);
      continue;
    }
    for (; len > 0 && *s; len--)
      buf[used++] = *s++;
  }
  strcpy (buf + used, *s ? "...'" : "'");
  return buf;
}

bool
node_is_null (const struct node *node)
{
  return node->kind == NODE_SCALAR && node->plain
    && (node->length == 0 || strcmp (node->text, "~") == 0
        || strcmp (node->text, "null") == 0);
}

const char *
parse_text (struct parse *p, const struct option *opt,
            const struct node *value)
{
  const char *what = NULL;
  size_t i;

  if (value->kind != NODE_SCALAR)
    what = value->kind == NODE_LIST ? "a list" : "a mapping";
  else if (node_is_null (value))
    what = "no value";
  else
    for (i = 0; i < value->length; i++)
      if ((unsigned char) value->text[i] < 0x20 || value->text[i] == 0x7f)
        what = "a control character in it";
  if (what) {
    parse_error_value (p, opt, value, what);
    return NULL;
  }
  return value->text;
}

/* Lines of exports are known only through their names' marks. */
static void
place_exports (const struct parse *p, struct config *config)
{
  size_t i, next = 0;

  for (i = 0; i < p->nr_marks && next < config->nr_exports; i++)
    if (p->marks[i].field == &config->exports[next].name) {
      config->exports[next].line = p->marks[i].line;
      config->exports[next].column = p->marks[i].column;
      next++;
    }
}

struct config *
config_parse (const char *file, const char *text, size_t length,
              struct config_errors *errors)
{
  struct parse p = { .file = file, .errors = errors };
  struct config *config = calloc (1, sizeof *config);
  struct tree_error err;
  struct node *root;

  if (config)
    config->file = strdup (file);
  if (!config || !config->file)
    parse_no_memory (&p);
  else if ((root = tree_parse (text, length, &err)) == NULL)
    (void) (err.line == 0 ? parse_no_memory (&p)
            : parse_error (&p, err.line, err.column, "%s", err.text));
  else {
    section_parse (&p, &section_config, root, config);
    tree_free (root);
    place_exports (&p, config);
    if (p.nr_failures == 0)
      check_config (&p, config);
  }
  free (p.marks);
  if (p.nr_failures > 0) {
    config_free (config);
    return NULL;
  }
  return config;
}

/* Reads all of fd, at most CONFIG_FILE_MAX bytes, into buf, which has room
 * for one more.  Returns the length, or -1 and errno (EFBIG). */
static ssize_t
read_all (int fd, char *buf)
{
  size_t length = 0;
  ssize_t r;

  for (;;) {
    r = read (fd, buf + length, CONFIG_FILE_MAX + 1 - length);
    if (r == -1 && errno == EINTR)
      continue;
    if (r <= 0)
      return r == -1 ? -1 : (ssize_t) length;
    length += r;
    if (length > CONFIG_FILE_MAX) {
      errno = EFBIG;
      return -1;
    }
  }
}

struct config *
config_load (const char *path, struct config_errors *errors)
{
  struct parse p = { .file = path, .errors = errors };
  struct config *config = NULL;
  char *buf = malloc (CONFIG_FILE_MAX + 1);
  ssize_t length = -1;
  char *text;
  int fd;

  fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd != -1 && buf)
    length = read_all (fd, buf);
  if (!buf)
    parse_no_memory (&p);
  else if (length == -1)
    keep_error (&p, asprintf (&text, "%s: cannot be read: %s", path,
                              strerror (errno)) == -1 ? NULL : text);
  else
    config = config_parse (path, buf, length, errors);
  if (fd != -1)
    close (fd);
  free (buf);
  return config;
}

void
config_free (struct config *config)
{
  if (!config)
    return;
  section_clear (&section_config, config);
  free (config->file);
  free (config);
}

void
config_errors_free (struct config_errors *errors)
{
  size_t i;

  for (i = 0; i < errors->nr; i++)
    free (errors->text[i]);
  errors->nr = 0;
}

const struct config_export *
config_find_export (const struct config *config, const char *name)
{
  size_t i;

  for (i = 0; i < config->nr_exports; i++)
    if (strcmp (config->exports[i].name, name) == 0)
      return &config->exports[i];
  return NULL;
}

const struct config_group *
config_find_group (const struct config *config, const char *name)
{
  size_t i;

  for (i = 0; i < config->nr_groups; i++)
    if (strcmp (config->groups[i].name, name) == 0)
      return &config->groups[i];
  return NULL;
}
