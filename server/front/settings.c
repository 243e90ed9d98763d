/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The table of options, read from the command line and from a file. */

/* An option is written --NAME VALUE (or --NAME=VALUE) on the command line and
 * NAME VALUE on a line of the file; both are the same table.  The file is read
 * after the command line; a single value may be given in one of the two only,
 * lists add up.  A reload reads both again into new settings and compares:
 * either all of the new ones come into effect or none.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "address.h"
#include "settings.h"
#include "slots.h"

#define LINE_MAX_BYTES 16384
#define FILE_LINES_MAX 100000

struct option;

struct reading {
  struct settings *s;
  char *why;                    /* SETTINGS_WHY bytes */
  uint64_t given;               /* one bit for each option */
  bool help, version;
};

struct option {
  const char *name;
  const char *value;            /* what it looks like; NULL: it has none */
  int (*set) (struct reading *r, const struct option *o, const char *value);
  size_t offset;                /* of the field in struct settings */
  uint64_t min, max, preset;    /* numbers */
  bool fixed;                   /* a reload cannot change it */
  bool many;                    /* may be given again */
  bool required;
  bool not_in_file;
  const char *help;
};

/* Never fails to leave a message. */
static int __attribute__ ((format (printf, 2, 3)))
bad (struct reading *r, const char *fmt, ...)
{
  va_list ap;

  va_start (ap, fmt);
  vsnprintf (r->why, SETTINGS_WHY, fmt, ap);
  va_end (ap);
  return -1;
}

static void *
field (struct reading *r, const struct option *o)
{
  return (char *) r->s + o->offset;
}

static int
set_text (struct reading *r, const struct option *o, const char *value)
{
  char **to = field (r, o);

  if (!*value)
    return bad (r, "%s: expected %s", o->name, o->value);
  *to = strdup (value);
  return *to ? 0 : bad (r, "no memory");
}

/* unix: in front is allowed, for the sake of --listen. */
static int
set_socket (struct reading *r, const struct option *o, const char *value)
{
  if (strncmp (value, "unix:", 5) == 0)
    value += 5;
  if (!socket_path_ok (value))
    return bad (r, "%s: expected the path of a socket, 1 to %zu bytes",
                o->name, sizeof ((struct sockaddr_un *) 0)->sun_path - 1);
  return set_text (r, o, value);
}

static int
set_number (struct reading *r, const struct option *o, const char *value)
{
  uint64_t *to = field (r, o), unit = 1;
  char *end;

  errno = 0;
  *to = strtoull (value, &end, 10);
  if (*value < '0' || *value > '9' || errno)
    end = "?";
  else if (strcmp (end, "K") == 0 || strcmp (end, "M") == 0) {
    unit = *end == 'K' ? 1024 : 1024 * 1024;
    end++;
  }
  if (*end || *to > o->max / unit || *to * unit < o->min)
    return bad (r, "%s: '%s': expected a number from %" PRIu64 " to %" PRIu64,
                o->name, value, o->min, o->max);
  *to *= unit;
  return 0;
}

static int
set_flag (struct reading *r, const struct option *o, const char *value)
{
  (void) value;
  *(bool *) field (r, o) = true;
  return 0;
}

static int
set_verbose (struct reading *r, const struct option *o, const char *value)
{
  (void) o;
  (void) value;
  r->s->verbose++;
  return 0;
}

static int
set_help (struct reading *r, const struct option *o, const char *value)
{
  (void) value;
  if (o->name[0] == 'h')
    r->help = true;
  else
    r->version = true;
  return 0;
}

/* Room for one more item of size bytes in the array whose pointer is at items,
 * zeroed. */
static void *
one_more (struct reading *r, void *items, size_t *nr, size_t size)
{
  void *more;

  memcpy (&more, items, sizeof more);
  more = realloc (more, (*nr + 1) * size);
  if (!more) {
    bad (r, "no memory");
    return NULL;
  }
  memcpy (items, &more, sizeof more);
  return memset ((char *) more + (*nr)++ * size, 0, size);
}

