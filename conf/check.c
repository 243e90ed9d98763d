/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Rules about several values of a configuration. */

/* No I/O here: whether two paths lead to one file is for the daemon to find
 * out, which looks at the files; that one path is there twice is seen here.
 */

#include <config.h>

#include <string.h>
#include <sys/un.h>

#include "schema.h"

/* Longest of what is appended to RUN/EXPORT for a socket. */
#define SOCKET_SUFFIX ".qemu.sock"

static void
check_directories (struct parse *p, const struct config *config)
{
  if (strcmp (config->state_dir, config->run_dir) == 0)
    parse_error_field (p, &config->run_dir,
                       "run-dir: the same as state-dir, expected another "
                       "directory");
  if (config->group && !config->user)
    parse_error_field (p, &config->group, "group: without 'user', expected "
                       "both");
}

static void
check_listen (struct parse *p, const struct config *config, size_t n)
{
  const struct config_listen *listen = &config->listen[n];
  size_t i;

  if (listen->tls != CONFIG_TLS_OFF && !listen->tls_certificates
      && !listen->tls_psk)
    parse_error_field (p, &listen->tls,
                       "tls: '%s' without 'tls-certificates' or 'tls-psk', "
                       "expected a directory of certificates or a file of "
                       "keys", config_tls_name (listen->tls));
  if (listen->tls == CONFIG_TLS_OFF && listen->tls_certificates)
    parse_error_field (p, &listen->tls_certificates,
                       "tls-certificates: not used with 'tls: off', expected "
                       "'allow' or 'require'");
  if (listen->tls == CONFIG_TLS_OFF && listen->tls_psk)
    parse_error_field (p, &listen->tls_psk,
                       "tls-psk: not used with 'tls: off', expected 'allow' "
                       "or 'require'");
  for (i = 0; i < n; i++)
    if (strcmp (config->listen[i].host, listen->host) == 0
        && strcmp (config->listen[i].port, listen->port) == 0)
      parse_error_field (p, listen,
                         "tcp: '%s' again, expected every address once",
                         listen->tcp);
}

/* The run directory has control.sock, backup.sock and backup.NAME of the
 * daemon, EXPORT.qemu.sock of a qcow2 disk, and job-ID.copy.pid of a job. */
static bool
name_is_reserved (const char *name)
{
  const size_t len = strlen (name);

  return strcmp (name, "control") == 0 || strcmp (name, "backup") == 0
    || strncmp (name, "backup.", 7) == 0
    || (len > 5 && (strcmp (name + len - 5, ".qemu") == 0
                    || strcmp (name + len - 5, ".copy") == 0));
}

static void
check_name (struct parse *p, const struct config *config, size_t n)
{
  const struct config_export *ex = &config->exports[n];
  const size_t room = sizeof ((struct sockaddr_un *) NULL)->sun_path;
  const size_t length = strlen (config->run_dir) + strlen ("/")
    + strlen (ex->name) + sizeof SOCKET_SUFFIX;
  size_t i;

  for (i = 0; i < n; i++)
    if (strcmp (config->exports[i].name, ex->name) == 0) {
      parse_error_field (p, &ex->name, "name: '%s' again, expected another "
                         "name (first in line %u)",
                         ex->name, config->exports[i].line);
      break;
    }
  if (name_is_reserved (ex->name))
    parse_error_field (p, &ex->name, "name: '%s' is reserved, expected "
                       "neither control, backup, backup.NAME, NAME.copy nor "
                       "NAME.qemu", ex->name);
  if (length > room)
    parse_error_field (p, &ex->name, "name: '%s' with run-dir '%s' makes paths "
                       "of sockets %zu bytes too long, expected shorter ones",
                       ex->name, config->run_dir, length - room);
}

/* field: the list's, which has a place in the file. */
static void
check_allow (struct parse *p, const void *field,
             const struct config_allow *allow, size_t nr)
{
  size_t i;

  for (i = 0; i < nr; i++)
    if (!allow[i].address && !allow[i].certificate && !allow[i].psk)
      parse_error_field (p, field, "allow: rule %zu without a condition, "
                         "expected address, certificate or psk", i + 1);
}

