/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The command lines of an export's nbdkit and qemu-nbd. */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"

/* Seconds for an NBD server to come back before a guest gets an error. */
#define RECONNECT 15

/* After the socket for guests, which is the first that it is handed. */
#define CONTROL_FD 4

const char *
export_disk_kind (const struct config_disk *disk)
{
  switch (disk->kind) {
  case CONFIG_DISK_RAW: return "file";
  case CONFIG_DISK_NBD: return "nbd";
  case CONFIG_DISK_PLUGIN: return "plugin";
  case CONFIG_DISK_QCOW2: return "qcow2";
  }
  return "?";
}

char *
export_disk_text (const struct config_disk *disk)
{
  char *text, *longer;
  size_t i;

  if (disk->kind == CONFIG_DISK_RAW || disk->kind == CONFIG_DISK_NBD)
    return xstrdup (disk->where);
  text = disk->kind == CONFIG_DISK_QCOW2
    ? xasprintf ("qcow2:%s", disk->where) : xasprintf ("%s", disk->where);
  for (i = 0; i < disk->nr_options; i++) {
    longer = xasprintf ("%s %s=%s", text, disk->options[i].key,
                        disk->options[i].value);
    free (text);
    text = longer;
  }
  return text;
}

char *
export_live (const struct export *ex)
{
  char *name, *uri;

  if (ex->conf->disk.kind == CONFIG_DISK_RAW)
    return xasprintf ("file:%s", ex->conf->disk.where);
  name = xasprintf ("%s@live", ex->name);
  uri = unix_uri (name, ex->socket);
  free (name);
  return uri;
}

char *
export_layers (const struct export *ex)
{
  switch (ex->conf->disk.kind) {
  case CONFIG_DISK_NBD:
    return xstrdup (ex->conf->disk.where);
  case CONFIG_DISK_QCOW2:
    return unix_uri ("", ex->qemu_socket);
  case CONFIG_DISK_RAW:
  case CONFIG_DISK_PLUGIN:
    break;
  }
  return NULL;
}

static void
plugin_argv (const struct export *ex, struct strings *argv)
{
  const struct config_disk *disk = &ex->conf->disk;
  char *uri;
  size_t i;

  switch (disk->kind) {
  case CONFIG_DISK_RAW:
    strings_add (argv, "file");
    strings_add (argv, "file=%s", disk->where);
    break;
  case CONFIG_DISK_PLUGIN:
    strings_add (argv, "%s", disk->where);
    for (i = 0; i < disk->nr_options; i++)
      strings_add (argv, "%s=%s", disk->options[i].key,
                   disk->options[i].value);
    break;
  case CONFIG_DISK_NBD:
  case CONFIG_DISK_QCOW2:
    /* One connection to the server for each of the guest's, made again
     * when it breaks. */
    strings_add (argv, "--filter=%s", ex->daemon->programs.reconnect);
    strings_add (argv, "nbd");
    if (disk->kind == CONFIG_DISK_NBD)
      strings_add (argv, "uri=%s", disk->where);
    else {
      uri = unix_uri ("", ex->qemu_socket);
      strings_add (argv, "uri=%s", uri);
      free (uri);
    }
    strings_add (argv, "fleece-reconnect=%d", RECONNECT);
    break;
  }
}

int
export_nbdkit_argv (const struct export *ex, struct strings *argv)
{
  const struct config_export *conf = ex->conf;
  char *live = export_live (ex);

  strings_add (argv, "%s", ex->daemon->programs.nbdkit);
  strings_add (argv, "-f");
  if (ex->daemon->verbose > 1)
    strings_add (argv, "-v");
  strings_add (argv, "--filter=%s", ex->daemon->programs.filter);
  plugin_argv (ex, argv);
  strings_add (argv, "fleece-export=%s", ex->name);
  strings_add (argv, "fleece-state=%s", ex->dir);
  strings_add (argv, "fleece-control=fd:%d", CONTROL_FD);
  strings_add (argv, "fleece-id=%s", ex->nbdkit.config_id);
  if (ex->daemon->user.name)
    strings_add (argv, "fleece-readers=%u", (unsigned) ex->daemon->user.uid);
  strings_add (argv, "fleece-live=%s", live);
  if (conf->cluster_size == 0)
    strings_add (argv, "fleece-cluster-size=auto");
  else
    strings_add (argv, "fleece-cluster-size=%" PRIu64, conf->cluster_size);
  strings_add (argv, "fleece-on-cow-error=%s",
               config_cow_error_name (conf->on_cow_error));
  if (conf->cow_timeout_ms > 0)
    strings_add (argv, "fleece-cow-timeout=%" PRIu64 "ms",
                 conf->cow_timeout_ms);
  if (conf->scratch_limit > 0)
    strings_add (argv, "fleece-scratch-limit=%" PRIu64, conf->scratch_limit);
  strings_add (argv, "fleece-trim=%s", config_trim_name (conf->trim));
  strings_add (argv, "fleece-tracking=%s",
               config_tracking_name (conf->tracking));
  free (live);
  return 0;
}

/* Of an nbdkit plugin that is not one of these it is not known which files it
 * needs. */
static bool
writes_nothing_else (const struct config_disk *disk)
{
  static const char *const plugins[] = { "memory", "null" };
  size_t i;

  if (disk->kind != CONFIG_DISK_PLUGIN || disk_path (disk))
    return true;
  for (i = 0; i < sizeof plugins / sizeof plugins[0]; i++)
    if (strcmp (disk->where, plugins[i]) == 0)
      return true;
  return false;
}

void
export_confine (const struct export *ex, struct spawn *spawn)
{
  const struct config_disk *disk = &ex->conf->disk;
  const char *path = disk->kind == CONFIG_DISK_QCOW2 ? NULL
    : disk_path (disk);
  const struct snapshot *s;

  if (!writes_nothing_else (disk))
    return;
  spawn->is_confined = true;
  strings_add (&spawn->confined.directories, "%s", ex->dir);
  if (path)
    strings_add (&spawn->confined.files, "%s", path);
  /* Those that come later are handed to it open. */
  TAILQ_FOREACH (s, &ex->snapshots, entry)
    strings_add (&spawn->confined.files, "%s", s->scratch_path);
}

int
export_qemu_argv (const struct export *ex, struct strings *argv)
{
  strings_add (argv, "%s", ex->daemon->programs.qemu_nbd);
  strings_add (argv, "--persistent");
  strings_add (argv, "--shared=0");
  strings_add (argv, "--allocation-depth");
  strings_add (argv, "--format=qcow2");
  strings_add (argv, "--discard=unmap");
  strings_add (argv, "%s", ex->conf->disk.where);
  return 0;
}
