/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The oracle's command line: KEY=VALUE words, one table. */

#include <config.h>

#include <inttypes.h>
#include <stddef.h>

#include "oracle.h"

enum type { TEXT, NUMBER };

static const struct option {
  const char *key;
  enum type type;
  size_t at;
  const char *fallback;
  const char *help;
} table[] = {
#define O(key, type, field, fallback, help) \
  { key, type, offsetof (struct options, field), fallback, help }
  O ("dir", TEXT, dir, NULL, "an empty directory to work in"),
  O ("backend", TEXT, backend, "file", "what is below: file, nbd or memory"),
  O ("filter", NUMBER, filter, "1", "0: no filter, only the live disk"),
  O ("size", NUMBER, size, "4M", "bytes of the disk"),
  O ("cluster", NUMBER, cluster, "0", "cluster size; 0: another each time"),
  O ("writers", NUMBER, writers, "4", "connections that write"),
  O ("depth", NUMBER, depth, "8", "requests in flight on each"),
  O ("max-request", NUMBER, max_request, "4M", "bytes of one request"),
  O ("slots", NUMBER, slots, "4", "snapshots at a time"),
  O ("readers", NUMBER, readers, "2", "threads that read any snapshot"),
  O ("rounds", NUMBER, rounds, "200", "snapshots altogether"),
  O ("exact", NUMBER, exact, "30", "percent begun with writers paused"),
  O ("frozen", NUMBER, frozen, "10", "percent begun after a FREEZE"),
  O ("direct", NUMBER, direct, "1", "0: read through the plugin only"),
  O ("front", NUMBER, front, "0", "1: pull through nbdfleece-front"),
  O ("release", NUMBER, release, "10", "percent that release clusters"),
  O ("durable", NUMBER, durable, "0", "percent that outlast the host"),
  O ("trim", TEXT, trim, "copy", "fleece-trim"),
  O ("on-cow-error", TEXT, on_cow_error, "break-snapshot",
     "fleece-on-cow-error"),
  O ("scratch-limit", NUMBER, scratch_limit, "0", "fleece-scratch-limit"),
  O ("cow-timeout", NUMBER, cow_timeout, "0", "fleece-cow-timeout in ms"),
  O ("delay", NUMBER, delay, "0", "ms that nbdkit's delay filter takes"),
  O ("jitter", NUMBER, jitter, "20",
     "percent of backend requests that are held or split at random"),
  O ("kill-every", NUMBER, kill_every, "0", "kill a server every N rounds"),
  O ("chaos", TEXT, chaos, "any",
     "which: export, plugin, front, any; or term: end the export in order"),
  O ("seconds", NUMBER, seconds, "240", "without a new snapshot: a hang"),
#undef O
};
#define NR_OPTIONS (sizeof table / sizeof table[0])

static void
usage (void)
{
  size_t i;

  fprintf (stderr, "usage: oracle dir=DIR [KEY=VALUE ...]\n");
  for (i = 0; i < NR_OPTIONS; i++)
    fprintf (stderr, "  %-14s %s (%s)\n", table[i].key, table[i].help,
             table[i].fallback ? table[i].fallback : "required");
  exit (2);
}

static uint64_t
number (const char *key, const char *text)
{
  char *end;
  uint64_t n = strtoull (text, &end, 0);

  switch (*end) {
  case 'M': n *= 1024; /* fall through */
  case 'K': n *= 1024; end++;
  }
  if (end == text || *end) {
    fprintf (stderr, "oracle: %s=%s: not a number\n", key, text);
    exit (2);
  }
  return n;
}

static void
set (struct options *opt, const struct option *o, const char *text)
{
  char *at = (char *) opt + o->at;

  if (o->type == TEXT)
    *(const char **) at = text;
  else
    *(uint64_t *) at = number (o->key, text);
}

void
options_parse (struct options *opt, int argc, char *argv[])
{
  size_t i, n;
  int a;

  for (i = 0; i < NR_OPTIONS; i++)
    if (table[i].fallback)
      set (opt, &table[i], table[i].fallback);
  for (a = 1; a < argc; a++) {
    for (i = 0; i < NR_OPTIONS; i++) {
      n = strlen (table[i].key);
      if (strncmp (argv[a], table[i].key, n) == 0 && argv[a][n] == '=')
        break;
    }
    if (i == NR_OPTIONS)
      usage ();
    set (opt, &table[i], argv[a] + n + 1);
  }
  if (!opt->dir || !opt->size || !opt->depth || !opt->max_request)
    usage ();
  if (opt->max_request > opt->size)
    opt->max_request = opt->size;
}

void
options_print (const struct options *opt)
{
  const char *at;
  size_t i;

  fprintf (stderr, "oracle");
  for (i = 0; i < NR_OPTIONS; i++) {
    at = (const char *) opt + table[i].at;
    if (table[i].type == TEXT)
      fprintf (stderr, " %s=%s", table[i].key, *(const char **) at);
    else
      fprintf (stderr, " %s=%" PRIu64, table[i].key, *(uint64_t *) at);
  }
  fprintf (stderr, "\n");
}
