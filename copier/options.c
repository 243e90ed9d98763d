/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The option table and what reads it. */

#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "names.h"
#include "options.h"
#include "text.h"

enum type { TYPE_TEXT, TYPE_CHECKPOINT, TYPE_SIZE, TYPE_COUNT, TYPE_DURATION,
            TYPE_ACTION, TYPE_FLAG };

struct option_row {
  const char *key;
  enum type type;
  const char *arg;              /* how help calls the value */
  size_t where;                 /* in struct options: const char * for
                                 * TYPE_TEXT and TYPE_CHECKPOINT, else
                                 * uint64_t */
  uint64_t min, max, standard;
  const char *help;
};

#define AT(member) offsetof (struct options, member)
/* An extent of a manifest, of which there are fewer then; bytes. */
#define REQUEST_SIZE_MANIFEST (1 << 20)
#define SIZE_LIMIT (UINT64_C (1) << 60)

/* Sorted by key.  nbdfleece-copy(1) has the same keys and defaults; a test
 * compares them. */
static const struct option_row table[] = {
  { "allow-incomplete", TYPE_FLAG, NULL, AT (allow_incomplete), 0, 1, 0,
    "read an image that is an incomplete backup" },
  { "backing", TYPE_TEXT, "IMAGE", AT (backing), 0, 0, 0,
    "qcow2 target: the earlier backup that this one goes on top of" },
  { "checkpoint", TYPE_CHECKPOINT, "NAME,UUID", AT (checkpoint), 0, 0, 0,
    "checkpoint that was made with the snapshot, for the record" },
  { "compare", TYPE_FLAG, NULL, AT (compare), 0, 1, 0,
    "write nothing: say whether the target has what the source has" },
  { "compress", TYPE_TEXT, "METHOD", AT (compress), 0, 0, 0,
    "qcow2 target: compress with zlib or zstd" },
  { "connections", TYPE_COUNT, "N", AT (connections), 1, 16, 4,
    "NBD connections to each end, where it allows several" },
  { "control", TYPE_TEXT, "FIFO", AT (control), 0, 0, 0,
    "read commands from this named pipe" },
  { "copy-bitmap", TYPE_TEXT, "FILE", AT (copy_bitmap), 0, 0, 0,
    "copy what this bitmap says, and keep it up to date" },
  { "flush-interval", TYPE_DURATION, "TIME", AT (flush_interval_ms), 1,
    3600 * 1000, 5000,
    "how often the target is flushed for --copy-bitmap and --release" },
  { "live", TYPE_TEXT, "LOCATION", AT (live), 0, 0, 0,
    "refuse a map that names another live disk" },
  { "manifest", TYPE_TEXT, "FILE", AT (manifest), 0, 0, 0,
    "write a manifest: digests of all that was copied" },
  { "map", TYPE_TEXT, "FILE", AT (map), 0, 0, 0,
    "map of the snapshot that an NBD source serves" },
  { "max-requests", TYPE_COUNT, "N", AT (max_requests), 1, 1024, 64,
    "requests under way at once" },
  { "new-bitmap", TYPE_FLAG, NULL, AT (new_bitmap), 0, 1, 0,
    "make the copy bitmap if there is none, of all of the source" },
  { "on-source-error", TYPE_ACTION, "ACTION", AT (on_source_error), 0, 0,
    ACTION_REPORT, "report, stop, ignore or enospc" },
  { "on-target-error", TYPE_ACTION, "ACTION", AT (on_target_error), 0, 0,
    ACTION_REPORT, "report, stop, ignore or enospc" },
  { "progress", TYPE_TEXT, "FILE", AT (progress), 0, 0, 0,
    "write progress as JSON lines to this file or named pipe" },
  { "quiet", TYPE_FLAG, NULL, AT (quiet), 0, 1, 0,
    "no progress bar and no summary on a terminal" },
  { "release", TYPE_FLAG, NULL, AT (release), 0, 1, 0,
    "release what the target has flushed from the snapshot" },
  { "request-size", TYPE_SIZE, "SIZE", AT (request_size), 4096, 32 << 20,
    512 << 10, "longest read and write" },
  { "result", TYPE_TEXT, "FILE", AT (result), 0, 0, 0,
    "write the outcome as JSON to this file" },
  { "retry", TYPE_DURATION, "TIME", AT (retry_ms), 0, UINT64_C (1) << 40, 0,
    "how long to try to reconnect to a server that went away" },
  { "same-size", TYPE_FLAG, NULL, AT (same_size), 0, 1, 0,
    "refuse a target that is larger than the source" },
  { "scratch-limit", TYPE_SIZE, "SIZE", AT (scratch_limit), 0, SIZE_LIMIT, 0,
    "limit of the scratch; above half of it, empty it first" },
  { "since", TYPE_CHECKPOINT, "NAME,UUID", AT (since), 0, 0, 0,
    "checkpoint since which changes are copied, for the record" },
  { "speed", TYPE_SIZE, "SIZE", AT (speed), 0, SIZE_LIMIT, 0,
    "bytes per second at most" },
  { "threads", TYPE_COUNT, "N", AT (threads), 1, 64, 4,
    "threads for local reads and writes" },
  { "top", TYPE_FLAG, NULL, AT (top), 0, 1, 0,
    "leave out what the disk's top layer does not have" },
  { "top-of", TYPE_TEXT, "URI", AT (top_of), 0, 0, 0,
    "NBD server of the live disk that knows its layers" },
  { "verbose", TYPE_FLAG, NULL, AT (verbose), 0, 1, 0,
    "say on stderr what happens" },
};
#define NR_OPTIONS (sizeof table / sizeof table[0])

