/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The configuration: every message about what is wrong with a file. */

#include <config.h>

#include "conf.h"
#include "testing.h"

static struct config *
parse (const char *text, struct config_errors *errors)
{
  memset (errors, 0, sizeof *errors);
  return config_parse ("f", text, strlen (text), errors);
}

#define ONE "exports:\n  - name: vda\n    disk: /a\n"
/* Bad files, with all that is said about each. */

#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define RULE "expected a name that matches [A-Za-z0-9][A-Za-z0-9._-]{0,63}"
#define DISK "expected an absolute path, an NBD URI, " \
  "{plugin: NAME, options: {...}} or {qcow2: PATH}"
#define TCP "expected HOST:PORT or [V6-ADDRESS]:PORT, the port from 1 to 65535"
#define LIMIT "expected a size from 1M to 1048576T, or 0 for none"
#define CLUSTER "expected auto, or a power of two from 4K to 2M"
#define COMMAND "expected the absolute path of a program, or a list of that " \
  "and at most 63 arguments"
#define NAMES "expected a list of names of exports, from 1 to 64"
#define HOOKS "expected a mapping with before-freeze, after-thaw or both"
#define TIMEOUT "expected a time from 1ms to 1h with its unit, or 0 for none"

#define EX(keys) "exports:\n- {name: vda, disk: /a, " keys "}\n"
#define DISK_IS(disk) "exports:\n- {name: vda, disk: " disk "}\n"
#define NAME_IS(name) "exports:\n- {disk: /a, name: " name "}\n"
#define HOOKS_ARE(hooks) "exports:\n- {name: vda, disk: /a, hooks: " hooks "}\n"
#define GROUP(keys) ONE "groups:\n- {" keys "}\n"
#define ADDRESS(text) EX ("allow: [{address: '" text "'}]")
#define ADDRESS_ERROR(text) "f:2:43: address: '" text "', expected an IPv4 or " \
  "IPv6 address, or one with /BITS"
#define LISTEN(keys) "backup: {listen: [{" keys "}]}\n" ONE

