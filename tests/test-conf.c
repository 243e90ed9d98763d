/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The configuration: what is accepted, the canonical form, ids. */

#include <config.h>

#include <stdbool.h>

#include "conf.h"
#include "testing.h"

static struct config *
parse (const char *text, struct config_errors *errors)
{
  memset (errors, 0, sizeof *errors);
  return config_parse ("f", text, strlen (text), errors);
}

static void
print_errors (const struct config_errors *errors)
{
  size_t i;

  for (i = 0; i < errors->nr; i++)
    fprintf (stderr, "  %s\n", errors->text[i]);
}

static struct config *
must_parse (const char *text)
{
  struct config_errors errors;
  struct config *config = parse (text, &errors);

  if (!config) {
    fprintf (stderr, "ought to be right:\n%s\n", text);
    print_errors (&errors);
  }
  CHECK (config != NULL && errors.nr == 0);
  return config;
}

static char *
dump (const struct config *config)
{
  char *text;
  size_t size;
  FILE *out = open_memstream (&text, &size);

  CHECK (out != NULL);
  config_dump (config, out);
  CHECK (fclose (out) == 0);
  return text;
}

/* Good files: as many lines of an export as it takes to see one thing. */

#define ONE "exports:\n  - name: vda\n    disk: /a\n"
#define EX(keys) "exports:\n- {name: vda, disk: /a, " keys "}\n"
#define DISK_IS(disk) "exports:\n- {name: vda, disk: " disk "}\n"
#define NAME_IS(name) "exports:\n- {disk: /a, name: " name "}\n"

static void
test_defaults (void)
{
  struct config *c = must_parse (ONE);
  const struct config_export *e = &c->exports[0];

  CHECK (strcmp (c->file, "f") == 0);
  CHECK (strcmp (c->state_dir, "/var/lib/nbdfleece") == 0);
  CHECK (strcmp (c->run_dir, "/run/nbdfleece") == 0);
  CHECK (c->nr_listen == 0 && c->nr_exports == 1);
  CHECK (strcmp (e->name, "vda") == 0);
  CHECK (e->disk.kind == CONFIG_DISK_RAW);
  CHECK (strcmp (e->disk.where, "/a") == 0);
  CHECK (e->scratch.directory == NULL && e->scratch.durable == CONFIG_NO);
  CHECK (e->scratch_limit == 0);
  CHECK (e->cluster_size == 0 && e->cow_timeout_ms == 0);
  CHECK (e->on_cow_error == CONFIG_BREAK_SNAPSHOT);
  CHECK (e->trim == CONFIG_TRIM_COPY);
  CHECK (e->tracking == CONFIG_TRACKING_NORMAL);
  CHECK (e->line == 2 && e->column == 11);
  CHECK (config_find_export (c, "vda") == e);
  CHECK (config_find_export (c, "vd") == NULL);
  config_free (c);
}

static void
test_no_exports (void)
{
  struct config *c = must_parse ("exports: []\n");

  CHECK (c->nr_exports == 0 && config_find_export (c, "vda") == NULL);
  config_free (c);
}

static void
test_sizes_and_times (void)
{
  static const struct { const char *key, *text; uint64_t value; } rows[] = {
    { "scratch-limit", "0", 0 },
    { "scratch-limit", "1M", 1 << 20 },
    { "scratch-limit", "1024K", 1 << 20 },
    { "scratch-limit", "1048576", 1 << 20 },
    { "scratch-limit", "20G", UINT64_C (20) << 30 },
    { "scratch-limit", "1048576T", UINT64_C (1) << 60 },
    { "cluster-size", "auto", 0 },
    { "cluster-size", "4K", 4096 },
    { "cluster-size", "4096", 4096 },
    { "cluster-size", "2M", 2 << 20 },
    { "cow-timeout", "0", 0 },
    { "cow-timeout", "0s", 0 },
    { "cow-timeout", "1ms", 1 },
    { "cow-timeout", "10s", 10000 },
    { "cow-timeout", "5m", 300000 },
    { "cow-timeout", "1h", 3600000 },
    { "cow-timeout", "'10s'", 10000 },
  };
  const struct config_export *e;
  struct config *c;
  char text[256];
  size_t i;

  for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    snprintf (text, sizeof text, ONE "    %s: %s\n",
              rows[i].key, rows[i].text);
    c = must_parse (text);
    e = &c->exports[0];
    CHECK ((rows[i].key[0] == 's' ? e->scratch_limit
            : rows[i].key[1] == 'l' ? e->cluster_size
            : e->cow_timeout_ms) == rows[i].value);
    config_free (c);
  }
}

