/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Text for people and documents for programs. */

#include <config.h>

#include <stdarg.h>
#include <stdlib.h>

#include "cli.h"

/* Control characters of ASCII, and of Latin-1 as UTF-8 has them (C2 80 to
 * C2 9F).  A newline stays. */
static void
defuse (char *text)
{
  unsigned char *s = (unsigned char *) text;

  for (; *s; s++) {
    if ((*s < 0x20 && *s != '\n') || *s == 0x7f)
      *s = '?';
    else if (*s == 0xc2 && s[1] >= 0x80 && s[1] <= 0x9f)
      s[0] = s[1] = '?';
  }
}

static void __attribute__ ((format (printf, 2, 0)))
print_va (FILE *out, const char *fmt, va_list args)
{
  char *text;

  if (vasprintf (&text, fmt, args) == -1)
    return;
  defuse (text);
  fputs (text, out);
  free (text);
}

void
print (FILE *out, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  print_va (out, fmt, args);
  va_end (args);
}

/* One line on stderr whatever the message has in it. */
static void
tell (const char *command, const char *message)
{
  char *line, *s;

  if (asprintf (&line, "nbdfleece: %s%s%s", command ? command : "",
                command ? ": " : "", message) == -1)
    return;
  for (s = line; *s; s++)
    if (*s == '\n')
      *s = ' ';
  fflush (stdout);
  print (stderr, "%s\n", line);
  free (line);
}

void
cli_print_json (json_object *document)
{
  fprintf (stdout, "%s\n", json_object_to_json_string_ext
           (document, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
            | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void
print_json_error (const char *code, const char *message)
{
  json_object *document = json_object_new_object ();
  json_object *error = json_object_new_object ();

  json_object_object_add (error, "code", json_object_new_string (code));
  json_object_object_add (error, "message", json_object_new_string (message));
  json_object_object_add (document, "error", error);
  cli_print_json (document);
  json_object_put (document);
}

int
cli_fail (const struct cli *cli, const char *code, const char *fmt, ...)
{
  va_list args;
  char *message;

  va_start (args, fmt);
  if (vasprintf (&message, fmt, args) == -1)
    message = NULL;
  va_end (args);
  if (message) {
    tell (NULL, message);
    if (cli->json)
      print_json_error (code, message);
  }
  free (message);
  return CLI_FAILED;
}

int
cli_usage (const struct cli *cli, const char *fmt, ...)
{
  va_list args;
  char *message;

  va_start (args, fmt);
  if (vasprintf (&message, fmt, args) == -1)
    message = NULL;
  va_end (args);
  if (message)
    tell (cli->command, message);
  free (message);
  return CLI_USAGE;
}