static const struct { const char *text, *errors; } bad[] = {
  /* No YAML, or not of the kind we take. */
  { "", "f:1:1: an empty file, expected a mapping" },
  { "# nothing\n", "f:1:1: an empty file, expected a mapping" },
  { "exports: [\n", "f:2:1: not YAML: did not find expected node content" },
  { "exports: []\n\tx: 1\n", "f:2:1: not YAML: found character that cannot "
    "start any token" },
  { "exports:\n- a\nb\n", "f:4:1: not YAML: could not find expected ':' (while "
    "scanning a simple key from line 3)" },
  { "a: b: c\n", "f:1:5: not YAML: mapping values are not allowed in this "
    "context" },
  { "exports: []\n# \xc3\xa4\x01\n", "f:2:4: not YAML: control characters are "
    "not allowed, expected printable UTF-8" },
  { "exports: \xff\n", "f:1:10: not YAML: invalid leading UTF-8 octet, "
    "expected printable UTF-8" },
  { "exports: []\n---\nexports: []\n",
    "f:2:1: a second document, expected only one in a file" },
  { "exports: &e []\n", "f:1:10: anchor '&e', expected a value without one "
    "(aliases are not supported)" },
  { "exports: *e\n", "f:1:10: alias '*e', expected the value itself (aliases "
    "are not supported)" },
  { "exports: !!seq []\n", "f:1:10: tag 'tag:yaml.org,2002:seq', expected a "
    "value without one" },
  { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "f:1:17: nested too deeply, expected "
    "at most 16 levels" },

  /* The shape. */
  { "hello\n", "f:1:1: a single value, expected a mapping for the file" },
  { "- 1\n", "f:1:1: a list, expected a mapping for the file" },
  { "~\n", "f:1:1: no value, expected a mapping for the file" },
  { "state-dir: /s\n", "f:1:1: the file without 'exports', expected a list, "
    "each item a mapping for an export" },
  { "exports:\n", "f:1:9: exports: no value, expected a list, each item a "
    "mapping for an export" },
  { "exports: {}\n", "f:1:10: exports: a mapping, expected a list, each item "
    "a mapping for an export" },
  { "exports: [vda]\n", "f:1:11: a single value, expected a mapping for an "
    "export" },
  { ONE "backup:\n", "f:4:8: no value, expected a mapping for 'backup'" },
  { ONE "backup: {listen: 127.0.0.1:1}\n", "f:4:18: listen: a single value, "
    "expected a list, each item a mapping for an address to listen on" },
  { "exports:\n- {}\n", "f:2:3: an export without 'name', " RULE "\n"
    "f:2:3: an export without 'disk', " DISK },

  /* Keys. */
  { ONE "export: []\n",
    "f:4:1: unknown key 'export' in the file, expected 'exports'" },
  { ONE "zebra: 1\n", "f:4:1: unknown key 'zebra' in the file, expected one "
    "of: state-dir, run-dir, user, group, backup, exports, groups" },
  { ONE "<<: {}\n", "f:4:1: unknown key '<<' in the file, expected one of: "
    "state-dir, run-dir, user, group, backup, exports, groups" },
  { EX ("cluster_size: 4K"),
    "f:2:25: unknown key 'cluster_size' in an export, expected "
    "'cluster-size'" },
  { EX ("\"\\ttr\\x7fim-is-a-longer-key-than-anything-that-ought-to-be-"
        "repeated-in-a-message-\xc3\xa4-to-somebody\": 1"),
    "f:2:25: unknown key '\\x09tr\\x7fim-is-a-longer-key-than-anything-that-"
    "ought-to-be-repeated-in-a-message-\xc3\xa4-t...' in an export, expected "
    "one of: name, disk, scratch, scratch-limit, cluster-size, on-cow-error, "
    "cow-timeout, trim, tracking, freeze-timeout, hooks, allow" },
  { EX ("[trim]: copy"), "f:2:25: a list as a key of an export, expected a "
    "word" },
  { EX ("trim: copy, trim: copy"),
    "f:2:37: key 'trim' again, expected once (first in line 2)" },
  { ONE "exports: []\n",
    "f:4:1: key 'exports' again, expected once (first in line 1)" },
  { LISTEN ("tls: off"), "f:1:19: an address to listen on without 'tcp', "
    TCP },

  /* Names. */
  { NAME_IS ("a/b"), "f:2:20: name: 'a/b', " RULE },
  { NAME_IS (".."), "f:2:20: name: '..', " RULE },
  { NAME_IS ("a b"), "f:2:20: name: 'a b', " RULE },
  { NAME_IS ("''"), "f:2:20: name: '', " RULE },
  { NAME_IS ("~"), "f:2:20: name: no value, " RULE },
  { NAME_IS ("{}"), "f:2:20: name: a mapping, " RULE },
  { NAME_IS ("\"a\\0\""), "f:2:20: name: a control character in it, " RULE },
  { NAME_IS (A64 "a"), "f:2:20: name: '" A64 "a', " RULE },
  { NAME_IS ("control"), "f:2:20: name: 'control' is reserved, expected "
    "neither control, backup, backup.NAME, NAME.copy nor NAME.qemu" },
  { NAME_IS ("backup"), "f:2:20: name: 'backup' is reserved, expected "
    "neither control, backup, backup.NAME, NAME.copy nor NAME.qemu" },
  { NAME_IS ("backup.1"), "f:2:20: name: 'backup.1' is reserved, expected "
    "neither control, backup, backup.NAME, NAME.copy nor NAME.qemu" },
  { NAME_IS ("x.copy"), "f:2:20: name: 'x.copy' is reserved, expected "
    "neither control, backup, backup.NAME, NAME.copy nor NAME.qemu" },
  { NAME_IS ("x.qemu"), "f:2:20: name: 'x.qemu' is reserved, expected "
    "neither control, backup, backup.NAME, NAME.copy nor NAME.qemu" },
  { "run-dir: /" A64 "\n" NAME_IS ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    "f:3:20: name: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' with run-dir '/" A64
    "' makes paths of sockets 2 bytes too long, expected shorter ones" },
  { "exports:\n- {name: a, disk: /a}\n- {name: a, disk: /b}\n",
    "f:3:10: name: 'a' again, expected another name (first in line 2)" },

  /* Directories. */
  { "state-dir: s\n" ONE,
    "f:1:12: state-dir: 's', expected an absolute path of at most 812 bytes" },
  { "state-dir: [/s]\n" ONE, "f:1:12: state-dir: a list, expected an absolute "
    "path of at most 812 bytes" },
  { "run-dir: /" A64 A64 "\n" ONE, "f:1:10: run-dir: '/" A64
    "aaaaaaaaaaaaaaaaaaaaa...', expected an absolute path of at most 90 "
    "bytes" },
  { "state-dir: /s\nrun-dir: /s/.\n" ONE, "f:2:10: run-dir: the same as "
    "state-dir, expected another directory" },
  { EX ("scratch: ../s"), "f:2:34: scratch: '../s', expected an absolute path "
    "of at most 885 bytes" },

  /* Disks. */
  { DISK_IS ("web.raw"), "f:2:21: disk: 'web.raw', " DISK },
  { DISK_IS ("http://a/b"), "f:2:21: disk: 'http://a/b', " DISK },
  { DISK_IS ("'nbd://'"), "f:2:21: disk: 'nbd://', " DISK },
  { DISK_IS ("'nbd://a b'"), "f:2:21: disk: 'nbd://a b', " DISK },
  { DISK_IS ("'nbd+unix:///x'"), "f:2:21: disk: 'nbd+unix:///x', " DISK },
  { DISK_IS ("[/a]"), "f:2:21: disk: a list, " DISK },
  { DISK_IS ("{}"), "f:2:21: disk: neither 'plugin' nor 'qcow2', " DISK },
  { DISK_IS ("{plugin: a, qcow2: /a}"),
    "f:2:21: disk: both 'plugin' and 'qcow2', " DISK },
  { DISK_IS ("{qcow2: /a, options: {a: b}}"),
    "f:2:21: disk: 'options' for a qcow2 disk, " DISK },
  { DISK_IS ("{qcow2: a}"), "f:2:29: qcow2: 'a', expected an absolute path of "
    "at most 1018 bytes" },
  { DISK_IS ("{qcow: /a}"),
    "f:2:22: unknown key 'qcow' in a disk, expected 'qcow2'" },
  { DISK_IS ("{plugin: ./x.so}"), "f:2:30: plugin: './x.so', expected the "
    "name of an nbdkit plugin, or its absolute path" },
  { DISK_IS ("{plugin: x.so}"), "f:2:30: plugin: 'x.so', expected the "
    "name of an nbdkit plugin, or its absolute path" },
  { DISK_IS ("{plugin: a, options: [b]}"), "f:2:42: options: no mapping, "
    "expected a mapping of the plugin's parameters, each a text or a list of "
    "texts" },
  { DISK_IS ("{plugin: a, options: {b: }}"), "f:2:46: options: no value, "
    "expected a mapping of the plugin's parameters, each a text or a list of "
    "texts" },
  { DISK_IS ("{plugin: a, options: {b: [[c]]}}"), "f:2:47: options: a list, "
    "expected a mapping of the plugin's parameters, each a text or a list of "
    "texts" },
  { DISK_IS ("{plugin: a, options: {-x: y}}"), "f:2:43: '-x' as a parameter of "
    "a plugin, expected a letter and letters, digits, '.', '_' or '-', not "
    "'fleece-...'" },
  { DISK_IS ("{plugin: a, options: {fleece-state: /x}}"),
    "f:2:43: 'fleece-state' as a parameter of a plugin, expected a letter and "
    "letters, digits, '.', '_' or '-', not 'fleece-...'" },
  { DISK_IS ("{plugin: a, options: {b: 1, b: 2}}"),
    "f:2:49: key 'b' again, expected once (first in line 2; several values go "
    "in a list)" },
  { "exports:\n- {name: a, disk: /d}\n- {name: b, disk: //d/}\n",
    "f:3:19: disk: the same as that of export 'a', expected every disk once" },
  { "exports:\n- {name: a, disk: /d}\n- {name: b, disk: {qcow2: /d}}\n",
    "f:3:19: disk: the same as that of export 'a', expected every disk once" },
  { "exports:\n- {name: a, disk: /d}\n"
    "- {name: b, disk: {plugin: file, options: {file: /d}}}\n",
    "f:3:19: disk: the same as that of export 'a', expected every disk once" },
  { "exports:\n- {name: a, disk: 'nbd://h'}\n- {name: b, disk: 'nbd://h'}\n",
    "f:3:19: disk: the same as that of export 'a', expected every disk once" },
  { "run-dir: /r\n" DISK_IS ("'nbd+unix:///vda?socket=/r/vda.sock'"),
    "f:3:21: disk: a socket in run-dir, expected a server other than this "
    "one" },

  /* Numbers. */
  { EX ("scratch: {dir: /s}"), "f:2:35: unknown key 'dir' in a scratch, "
    "expected one of: directory, durable" },
  { EX ("scratch: {durable: maybe}"), "f:2:44: durable: 'maybe', expected "
    "false or true" },
  { EX ("scratch: {directory: s}"), "f:2:46: directory: 's', expected an "
    "absolute path of at most 885 bytes" },
  { EX ("scratch: [/s]"), "f:2:34: scratch: a list, expected an absolute path "
    "of at most 885 bytes" },
  { EX ("scratch-limit: 20X"), "f:2:40: scratch-limit: '20X', " LIMIT },
  { EX ("scratch-limit: -1"), "f:2:40: scratch-limit: '-1', " LIMIT },
  { EX ("scratch-limit: 1.5G"), "f:2:40: scratch-limit: '1.5G', " LIMIT },
  { EX ("scratch-limit: 1KB"), "f:2:40: scratch-limit: '1KB', " LIMIT },
  { EX ("scratch-limit: 100"), "f:2:40: scratch-limit: '100', " LIMIT },
  { EX ("scratch-limit: 2097152T"),
    "f:2:40: scratch-limit: '2097152T', " LIMIT },
  { EX ("scratch-limit: 99999999999999999999"),
    "f:2:40: scratch-limit: '99999999999999999999', " LIMIT },
  { EX ("scratch-limit: 18014398509481985K"),
    "f:2:40: scratch-limit: '18014398509481985K', " LIMIT },
  { EX ("scratch-limit: G"), "f:2:40: scratch-limit: 'G', " LIMIT },
  { EX ("scratch-limit: "), "f:2:40: scratch-limit: no value, " LIMIT },
  { EX ("scratch-limit: 1M, cluster-size: 2M"), "f:2:40: scratch-limit: less "
    "than cluster-size, expected room for one cluster" },
  { EX ("cluster-size: 0"), "f:2:39: cluster-size: '0', " CLUSTER },
  { EX ("cluster-size: 5000"), "f:2:39: cluster-size: '5000', " CLUSTER },
  { EX ("cluster-size: 2K"), "f:2:39: cluster-size: '2K', " CLUSTER },
  { EX ("cluster-size: 4M"), "f:2:39: cluster-size: '4M', " CLUSTER },
  { EX ("cow-timeout: 5"), "f:2:38: cow-timeout: '5', " TIMEOUT },
  { EX ("cow-timeout: 2h"), "f:2:38: cow-timeout: '2h', " TIMEOUT },
  { EX ("cow-timeout: [1s]"), "f:2:38: cow-timeout: a list, " TIMEOUT },

  /* Words. */
  { EX ("on-cow-error: panic"), "f:2:39: on-cow-error: 'panic', expected "
    "break-snapshot or break-guest-write" },
  { EX ("trim: Copy"), "f:2:31: trim: 'Copy', expected copy or defer" },
  { LISTEN ("tcp: 'h:1', tls: on"),
    "f:1:37: tls: 'on', expected off, allow or require" },

  /* Addresses. */
  { LISTEN ("tcp: '10809'"), "f:1:25: tcp: '10809', " TCP },
  { LISTEN ("tcp: ':1'"), "f:1:25: tcp: ':1', " TCP },
  { LISTEN ("tcp: 'h:'"), "f:1:25: tcp: 'h:', " TCP },
  { LISTEN ("tcp: 'h:0'"), "f:1:25: tcp: 'h:0', " TCP },
  { LISTEN ("tcp: 'h:65536'"), "f:1:25: tcp: 'h:65536', " TCP },
  { LISTEN ("tcp: 'h:01'"), "f:1:25: tcp: 'h:01', " TCP },
  { LISTEN ("tcp: 'h h:1'"), "f:1:25: tcp: 'h h:1', " TCP },
  { LISTEN ("tcp: '::1:1'"), "f:1:25: tcp: '::1:1', " TCP },
  { LISTEN ("tcp: '[::1:1'"), "f:1:25: tcp: '[::1:1', " TCP },
  { LISTEN ("tcp: '[]:1'"), "f:1:25: tcp: '[]:1', " TCP },
  { LISTEN ("tcp: '[:1'"), "f:1:25: tcp: '[:1', " TCP },
  { LISTEN ("tcp: '[h]:1'"), "f:1:25: tcp: '[h]:1', " TCP },
  { LISTEN ("tcp: '[::1%]:1'"), "f:1:25: tcp: '[::1%]:1', " TCP },
  { LISTEN ("tcp: 'h:1', tls: require"), "f:1:37: tls: 'require' without "
    "'tls-certificates' or 'tls-psk', expected a directory of certificates or "
    "a file of keys" },
  { LISTEN ("tcp: 'h:1', tls-psk: /c"),
    "f:1:41: tls-psk: not used with 'tls: off', expected 'allow' or "
    "'require'" },
  { LISTEN ("tcp: 'h:1', tls-certificates: /c"),
    "f:1:50: tls-certificates: not used with 'tls: off', expected 'allow' or "
    "'require'" },
  { "backup: {listen: [{tcp: 'h:1'}, {tcp: 'h:1'}]}\n" ONE,
    "f:1:39: tcp: 'h:1' again, expected every address once" },

  /* Hooks. */
  { EX ("freeze-timeout: 0"), "f:2:41: freeze-timeout: '0', expected a time "
    "from 1ms to 1m with its unit" },
  { EX ("freeze-timeout: 2m"), "f:2:41: freeze-timeout: '2m', expected a time "
    "from 1ms to 1m with its unit" },
  { HOOKS_ARE ("/bin/true"), "f:2:32: hooks: no mapping, " HOOKS },
  { HOOKS_ARE ("{}"), "f:2:32: hooks: neither of them, " HOOKS },
  { HOOKS_ARE ("{after-thaw-timeout: 1s}"),
    "f:2:32: hooks: neither of them, " HOOKS },
  { HOOKS_ARE ("{before_freeze: /x}"), "f:2:33: unknown key 'before_freeze' in "
    "hooks, expected 'before-freeze'" },
  { HOOKS_ARE ("{before-freeze: true}"),
    "f:2:48: before-freeze: 'true', " COMMAND },
  { HOOKS_ARE ("{before-freeze: }"),
    "f:2:48: before-freeze: no value, " COMMAND },
  { HOOKS_ARE ("{before-freeze: []}"),
    "f:2:48: before-freeze: an empty list, " COMMAND },
  { HOOKS_ARE ("{before-freeze: {a: b}}"),
    "f:2:48: before-freeze: a mapping, " COMMAND },
  { HOOKS_ARE ("{after-thaw: [x, /a]}"),
    "f:2:46: after-thaw: 'x', " COMMAND },
  { HOOKS_ARE ("{after-thaw: [/x, [a]]}"),
    "f:2:50: after-thaw: a list, " COMMAND },
  { HOOKS_ARE ("{after-thaw: /x, after-thaw-timeout: 11m}"),
    "f:2:69: after-thaw-timeout: '11m', expected a time from 1ms to 10m with "
    "its unit" },

  /* Groups. */
  { ONE "groups: {}\n", "f:4:9: groups: a mapping, expected a list, each item "
    "a mapping for a group" },
  { GROUP ("name: g"), "f:5:3: a group without 'exports', " NAMES },
  { GROUP ("exports: [vda]"), "f:5:3: a group without 'name', " RULE },
  { GROUP ("name: g, exports: vda"), "f:5:22: exports: no list, " NAMES },
  { GROUP ("name: g, exports: []"), "f:5:22: exports: an empty list, " NAMES },
  { GROUP ("name: g, exports: [vda, a/b]"), "f:5:28: exports: 'a/b', " NAMES },
  { GROUP ("name: g, exports: [vda, vdb]"), "f:5:28: exports: there is no "
    "export 'vdb', expected one of this file" },
  { GROUP ("name: g, exports: [vda, vda]"), "f:5:28: exports: 'vda' again, "
    "expected every export once" },
  { GROUP ("name: vda, exports: [vda]"), "f:5:10: name: 'vda' is the name of "
    "an export, expected another name (there in line 2)" },
  { GROUP ("name: g, exports: [vda]}\n- {name: g, exports: [vda]"),
    "f:6:10: name: 'g' again, expected another name (first in line 5)" },
  { GROUP ("name: g, exports: [vda], hooks: {}"),
    "f:5:36: hooks: neither of them, " HOOKS },
  /* Who may, and how much. */
  { EX ("allow: [{}]"), "f:2:32: allow: rule 1 without a condition, expected "
    "address, certificate or psk" },
  { "backup: {allow: [{psk: a}, {}]}\n" ONE, "f:1:17: allow: rule 2 without a "
    "condition, expected address, certificate or psk" },
  { EX ("allow: [{psk: ''}]"), "f:2:39: psk: '', expected a text of 1 to 253 "
    "bytes" },
  { ADDRESS ("10.0.0.0/33"), ADDRESS_ERROR ("10.0.0.0/33") },
  { ADDRESS ("10.0.0.0/"), ADDRESS_ERROR ("10.0.0.0/") },
  { ADDRESS ("10.0.0.0/-1"), ADDRESS_ERROR ("10.0.0.0/-1") },
  { ADDRESS ("10.0.0"), ADDRESS_ERROR ("10.0.0") },
  { ADDRESS ("::/129"), ADDRESS_ERROR ("::/129") },
  { ADDRESS ("::/0000"), ADDRESS_ERROR ("::/0000") },
  { ADDRESS ("localhost"), ADDRESS_ERROR ("localhost") },
  { "backup: {max-connections: 0}\n" ONE, "f:1:27: max-connections: '0', "
    "expected a number from 1 to 10000" },
  { "backup: {max-connections: 1K}\n" ONE, "f:1:27: max-connections: '1K', "
    "expected a number from 1 to 10000" },
  { "backup: {max-request: 1M}\n" ONE, "f:1:23: max-request: '1M', expected a "
    "size from 2M to 64M" },
  { "backup: {idle-timeout: 8ms}\n" ONE, "f:1:24: idle-timeout: '8ms', "
    "expected a time from 1s to 168h with its unit, or 0 for none" },

  /* Several at once, in the order of the file. */
  { "state-dir: s\nexports:\n- {name: '', disk: x}\n- {name: b, disk: /b, "
    "trim: 1, cow: 2}\n",
    "f:1:12: state-dir: 's', expected an absolute path of at most 812 bytes\n"
    "f:3:10: name: '', " RULE "\n"
    "f:3:20: disk: 'x', " DISK "\n"
    "f:4:29: trim: '1', expected copy or defer\n"
    "f:4:32: unknown key 'cow' in an export, expected one of: name, disk, "
    "scratch, scratch-limit, cluster-size, on-cow-error, cow-timeout, trim, "
    "tracking, freeze-timeout, hooks, allow" },
};