static void
test_paths (void)
{
  static const char *const rows[][2] = {
    { "/", "/" }, { "//", "/" }, { "/.", "/" }, { "/a/", "/a" },
    { "/a//b/./c/.", "/a/b/c" }, { "/a/../b", "/a/../b" },
    { "/.a/b.", "/.a/b." }, { "'/a b'", "/a b" },
    { "\"/\xc3\xa4\"", "/\xc3\xa4" },
  };
  struct config *c;
  char text[256];
  size_t i;

  for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    snprintf (text, sizeof text, ONE "    scratch: %s\n", rows[i][0]);
    c = must_parse (text);
    CHECK (strcmp (c->exports[0].scratch.directory, rows[i][1]) == 0);
    config_free (c);
  }
}

static void
test_disks (void)
{
  struct config *c = must_parse
    ("exports:\n"
     "- {name: a, disk: /dev//vg/lv}\n"
     "- {name: b, disk: 'nbd://host:10809/x'}\n"
     "- {name: c, disk: NBD+UNIX:///?socket=/s}\n"
     "- {name: d, disk: {qcow2: /q}}\n"
     "- {name: e, disk: {plugin: memory, options: {size: 1G}}}\n"
     "- name: f\n"
     "  disk: {plugin: /lib/x.so, options: {b: [2, ''], a: '1 \"x\\'}}\n"
     "- {name: g, disk: {plugin: full}}\n");
  const struct config_disk *d;

  CHECK (c->nr_exports == 7);
  d = &c->exports[0].disk;
  CHECK (d->kind == CONFIG_DISK_RAW && strcmp (d->where, "/dev/vg/lv") == 0);
  d = &c->exports[1].disk;
  CHECK (d->kind == CONFIG_DISK_NBD);
  CHECK (strcmp (d->where, "nbd://host:10809/x") == 0);
  CHECK (c->exports[2].disk.kind == CONFIG_DISK_NBD);
  d = &c->exports[3].disk;
  CHECK (d->kind == CONFIG_DISK_QCOW2 && strcmp (d->where, "/q") == 0);
  d = &c->exports[4].disk;
  CHECK (d->kind == CONFIG_DISK_PLUGIN && strcmp (d->where, "memory") == 0);
  CHECK (d->nr_options == 1 && strcmp (d->options[0].key, "size") == 0
         && strcmp (d->options[0].value, "1G") == 0);
  d = &c->exports[5].disk;
  CHECK (d->nr_options == 3);
  CHECK (strcmp (d->options[0].key, "b") == 0
         && strcmp (d->options[0].value, "2") == 0);
  CHECK (strcmp (d->options[1].key, "b") == 0
         && strcmp (d->options[1].value, "") == 0);
  CHECK (strcmp (d->options[2].key, "a") == 0
         && strcmp (d->options[2].value, "1 \"x\\") == 0);
  CHECK (c->exports[6].disk.nr_options == 0);
  config_free (c);
}