static const char *const actions[] = { "report", "stop", "ignore", "enospc" };

struct unit { const char *name; uint64_t factor; };

/* Digits, then one of the units.  0, or -1. */
static int
parse_number (const char *s, const struct unit *units, uint64_t *n)
{
  char *end;

  if (*s < '0' || *s > '9')
    return -1;
  errno = 0;
  *n = strtoull (s, &end, 10);
  if (errno)
    return -1;
  for (; units->name; units++)
    if (strcmp (end, units->name) == 0)
      return __builtin_mul_overflow (*n, units->factor, n) ? -1 : 0;
  return -1;
}

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };
static const struct unit size_units[] = {
  { "", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 },
  { "T", UINT64_C (1) << 40 }, { NULL, 0 }
};
static const struct unit time_units[] = {
  { "ms", 1 }, { "", 1000 }, { "s", 1000 }, { "m", 60 * 1000 },
  { "h", 60 * 60 * 1000 }, { NULL, 0 }
};

int
parse_size (const char *s, uint64_t *n)
{
  return parse_number (s, size_units, n);
}

static bool
is_text (const struct option_row *row)
{
  return row->type == TYPE_TEXT || row->type == TYPE_CHECKPOINT;
}

/* NAME,UUID: what is in the file of a checkpoint. */
static bool
checkpoint_ok (const char *s)
{
  char name[NAME_LENGTH_MAX + 1];
  size_t n = strcspn (s, ",");

  if (n > NAME_LENGTH_MAX || s[n] != ',')
    return false;
  memcpy (name, s, n);
  name[n] = '\0';
  s += n + 1;
  return name_ok (name) && strlen (s) == UUID_SIZE - 1
    && strspn (s, "0123456789abcdef-") == UUID_SIZE - 1;
}

static void
print_value (FILE *f, const struct option_row *row, uint64_t n)
{
  if (row->type == TYPE_ACTION)
    fputs (actions[n], f);
  else if (row->type == TYPE_DURATION && n % 1000 == 0)
    fprintf (f, "%" PRIu64 "s", n / 1000);
  else if (row->type == TYPE_DURATION)
    fprintf (f, "%" PRIu64 "ms", n);
  else if (row->type == TYPE_SIZE && n >= 1 << 20 && n % (1 << 20) == 0)
    fprintf (f, "%" PRIu64 "M", n >> 20);
  else if (row->type == TYPE_SIZE && n >= 1 << 10 && n % (1 << 10) == 0)
    fprintf (f, "%" PRIu64 "K", n >> 10);
  else
    fprintf (f, "%" PRIu64, n);
}