static int
set_allow (struct reading *r, const struct option *o, const char *value)
{
  struct rule *rule = one_more (r, &r->s->allow, &r->s->nr_allow,
                                sizeof *rule);
  const char *why;

  if (!rule)
    return -1;
  if (rule_parse (value, rule, &why) == 0)
    return 0;
  return bad (r, "%s: '%s': %s", o->name, value, why);
}

static int
set_release (struct reading *r, const struct option *o, const char *value)
{
  char export_name[NAME_LENGTH_MAX + 1], snapshot[NAME_LENGTH_MAX + 1];
  char **item;

  if (name_split (value, export_name, snapshot) == -1)
    return bad (r, "%s: '%s': expected EXPORT@SNAPSHOT", o->name, value);
  item = one_more (r, &r->s->release, &r->s->nr_release, sizeof *item);
  if (!item)
    return -1;
  *item = strdup (value);
  return *item ? 0 : bad (r, "no memory");
}

static int
set_listen (struct reading *r, const struct option *o, const char *value)
{
  struct address *a = one_more (r, &r->s->listen, &r->s->nr_listen,
                                sizeof *a);
  char what[SETTINGS_WHY - 32];
  size_t i;

  if (!a)
    return -1;
  if (address_parse (value, a, what, sizeof what) == -1)
    return bad (r, "%s: %s", o->name, what);
  for (i = 0; i + 1 < r->s->nr_listen; i++)
    if (strcmp (r->s->listen[i].text, a->text) == 0)
      return bad (r, "%s: %s comes twice", o->name, a->text);
  return 0;
}

#define AT(member) offsetof (struct settings, member)
#define MINUTES(n) ((n) * 60)

static const struct option options[] = {
  { .name = "config", .value = "FILE", .set = set_text, .offset = AT (config),
    .fixed = true, .not_in_file = true,
    .help = "Read more options from FILE, NAME VALUE on each line, and again "
            "on SIGHUP." },
  { .name = "state", .value = "DIR", .set = set_text, .offset = AT (state),
    .fixed = true, .required = true,
    .help = "The state directory: exports/EXPORT/SNAPSHOT.map." },
  { .name = "backend", .value = "PATH", .set = set_socket,
    .offset = AT (backend), .fixed = true, .required = true,
    .help = "Unix socket of the snapshot server, nbdkit -r fleece dir=DIR." },
  { .name = "listen", .value = "ADDRESS", .set = set_listen, .many = true,
    .required = true,
    .help = "Where clients come: unix:PATH or tcp:HOST:PORT, and after spaces "
            "tls=off|allow|require, certificates=DIR, psk=FILE." },
  { .name = "allow", .value = "RULE", .set = set_allow, .many = true,
    .help = "EXPORT (or *) and address=CIDR, certificate=NAME, psk=NAME: who "
            "has all of these sees the export.  Who comes through a unix "
            "socket sees all; through tcp, nothing without a rule." },
  { .name = "release", .value = "EXPORT@SNAPSHOT", .set = set_release,
    .many = true,
    .help = "Clients may release clusters of this snapshot, by trimming." },
  { .name = "status", .value = "PATH", .set = set_socket,
    .offset = AT (status), .fixed = true,
    .help = "Unix socket that tells what goes on, as JSON." },
  { .name = "id", .value = "TEXT", .set = set_text, .offset = AT (id),
    .help = "Shown there, so that who wrote the options can see which are in "
            "effect." },
  { .name = "max-connections", .value = "N", .set = set_number,
    .offset = AT (max_connections), .min = 1, .max = 10000, .preset = 256,
    .help = "Connections at a time." },
  { .name = "max-connections-per-client", .value = "N", .set = set_number,
    .offset = AT (max_connections_per_client),
    .min = 1, .max = 10000, .preset = 32,
    .help = "Connections at a time from one address or local process." },
  { .name = "max-request", .value = "SIZE", .set = set_number,
    .offset = AT (max_request), .min = 1 << 21, .max = REQUEST_MAX,
    .preset = REQUEST_MAX,
    .help = "Longest read, in bytes (K and M are understood)." },
  { .name = "handshake-timeout", .value = "SECONDS", .set = set_number,
    .offset = AT (handshake_timeout), .min = 1, .max = 3600, .preset = 30,
    .help = "From connecting to the first request." },
  { .name = "idle-timeout", .value = "SECONDS", .set = set_number,
    .offset = AT (idle_timeout), .min = 0, .max = 7 * 24 * 3600,
    .preset = MINUTES (60),
    .help = "How long a client may neither send nor receive anything; 0 for "
            "ever." },
  { .name = "verbose", .set = set_verbose, .many = true,
    .help = "Say more; twice, even more." },
  { .name = "check", .set = set_flag, .offset = AT (check),
    .not_in_file = true,
    .help = "Only check the options, certificates and keys." },
  { .name = "help", .set = set_help, .not_in_file = true,
    .help = "Print this." },
  { .name = "version", .set = set_help, .not_in_file = true,
    .help = "Print the version." },
};