static void
test_listen (void)
{
  struct config *c = must_parse
    ("backup:\n"
     "  listen:\n"
     "  - tcp: 127.0.0.1:10809\n"
     "  - {tcp: '[::1]:1', tls: allow, tls-certificates: /c/, tls-psk: /k}\n"
     "  - {tcp: backup.example.org:65535, tls: off}\n"
     "  - {tcp: '[fe80::1%eth0]:10809'}\n"
     ONE);

  CHECK (c->nr_listen == 4);
  CHECK (strcmp (c->listen[0].host, "127.0.0.1") == 0);
  CHECK (strcmp (c->listen[0].port, "10809") == 0);
  CHECK (c->listen[0].tls == CONFIG_TLS_OFF && !c->listen[0].tls_certificates);
  CHECK (strcmp (c->listen[1].host, "::1") == 0);
  CHECK (strcmp (c->listen[1].tcp, "[::1]:1") == 0);
  CHECK (c->listen[1].tls == CONFIG_TLS_ALLOW);
  CHECK (strcmp (c->listen[1].tls_certificates, "/c") == 0);
  CHECK (strcmp (c->listen[1].tls_psk, "/k") == 0);
  CHECK (strcmp (c->listen[2].host, "backup.example.org") == 0);
  CHECK (strcmp (c->listen[3].host, "fe80::1%eth0") == 0);
  config_free (c);
}

static void
test_allow (void)
{
  struct config *c = must_parse
    ("backup:\n"
     "  allow: [{address: '::/0'}]\n"
     "  max-connections-per-client: 7\n"
     "  max-request: 3M\n"
     "  handshake-timeout: 2s\n"
     "  idle-timeout: 0\n"
     EX ("allow: [{address: 10.1.0.0/16, psk: carol}, {certificate: \"a b\"}]"));

  CHECK (c->nr_allow == 1 && strcmp (c->allow[0].address, "::/0") == 0);
  CHECK (c->max_connections == 256 && c->max_connections_per_client == 7);
  CHECK (c->max_request == 3 << 20);
  CHECK (c->handshake_timeout_ms == 2000 && c->idle_timeout_ms == 0);
  CHECK (c->exports[0].nr_allow == 2);
  CHECK (strcmp (c->exports[0].allow[0].address, "10.1.0.0/16") == 0);
  CHECK (strcmp (c->exports[0].allow[0].psk, "carol") == 0);
  CHECK (!c->exports[0].allow[0].certificate && !c->exports[0].allow[1].psk);
  CHECK (strcmp (c->exports[0].allow[1].certificate, "a b") == 0);
  config_free (c);

  /* Defaults are there even if backup is not. */
  c = must_parse (ONE);
  CHECK (c->max_connections == 256 && c->max_connections_per_client == 32);
  CHECK (c->max_request == 64 << 20);
  CHECK (c->handshake_timeout_ms == 30000 && c->idle_timeout_ms == 3600000);
  CHECK (c->nr_allow == 0 && c->exports[0].nr_allow == 0);
  config_free (c);
}

/* The canonical form. */

static void
check_round_trip (const struct config *c)
{
  char *first = dump (c), *second;
  struct config *again = must_parse (first);
  char id[CONFIG_ID_SIZE], id_again[CONFIG_ID_SIZE];
  size_t i;

  second = dump (again);
  CHECK (strcmp (first, second) == 0);
  for (i = 0; i < c->nr_exports; i++) {
    config_export_id (c, &c->exports[i], id);
    config_export_id (again, &again->exports[i], id_again);
    CHECK (strlen (id) == CONFIG_ID_SIZE - 1);
    CHECK (strcmp (id, id_again) == 0);
  }
  config_backup_id (c, id);
  config_backup_id (again, id_again);
  CHECK (strcmp (id, id_again) == 0);
  free (first);
  free (second);
  config_free (again);
}