static void
help (void)
{
  size_t i;

  puts ("Usage: nbdfleece-copy [OPTIONS] SOURCE TARGET\n\n"
        "SOURCE  NBD URI, map:FILE for a snapshot's map, image (PATH, "
        "raw:PATH, qcow2:PATH),\n        block device\n"
        "TARGET  NBD URI, raw file or block device, or qcow2:PATH\n");
  for (i = 0; i < NR_OPTIONS; i++) {
    const struct option_row *row = &table[i];
    int n = printf ("  --%s%s%s", row->key, row->arg ? "=" : "",
                    row->arg ? row->arg : "");

    printf ("%*s%s", n < 28 ? 28 - n : 1, "", row->help);
    if (!is_text (row) && row->type != TYPE_FLAG) {
      fputs (" [", stdout);
      print_value (stdout, row, row->standard);
      fputs ("]", stdout);
    }
    putchar ('\n');
  }
  puts ("  --help                    this text\n"
        "  --version                 the version\n\n"
        "Exit: 0 completed, 1 failed or (--compare) different, 2 usage, "
        "3 incomplete (clusters\nwere lost), 4 cancelled.  See "
        "nbdfleece-copy(1).");
}

/* Where a value goes that is a number. */
static uint64_t *
number_at (struct options *o, const struct option_row *row)
{
  return (uint64_t *) (void *) ((char *) o + row->where);
}

static int
parse_value (const struct option_row *row, const char *s, uint64_t *n)
{
  size_t i;

  switch (row->type) {
  case TYPE_SIZE:
    return parse_number (s, size_units, n);
  case TYPE_COUNT:
    return parse_number (s, no_units, n);
  case TYPE_DURATION:
    return parse_number (s, time_units, n);
  case TYPE_ACTION:
    for (i = 0; i < sizeof actions / sizeof actions[0]; i++)
      if (strcmp (s, actions[i]) == 0) {
        *n = i;
        return 0;
      }
    return -1;
  case TYPE_FLAG:
    *n = 1;
    return 0;
  case TYPE_TEXT:
  case TYPE_CHECKPOINT:
    break;
  }
  return -1;
}

static int
set (struct options *o, const struct option_row *row, const char *s,
     struct message *why)
{
  uint64_t n;

  if (is_text (row)) {
    if (*s == '\0')
      return message_set (why, "--%s: empty", row->key);
    if (row->type == TYPE_CHECKPOINT && !checkpoint_ok (s))
      return message_set (why, "--%s=%s: not a name and a UUID", row->key, s);
    *(const char **) (void *) ((char *) o + row->where) = s;
    return 0;
  }
  if (parse_value (row, s, &n) == -1)
    return message_set (why, "--%s=%s: not a valid %s", row->key, s,
                        row->type == TYPE_ACTION ? "action (report, stop, "
                        "ignore, enospc)" : row->type == TYPE_SIZE
                        ? "size (a number, then K, M, G, T or nothing)"
                        : row->type == TYPE_DURATION
                        ? "time (a number, then ms, s, m or h)" : "number");
  if (row->type != TYPE_ACTION && (n < row->min || n > row->max))
    return message_set (why, "--%s=%s: must be %" PRIu64 " to %" PRIu64,
                        row->key, s, row->min, row->max);
  *number_at (o, row) = n;
  if (row->where == AT (on_source_error))
    o->source_action_given = true;
  if (row->where == AT (request_size))
    o->request_size_given = true;
  if (row->where == AT (connections))
    o->connections_given = true;
  return 0;
}

/* More connections than these to a server only get into each other's way. */
static uint64_t
processors (void)
{
  long n = sysconf (_SC_NPROCESSORS_ONLN);

  return n > 0 ? n : 1;
}