static void
test_bad (void)
{
  struct config_errors errors;
  unsigned nr_failed = 0;
  char got[8192];
  size_t i, j, used;

  for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    CHECK (parse (bad[i].text, &errors) == NULL || !"accepted");
    got[0] = '\0';
    for (j = used = 0; j < errors.nr; j++)
      used += snprintf (got + used, sizeof got - used, "%s%s",
                        j == 0 ? "" : "\n", errors.text[j]);
    CHECK (used < sizeof got);
    if (strcmp (got, bad[i].errors) != 0) {
      fprintf (stderr, "for:\n%s\nexpected:\n%s\ngot:\n%s\n\n",
               bad[i].text, bad[i].errors, got);
      nr_failed++;
    }
    config_errors_free (&errors);
  }
  CHECK (nr_failed == 0);
}

static void
test_many_errors (void)
{
  struct config_errors errors;
  char text[4096] = "exports:\n";
  size_t i, used = strlen (text);

  for (i = 0; i < 3 * CONFIG_ERRORS_MAX; i++)
    used += snprintf (text + used, sizeof text - used, "- x\n");
  CHECK (parse (text, &errors) == NULL);
  CHECK (errors.nr == CONFIG_ERRORS_MAX);
  CHECK (strcmp (errors.text[CONFIG_ERRORS_MAX - 1],
                 "f: and more errors") == 0);
  config_errors_free (&errors);
}