static void
test_groups (void)
{
  struct config *c = must_parse
    ("groups:\n"
     "- {name: g, exports: [b, a]}\n"
     "- {name: h, exports: [b], hooks: {after-thaw: [/x, '', ' \"y\\']}}\n"
     "exports:\n"
     "- {name: a, disk: /a}\n"
     "- name: b\n"
     "  disk: /b\n"
     "  freeze-timeout: 250ms\n"
     "  hooks: {before-freeze: /bin/x, before-freeze-timeout: 2s}\n");
  const struct config_group *g = config_find_group (c, "g");
  const struct config_hooks *hooks = &c->exports[1].hooks;

  CHECK (c->nr_groups == 2 && g == &c->groups[0]);
  CHECK (config_find_group (c, "a") == NULL);
  CHECK (g->exports.nr == 2 && strcmp (g->exports.v[0], "b") == 0
         && strcmp (g->exports.v[1], "a") == 0 && !g->exports.v[2]);
  CHECK (g->hooks.before_freeze.nr == 0 && g->hooks.after_thaw.nr == 0);
  CHECK (c->exports[0].freeze_timeout_ms == 5000);
  CHECK (c->exports[1].freeze_timeout_ms == 250);
  CHECK (c->exports[0].hooks.before_freeze.nr == 0);
  CHECK (hooks->before_freeze.nr == 1 && !hooks->before_freeze.v[1]
         && strcmp (hooks->before_freeze.v[0], "/bin/x") == 0);
  CHECK (hooks->after_thaw.nr == 0);
  CHECK (hooks->before_freeze_timeout_ms == 2000
         && hooks->after_thaw_timeout_ms == 30000);
  hooks = &c->groups[1].hooks;
  CHECK (hooks->after_thaw.nr == 3 && hooks->after_thaw.v[1][0] == '\0'
         && strcmp (hooks->after_thaw.v[2], " \"y\\") == 0);
  check_round_trip (c);
  config_free (c);
}

static void
test_byte_order_mark (void)
{
  config_free (must_parse ("\xef\xbb\xbf" ONE));
}

static void
test_words (void)
{
  CHECK (strcmp (config_tls_name (CONFIG_TLS_REQUIRE), "require") == 0);
  CHECK (strcmp (config_trim_name (CONFIG_TRIM_DEFER), "defer") == 0);
  CHECK (strcmp (config_cow_error_name (CONFIG_BREAK_GUEST_WRITE),
                 "break-guest-write") == 0);
}

/* Samples, ids. */

static struct config *
load_sample (const char *name)
{
  struct config_errors errors = { .nr = 0 };
  const char *top = getenv ("abs_top_srcdir");
  struct config *c;
  char path[4096];

  snprintf (path, sizeof path, "%s/conf/%s", top ? top : "..", name);
  c = config_load (path, &errors);
  print_errors (&errors);
  CHECK (c != NULL);
  return c;
}

static void
test_samples (void)
{
  struct config *c = load_sample ("minimal.yaml");
  char minimal[CONFIG_ID_SIZE], full[CONFIG_ID_SIZE], *user, *group;

  check_round_trip (c);
  config_export_id (c, &c->exports[0], minimal);
  config_free (c);

  c = load_sample ("full.yaml");
  check_round_trip (c);
  CHECK (c->nr_exports == 5 && c->nr_listen == 2 && c->nr_groups == 2);
  CHECK (c->exports[1].scratch_limit == UINT64_C (20) << 30);
  CHECK (c->exports[1].cow_timeout_ms == 500);
  /* It says that what it gives vda are the defaults. */
  user = c->user;
  group = c->group;
  CHECK (user && group);
  c->user = c->group = NULL;
  config_export_id (c, &c->exports[0], full);
  CHECK (strcmp (minimal, full) == 0);
  c->user = user;
  c->group = group;
  config_free (c);
}

