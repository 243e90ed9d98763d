/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Command lines: finds the command, reads options, prints help. */

#include <config.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "units.h"

/* Options that every command takes, before or after its name. */
enum { GLOBAL_SOCKET = 's', GLOBAL_HELP = 'h', GLOBAL_VERSION = 'V',
       GLOBAL_JSON = 256, OPTION_FIRST };

#define GLOBAL_SHORT "+:s:hV"
#define NR_GLOBALS 4

static const struct option global_options[NR_GLOBALS] = {
  { "socket", required_argument, NULL, GLOBAL_SOCKET },
  { "json", no_argument, NULL, GLOBAL_JSON },
  { "help", no_argument, NULL, GLOBAL_HELP },
  { "version", no_argument, NULL, GLOBAL_VERSION },
};

static void
print_option (const char *name, const char *metavar, const char *help)
{
  const int n = printf ("      %s%s%s", name, metavar ? " " : "",
                        metavar ? metavar : "");

  printf ("%*s  %s\n", n < 26 ? 26 - n : 0, "", help);
}

static void
print_globals (void)
{
  printf ("\nOptions of every command:\n");
  print_option ("-s, --socket", "PATH", "control socket of nbdfleeced "
                "($" CLI_SOCKET_ENV ", else\n                            "
                CLI_SOCKET ")");
  print_option ("--json", NULL, "print one JSON document");
  print_option ("-h, --help", NULL, "print this and do nothing else");
  print_option ("-V, --version", NULL, "print the version and do nothing else");
}

/* Words in lines of at most 76 columns. */
static void
print_wrapped (const char *text)
{
  size_t column = 0, len;

  while (*text) {
    len = strcspn (text, " ");
    if (column > 0 && column + 1 + len > 76) {
      printf ("\n");
      column = 0;
    }
    column += printf (column == 0 ? "    %.*s" : " %.*s", (int) len, text);
    text += len;
    text += strspn (text, " ");
  }
  printf ("\n");
}

static void
print_command (const struct command *c, const char *lead)
{
  char name[64];
  unsigned i;

  printf ("%s%s%s%s%s\n", lead, c->name, *c->arguments ? " " : "",
          c->arguments, c->nr_options > 0 ? " [OPTIONS]" : "");
  print_wrapped (c->help);
  for (i = 0; i < c->nr_options; i++) {
    snprintf (name, sizeof name, "--%s", c->options[i].name);
    print_option (name, c->options[i].metavar, c->options[i].help);
  }
}

/* Of one command, or of all. */
static int
print_help (const struct command *only)
{
  const struct command *c;

  if (only)
    print_command (only, "Usage: nbdfleece [-s SOCKET] [--json] ");
  else {
    printf ("Usage: nbdfleece [-s SOCKET] [--json] COMMAND\n\n");
    for (c = commands; c->name; c++)
      print_command (c, "  ");
  }
  print_globals ();
  return CLI_DONE;
}

/* One of the options of every command.  Returns 0; or 1 with *status. */
static int
take_global (struct cli *cli, int opt, const struct command *command,
             int *status)
{
  switch (opt) {
  case GLOBAL_SOCKET:
    cli->socket = optarg;
    return 0;
  case GLOBAL_JSON:
    cli->json = true;
    return 0;
  case GLOBAL_HELP:
    *status = print_help (command);
    return 1;
  case GLOBAL_VERSION:
    printf ("nbdfleece %s\n", PACKAGE_VERSION);
    *status = CLI_DONE;
    return 1;
  }
  return 0;
}

/* What getopt_long did not like. */
static int
bad_option (const struct cli *cli, int opt, char **argv)
{
  const char *what = argv[optind - 1];

  if (opt == ':')
    return cli_usage (cli, "option %s needs an argument", what);
  if (optopt == 0)
    return cli_usage (cli, "unknown option %s, see --help", what);
  if (optopt >= GLOBAL_JSON || strchr (GLOBAL_SHORT, optopt))
    return cli_usage (cli, "option %s takes no argument", what);
  return cli_usage (cli, "unknown option -%c, see --help", optopt);
}

int
command_globals (struct cli *cli, int argc, char **argv, int *first,
                 int *status)
{
  struct option options[NR_GLOBALS + 1] = { { 0 } };
  int opt;

  memcpy (options, global_options, sizeof global_options);
  opterr = 0;
  while ((opt = getopt_long (argc, argv, GLOBAL_SHORT, options, NULL)) != -1) {
    if (opt == '?' || opt == ':') {
      *status = bad_option (cli, opt, argv);
      return 1;
    }
    if (take_global (cli, opt, NULL, status) == 1)
      return 1;
  }
  *first = optind;
  return 0;
}

static int
expected (const struct cli *cli, const struct command_option *o,
          const char *text)
{
  char min[UNITS_SIZE], max[UNITS_SIZE], words[256] = "";
  unsigned i;

  switch (o->kind) {
  case OPTION_NUMBER:
    return cli_usage (cli, "--%s '%s': expected a number from %" PRIu64
                      " to %" PRIu64, o->name, text, o->min, o->max);
  case OPTION_SIZE:
    return cli_usage (cli, "--%s '%s': expected a size in bytes, or with "
                      "K M G T", o->name, text);
  case OPTION_SPEED:
    return cli_usage (cli, "--%s '%s': " SPEED_EXPECTED, o->name, text);
  case OPTION_TIME:
    return cli_usage (cli, "--%s '%s': expected a time from %s to %s with its "
                      "unit (ms s m h)", o->name, text,
                      units_time (o->min, min), units_time (o->max, max));
  case OPTION_WORD:
    for (i = 0; o->words[i]; i++) {
      strcat (words, i == 0 ? "" : ", ");
      strcat (words, o->words[i]);
    }
    return cli_usage (cli, "--%s '%s': expected %s", o->name, text, words);
  case OPTION_FLAG:
  case OPTION_NAME:
    break;
  }
  return CLI_USAGE;
}