/* Files. */

static void
check_load_error (const char *path, const char *expected)
{
  struct config_errors errors = { .nr = 0 };

  CHECK (config_load (path, &errors) == NULL);
  CHECK (errors.nr == 1);
  if (strcmp (errors.text[0], expected) != 0)
    fprintf (stderr, "got: %s\n", errors.text[0]);
  CHECK (strcmp (errors.text[0], expected) == 0);
  config_errors_free (&errors);
}

static void
test_load (void)
{
  check_load_error ("/nonexistent.yaml", "/nonexistent.yaml: cannot be read: "
                    "No such file or directory");
  check_load_error ("/", "/: cannot be read: Is a directory");
  check_load_error ("/dev/null",
                    "/dev/null:1:1: an empty file, expected a mapping");
  /* Endless: what counts is that it ends. */
  check_load_error ("/dev/zero", "/dev/zero: cannot be read: File too large");
}

static void
test_nul (void)
{
  static const char text[] = ONE "\0# more\n";
  struct config_errors errors = { .nr = 0 };

  CHECK (config_parse ("f", text, sizeof text - 1, &errors) == NULL);
  CHECK (errors.nr == 1);
  CHECK (strcmp (errors.text[0], "f:4:1: not YAML: control characters are not "
                 "allowed, expected printable UTF-8") == 0);
  config_errors_free (&errors);
}

/* What is too much is refused early, whatever it is. */
static void
test_huge (void)
{
  static const char *const pieces[] = {
    "[", "{", "- ", "? ", "a: ", "[a,", "{a: ", "\"", "'", "|\n", "&a ", "x",
    "- a\n", "a: b\n", "%", "- - a\n", "!!a ", "#\n", "\\", "{[", "---\n",
  };
  struct config_errors errors;
  char *text = malloc (CONFIG_FILE_MAX + 1);
  size_t i, n, length;

  CHECK (text != NULL);
  for (i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
    length = strlen (pieces[i]);
    for (n = 0; n + length <= CONFIG_FILE_MAX; n += length)
      memcpy (text + n, pieces[i], length);
    text[n] = '\0';
    CHECK (parse (text, &errors) == NULL);
    CHECK (errors.nr >= 1);
    config_errors_free (&errors);
  }
  free (text);
}

int
main (void)
{
  test_bad ();
  test_many_errors ();
  test_load ();
  test_nul ();
  test_huge ();
  return EXIT_SUCCESS;
}