/* Each of these means something else than all the others. */
static void
test_ids_differ (void)
{
  static const char *const texts[] = {
    ONE, "state-dir: /s\n" ONE, "run-dir: /r\n" ONE,
    "user: u\n" ONE, "user: v\n" ONE, "user: u\ngroup: g\n" ONE,
    NAME_IS ("vdb"), DISK_IS ("/b"), DISK_IS ("{qcow2: /a}"),
    DISK_IS ("{plugin: a}"), DISK_IS ("'nbd:///a'"),
    DISK_IS ("{plugin: a, options: {b: c}}"),
    DISK_IS ("{plugin: a, options: {b: d}}"),
    DISK_IS ("{plugin: a, options: {b: [c, d]}}"),
    DISK_IS ("{plugin: a, options: {b: 'c\", \"d'}}"),
    DISK_IS ("{plugin: a, options: {b: c, d: e}}"),
    DISK_IS ("{plugin: a, options: {d: e, b: c}}"),
    EX ("scratch: /s"), EX ("scratch: {durable: true}"),
    EX ("scratch: {directory: /s, durable: true}"),
    EX ("scratch-limit: 1G"), EX ("cluster-size: 4K"),
    EX ("on-cow-error: break-guest-write"), EX ("cow-timeout: 1s"),
    EX ("trim: defer"), EX ("tracking: durable"),
  };
  enum { NR = sizeof texts / sizeof texts[0] };
  char ids[NR][CONFIG_ID_SIZE];
  struct config *c;
  size_t i, j;

  for (i = 0; i < NR; i++) {
    c = must_parse (texts[i]);
    check_round_trip (c);
    config_export_id (c, &c->exports[0], ids[i]);
    for (j = 0; j < i; j++)
      CHECK (strcmp (ids[i], ids[j]) != 0);
    config_free (c);
  }
}

/* Spelling, the other exports and what no process knows of do not matter. */
static void
test_ids_agree (void)
{
  struct config *a = must_parse (EX ("trim: defer, cow-timeout: 60s, "
                                     "freeze-timeout: 1s, allow: [{psk: x}], "
                                     "hooks: {after-thaw: /x}"));
  struct config *b = must_parse
    ("backup: {listen: [{tcp: 'h:1'}]}\n"
     "exports:\n"
     "  - {name: x, disk: /x}\n"
     "  - cow-timeout: \"1m\"\n"
     "    trim:   'defer'   # comment\n"
     "    scratch-limit: 0\n"
     "    scratch: {durable: false}\n"
     "    disk: //a/\n"
     "    name: vda\n"
     "state-dir: /var/lib/nbdfleece/\n"
     "groups: [{name: g, exports: [vda]}]\n");
  char id_a[CONFIG_ID_SIZE], id_b[CONFIG_ID_SIZE];

  config_export_id (a, &a->exports[0], id_a);
  config_export_id (b, config_find_export (b, "vda"), id_b);
  CHECK (strcmp (id_a, id_b) == 0);
  config_backup_id (a, id_a);
  config_backup_id (b, id_b);
  CHECK (strcmp (id_a, id_b) == 0);
  config_free (a);
  config_free (b);
}

/* Damaged copies of a good file: a clean error, or something that the
 * canonical form carries. */
static void
test_damaged (void)
{
  static const char replacements[] = "\n \t:-{}[]'\"#&*!|>%@`,?~\\0aX/\xff";
  struct config *full = load_sample ("full.yaml");
  char *good = dump (full), *text;
  const size_t length = strlen (good);
  struct rng rng = rng_start ();
  struct config_errors errors;
  struct config *c;
  unsigned i, j, nr_good = 0;

  config_free (full);
  for (i = 0; i < 20000; i++) {
    text = strdup (good);
    CHECK (text != NULL);
    for (j = rng_below (&rng, 3) + 1; j > 0; j--)
      text[rng_below (&rng, length)] =
        replacements[rng_below (&rng, sizeof replacements - 1)];
    memset (&errors, 0, sizeof errors);
    c = config_parse ("f", text, rng_below (&rng, 10) == 0
                      ? rng_below (&rng, length) : length, &errors);
    CHECK ((c != NULL) == (errors.nr == 0));
    if (c) {
      check_round_trip (c);
      nr_good++;
    }
    config_free (c);
    config_errors_free (&errors);
    free (text);
  }
  fprintf (stderr, "of %u damaged files %u were still right\n", i, nr_good);
  free (good);
}

int
main (void)
{
  test_defaults ();
  test_no_exports ();
  test_sizes_and_times ();
  test_paths ();
  test_disks ();
  test_listen ();
  test_groups ();
  test_allow ();
  test_byte_order_mark ();
  test_words ();
  test_samples ();
  test_ids_differ ();
  test_ids_agree ();
  test_damaged ();
  return EXIT_SUCCESS;
}