static int
check (const struct options *o, struct message *why)
{
  bool direct = strncmp (o->source, "map:", 4) == 0;

  if (o->source[0] == '\0')
    return message_set (why, "the source is empty");
  if (o->map && !strstr (o->source, "://"))
    return message_set (why, "--map goes with an NBD source only");
  if (o->release && !direct && !o->map)
    return message_set (why, "--release needs map:FILE as the source, or "
                        "--map");
  if (o->top_of && (!o->top || !o->copy_bitmap || (!direct && !o->map)))
    return message_set (why, "--top-of goes with --top, --copy-bitmap, and "
                        "map:FILE or --map only");
  if (o->backing && strncmp (o->target, "qcow2:", 6) != 0)
    return message_set (why, "--backing goes with a qcow2: target only");
  if (o->compress && strncmp (o->target, "qcow2:", 6) != 0)
    return message_set (why, "--compress goes with a qcow2: target only");
  if (o->compress && strcmp (o->compress, "zlib") != 0
      && strcmp (o->compress, "zstd") != 0)
    return message_set (why, "--compress=%s: it takes zlib or zstd",
                        o->compress);
  if (o->target[0] == '\0')
    return message_set (why, "the target is empty");
  if (o->compare && (o->copy_bitmap || o->release || o->top || o->backing
                     || o->compress || o->manifest))
    return message_set (why, "--compare does not go with --copy-bitmap, "
                        "--release, --top, --backing, --compress or "
                        "--manifest");
  if (strncmp (o->source, "manifest:", 9) == 0 && !o->compare)
    return message_set (why, "a manifest is a source for --compare only");
  if (o->new_bitmap && !o->copy_bitmap)
    return message_set (why, "--new-bitmap goes with --copy-bitmap only");
  if ((o->request_size & (o->request_size - 1)) != 0)
    return message_set (why, "--request-size: must be a power of two");
  return 0;
}

static void
set_up (struct options *o, struct option longs[NR_OPTIONS + 3])
{
  size_t i;

  memset (o, 0, sizeof *o);
  for (i = 0; i < NR_OPTIONS; i++) {
    longs[i].name = table[i].key;
    longs[i].has_arg = table[i].type == TYPE_FLAG ? no_argument
      : required_argument;
    longs[i].val = 256 + i;
    if (!is_text (&table[i]))
      *number_at (o, &table[i]) = table[i].standard;
  }
  longs[NR_OPTIONS] = (struct option) { "help", no_argument, NULL, 'h' };
  longs[NR_OPTIONS + 1] = (struct option) { "version", no_argument, NULL, 'V' };
}

enum options_result
options_parse (struct options *o, int argc, char *argv[], struct message *why)
{
  struct option longs[NR_OPTIONS + 3] = { 0 };
  int c;

  set_up (o, longs);
  while ((c = getopt_long (argc, argv, "hVqv", longs, NULL)) != -1)
    switch (c) {
    case 'h':
      help ();
      return OPTIONS_DONE;
    case 'V':
      puts ("nbdfleece-copy " PACKAGE_VERSION);
      return OPTIONS_DONE;
    case 'q':
      o->quiet = 1;
      break;
    case 'v':
      o->verbose = 1;
      break;
    case '?':                   /* getopt has said what */
      message_set (why, "try --help");
      return OPTIONS_USAGE;
    default:
      if (set (o, &table[c - 256], optarg, why) == -1)
        return OPTIONS_USAGE;
    }
  if (argc - optind != 2) {
    message_set (why, "it takes a source and a target (try --help)");
    return OPTIONS_USAGE;
  }
  o->source = argv[optind];
  o->target = argv[optind + 1];
  if (!o->connections_given && o->connections > processors ())
    o->connections = processors ();
  if (o->manifest && !o->request_size_given)
    o->request_size = REQUEST_SIZE_MANIFEST;
  return check (o, why) == -1 ? OPTIONS_USAGE : OPTIONS_OK;
}