#define NR_OPTIONS (sizeof options / sizeof options[0])

static const struct option *
find_option (const char *name, size_t len)
{
  size_t i;

  for (i = 0; i < NR_OPTIONS; i++)
    if (strncmp (options[i].name, name, len) == 0
        && options[i].name[len] == '\0')
      return &options[i];
  return NULL;
}

static int
set_option (struct reading *r, const struct option *o, const char *value)
{
  uint64_t bit = UINT64_C (1) << (o - options);

  if (!o->value && value)
    return bad (r, "%s has no value", o->name);
  if (o->value && !value)
    return bad (r, "%s: expected %s", o->name, o->value);
  if ((r->given & bit) && !o->many)
    return bad (r, "%s was given twice", o->name);
  r->given |= bit;
  return o->set (r, o, value);
}

static int
read_arguments (struct reading *r, int argc, char *const *argv)
{
  const struct option *o;
  const char *name, *value;
  size_t len;
  int i;

  for (i = 1; i < argc; i++) {
    if (strncmp (argv[i], "--", 2) != 0)
      return bad (r, "unexpected argument '%s'", argv[i]);
    name = argv[i] + 2;
    len = strcspn (name, "=");
    o = find_option (name, len);
    if (!o)
      return bad (r, "unknown option '%s'", argv[i]);
    value = name[len] ? name + len + 1 : NULL;
    if (!value && o->value && i + 1 < argc)
      value = argv[++i];
    if (set_option (r, o, value) == -1)
      return -1;
  }
  return 0;
}

/* line is overwritten. */
static int
read_line (struct reading *r, char *line)
{
  const struct option *o;
  size_t len;
  char *value;

  len = strlen (line);
  while (len > 0 && strchr (" \t\n", line[len - 1]))
    line[--len] = '\0';
  line += strspn (line, " \t");
  if (!*line || *line == '#')
    return 0;
  len = strcspn (line, " \t");
  o = find_option (line, len);
  if (!o || o->not_in_file)
    return bad (r, "unknown option '%.*s'", (int) (len > 99 ? 99 : len), line);
  value = line + len;
  value += strspn (value, " \t");
  return set_option (r, o, *value ? value : NULL);
}

/* Says where in the file it is. */
static int
bad_line (struct reading *r, unsigned number)
{
  char what[SETTINGS_WHY];

  snprintf (what, sizeof what, "%s", r->why);
  return bad (r, "%s:%u: %s", r->s->config, number, what);
}

static int
read_lines (struct reading *r, FILE *fp)
{
  char line[LINE_MAX_BYTES];
  unsigned number = 0;

  while (fgets (line, sizeof line, fp)) {
    size_t len = strlen (line);
    bool whole = (len > 0 && line[len - 1] == '\n') || feof (fp);

    if (++number > FILE_LINES_MAX || !whole || len == 0) {
      bad (r, "a line is too long or has no end, or there are too many");
      return bad_line (r, number);
    }
    if (read_line (r, line) == -1)
      return bad_line (r, number);
  }
  return ferror (fp) ? bad (r, "%s: %s", r->s->config, strerror (errno)) : 0;
}

static int
read_file (struct reading *r)
{
  FILE *fp;
  int result;

  if (!r->s->config)
    return 0;
  fp = fopen (r->s->config, "re");
  if (!fp)
    return bad (r, "%s: %s", r->s->config, strerror (errno));
  result = read_lines (r, fp);
  fclose (fp);
  return result;
}