int
parse_speed (const char *text, uint64_t *speed)
{
  *speed = 0;
  if (strcmp (text, "none") == 0)
    return 0;
  return units_parse_size (text, speed) == -1 || *speed == 0
    || *speed > SPEED_MAX ? -1 : 0;
}

/* Returns CLI_DONE or CLI_USAGE. */
static int
take_value (const struct cli *cli, const struct command_option *o,
            const char *text, struct option_value *value)
{
  uint64_t n = 0;
  unsigned i;
  int r = 0;

  value->given = true;
  switch (o->kind) {
  case OPTION_FLAG:
    return CLI_DONE;
  case OPTION_NAME:
    value->text = text;
    return CLI_DONE;
  case OPTION_WORD:
    for (i = 0; o->words[i]; i++)
      if (strcmp (o->words[i], text) == 0) {
        value->text = o->words[i];
        return CLI_DONE;
      }
    return expected (cli, o, text);
  case OPTION_NUMBER:
    r = strspn (text, "0123456789") == strlen (text)
      ? units_parse_size (text, &n) : -1;
    break;
  case OPTION_SIZE:
    r = units_parse_size (text, &n);
    break;
  case OPTION_SPEED:
    if (parse_speed (text, &value->number) == -1)
      return expected (cli, o, text);
    return CLI_DONE;
  case OPTION_TIME:
    r = units_parse_time (text, &n);
    break;
  }
  if (r == -1 || n < o->min || n > o->max)
    return expected (cli, o, text);
  value->number = n;
  return CLI_DONE;
}

/* Finds the command; *skip is how many words it has. */
static const struct command *
find_command (int argc, char **argv, int *skip)
{
  const struct command *c;
  char two[64];

  for (c = commands; c->name; c++) {
    *skip = strchr (c->name, ' ') ? 2 : 1;
    if (*skip > argc)
      continue;
    snprintf (two, sizeof two, "%s%s%s", argv[0], *skip == 2 ? " " : "",
              *skip == 2 ? argv[1] : "");
    if (strcmp (two, c->name) == 0)
      return c;
  }
  return NULL;
}

/* No such command: what may follow the first word, if that is one. */
static int
unknown_command (const struct cli *cli, int argc, char **argv)
{
  const size_t len = strlen (argv[0]);
  const struct command *c;
  char words[128] = "";

  for (c = commands; c->name; c++)
    if (strncmp (c->name, argv[0], len) == 0 && c->name[len] == ' ') {
      strcat (words, *words ? ", " : "");
      strcat (words, c->name + len + 1);
    }
  if (!*words)
    return cli_usage (cli, "unknown command '%s', see --help", argv[0]);
  if (argc < 2)
    return cli_usage (cli, "%s: which command? expected one of %s", argv[0],
                      words);
  return cli_usage (cli, "%s: unknown command '%s', expected one of %s",
                    argv[0], argv[1], words);
}

/* Reads options anywhere among the arguments.  Returns 0; or 1 with *status. */
static int
read_options (struct cli *cli, const struct command *c, int argc, char **argv,
              struct option_value *values, int *status)
{
  struct option options[NR_GLOBALS + COMMAND_OPTIONS_MAX + 1] = { { 0 } };
  unsigned i;
  int opt;

  memcpy (options, global_options, sizeof global_options);
  for (i = 0; i < c->nr_options; i++)
    options[NR_GLOBALS + i] = (struct option) {
      c->options[i].name,
      c->options[i].metavar ? required_argument : no_argument,
      NULL, OPTION_FIRST + i
    };
  optind = 0;                   /* start afresh, as GNU and musl have it */
  while ((opt = getopt_long (argc, argv, &GLOBAL_SHORT[1], options, NULL))
         != -1) {
    if (opt == '?' || opt == ':') {
      *status = bad_option (cli, opt, argv);
      return 1;
    }
    if (opt < OPTION_FIRST) {
      if (take_global (cli, opt, c, status) == 1)
        return 1;
      continue;
    }
    i = opt - OPTION_FIRST;
    *status = take_value (cli, &c->options[i], optarg, &values[i]);
    if (*status != CLI_DONE)
      return 1;
  }
  return 0;
}

int
command_run (struct cli *cli, int argc, char **argv)
{
  struct option_value values[COMMAND_OPTIONS_MAX] = { { 0 } };
  const struct command *c;
  int skip, status, nr;

  if (argc == 0)
    return cli_usage (cli, "which command? see --help");
  c = find_command (argc, argv, &skip);
  if (!c && argc > 1 && strcmp (argv[1], "--help") == 0)
    return print_help (NULL);
  if (!c)
    return unknown_command (cli, argc, argv);
  cli->command = c->name;
  /* The last word of the name takes the place of argv[0]. */
  argc -= skip - 1;
  argv += skip - 1;
  if (read_options (cli, c, argc, argv, values, &status) == 1)
    return status;
  nr = argc - optind;
  if (nr < c->min_arguments || nr > c->max_arguments)
    return cli_usage (cli, "%s arguments, expected %s",
                      nr < c->min_arguments ? "too few" : "too many",
                      *c->arguments ? c->arguments : "none");
  return c->run (cli, argv + optind, nr, values);
}