/* The file behind a disk if that can be told from the configuration. */
static const char *
disk_file (const struct config_disk *disk)
{
  size_t i;

  if (disk->kind == CONFIG_DISK_RAW || disk->kind == CONFIG_DISK_QCOW2)
    return disk->where;
  if (disk->kind == CONFIG_DISK_PLUGIN && strcmp (disk->where, "file") == 0)
    for (i = 0; i < disk->nr_options; i++)
      if (strcmp (disk->options[i].key, "file") == 0)
        return disk->options[i].value;
  return NULL;
}

static bool
same_disk (const struct config_disk *a, const struct config_disk *b)
{
  const char *file_a = disk_file (a), *file_b = disk_file (b);

  if (file_a && file_b)
    return strcmp (file_a, file_b) == 0;
  return a->kind == CONFIG_DISK_NBD && b->kind == CONFIG_DISK_NBD
    && strcmp (a->where, b->where) == 0;
}

/* True if the URI leads to one of our own sockets: a disk that waits for
 * itself, or for an export that waits for it. */
static bool
is_own_socket (const struct config *config, const struct config_disk *disk)
{
  const size_t len = strlen (config->run_dir);
  const char *socket;

  if (disk->kind != CONFIG_DISK_NBD)
    return false;
  socket = strstr (disk->where, "socket=");
  return socket && strncmp (socket + 7, config->run_dir, len) == 0
    && socket[7 + len] == '/';
}

static void
check_disk (struct parse *p, const struct config *config, size_t n)
{
  const struct config_export *ex = &config->exports[n];
  size_t i;

  for (i = 0; i < n; i++)
    if (same_disk (&config->exports[i].disk, &ex->disk)) {
      parse_error_field (p, &ex->disk, "disk: the same as that of export "
                         "'%s', expected every disk once",
                         config->exports[i].name);
      break;
    }
  if (is_own_socket (config, &ex->disk))
    parse_error_field (p, &ex->disk, "disk: a socket in run-dir, expected a "
                       "server other than this one");
  if (ex->scratch_limit != 0 && ex->scratch_limit < ex->cluster_size)
    parse_error_field (p, &ex->scratch_limit, "scratch-limit: less than "
                       "cluster-size, expected room for one cluster");
}

static void
check_group_name (struct parse *p, const struct config *config, size_t n)
{
  const struct config_group *group = &config->groups[n];
  const struct config_export *same = config_find_export (config, group->name);
  size_t i;

  if (same)
    parse_error_field (p, &group->name, "name: '%s' is the name of an export, "
                       "expected another name (there in line %u)",
                       group->name, same->line);
  for (i = 0; i < n; i++)
    if (strcmp (config->groups[i].name, group->name) == 0) {
      parse_error_field (p, &group->name, "name: '%s' again, expected another "
                         "name (first in line %u)", group->name,
                         mark_line (p, &config->groups[i].name));
      break;
    }
}

static void
check_group_exports (struct parse *p, const struct config *config, size_t n)
{
  const struct config_strings *names = &config->groups[n].exports;
  size_t i, j;

  for (i = 0; i < names->nr; i++) {
    if (!config_find_export (config, names->v[i]))
      parse_error_field (p, &names->v[i], "exports: there is no export '%s', "
                         "expected one of this file", names->v[i]);
    for (j = 0; j < i; j++)
      if (strcmp (names->v[j], names->v[i]) == 0) {
        parse_error_field (p, &names->v[i], "exports: '%s' again, expected "
                           "every export once", names->v[i]);
        break;
      }
  }
}

void
check_config (struct parse *p, const struct config *config)
{
  size_t i;

  check_directories (p, config);
  for (i = 0; i < config->nr_listen; i++)
    check_listen (p, config, i);
  check_allow (p, &config->allow, config->allow, config->nr_allow);
  for (i = 0; i < config->nr_exports; i++) {
    check_name (p, config, i);
    check_disk (p, config, i);
    check_allow (p, &config->exports[i].allow, config->exports[i].allow,
                 config->exports[i].nr_allow);
  }
  for (i = 0; i < config->nr_groups; i++) {
    check_group_name (p, config, i);
    check_group_exports (p, config, i);
  }
}