static int
check_complete (struct reading *r)
{
  size_t i;

  for (i = 0; i < NR_OPTIONS; i++)
    if (options[i].required && !(r->given >> i & 1))
      return bad (r, "--%s is needed", options[i].name);
  return 0;
}

static void
set_presets (struct reading *r)
{
  size_t i;

  for (i = 0; i < NR_OPTIONS; i++)
    if (options[i].set == set_number)
      *(uint64_t *) field (r, &options[i]) = options[i].preset;
}

enum settings_result
settings_read (int argc, char *const *argv, struct settings **settings,
               char why[SETTINGS_WHY])
{
  struct reading r = { .s = calloc (1, sizeof *r.s), .why = why };
  enum settings_result result = SETTINGS_BAD;

  *settings = NULL;
  if (!r.s) {
    bad (&r, "no memory");
    return result;
  }
  set_presets (&r);
  if (read_arguments (&r, argc, argv) == 0) {
    if (r.help || r.version)
      result = SETTINGS_EXIT;
    else if (read_file (&r) == 0 && check_complete (&r) == 0)
      result = SETTINGS_OK;
  }
  if (result == SETTINGS_OK) {
    *settings = r.s;
    return result;
  }
  if (r.help)
    settings_help (stdout);
  else if (r.version)
    printf ("nbdfleece-front %s\n", PACKAGE_VERSION);
  settings_free (r.s);
  return result;
}

bool
settings_can_replace (const struct settings *now, const struct settings *next,
                      char why[SETTINGS_WHY])
{
  size_t i;

  for (i = 0; i < NR_OPTIONS; i++) {
    const char *a, *b;

    if (!options[i].fixed)
      continue;
    a = *(char *const *) ((const char *) now + options[i].offset);
    b = *(char *const *) ((const char *) next + options[i].offset);
    if (strcmp (a ? a : "", b ? b : "") != 0) {
      snprintf (why, SETTINGS_WHY, "%s cannot change while running",
                options[i].name);
      return false;
    }
  }
  return true;
}

void
settings_free (struct settings *s)
{
  if (!s)
    return;
  while (s->nr_listen > 0)
    address_clear (&s->listen[--s->nr_listen]);
  while (s->nr_allow > 0)
    rule_clear (&s->allow[--s->nr_allow]);
  while (s->nr_release > 0)
    free (s->release[--s->nr_release]);
  free (s->listen);
  free (s->allow);
  free (s->release);
  free (s->config);
  free (s->state);
  free (s->backend);
  free (s->status);
  free (s->id);
  free (s);
}

bool
settings_may_release (const struct settings *s, const char *name)
{
  size_t i;

  for (i = 0; i < s->nr_release; i++)
    if (strcmp (s->release[i], name) == 0)
      return true;
  return false;
}

/* Words on lines of at most 76 columns, indented by 4. */
static void
print_wrapped (const char *text, FILE *out)
{
  size_t column = 0, len;

  while (*text) {
    len = strcspn (text, " ");
    if (column > 0 && column + 1 + len > 76) {
      fputc ('\n', out);
      column = 0;
    }
    column += fprintf (out, column == 0 ? "    %.*s" : " %.*s",
                       (int) len, text);
    text += len;
    text += strspn (text, " ");
  }
  fputc ('\n', out);
}

void
settings_help (FILE *out)
{
  const struct option *o;

  fprintf (out, "Usage: nbdfleece-front --state DIR --backend PATH "
           "--listen ADDRESS [OPTION]...\n"
           "Serves the snapshots of a state directory to NBD clients.\n\n");
  for (o = options; o < options + NR_OPTIONS; o++) {
    fprintf (out, "--%s%s%s\n", o->name, o->value ? " " : "",
             o->value ? o->value : "");
    print_wrapped (o->help, out);
    if (o->set == set_number)
      fprintf (out, "    %" PRIu64 " to %" PRIu64 ", default %" PRIu64 "\n",
               o->min, o->max, o->preset);
  }
}
