/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Where backup software finds snapshots. */

#include <config.h>

#include <stdlib.h>

#include "backup.h"

char *
backup_unix_uri (const struct daemon *d, const char *export_name,
                 const char *snapshot)
{
  char *socket = xasprintf ("%s/backup.sock", d->config->run_dir);
  char *name = snapshot ? xasprintf ("%s@%s", export_name, snapshot)
    : xstrdup ("");
  char *uri = unix_uri (name, socket);

  free (socket);
  free (name);
  return uri;
}

/* The URI of EXPORT@SNAPSHOT, or with NULL of the endpoint, at a tcp
 * address. */
static char *
tcp_uri (const struct config_listen *l, const char *export_name,
         const char *snapshot)
{
  const char *scheme = l->tls == CONFIG_TLS_REQUIRE ? "nbds" : "nbd";

  if (!snapshot)
    return xasprintf ("%s://%s/", scheme, l->tcp);
  return xasprintf ("%s://%s/%s@%s", scheme, l->tcp, export_name, snapshot);
}

struct json_object *
backup_uris (const struct daemon *d, const char *export_name,
             const char *snapshot)
{
  struct json_object *array = json_object_new_array ();
  const struct config *config = d->config;
  char *uri = backup_unix_uri (d, export_name, snapshot);
  size_t i;

  json_object_array_add (array, json_object_new_string (uri));
  free (uri);
  for (i = 0; i < config->nr_listen; i++) {
    uri = tcp_uri (&config->listen[i], export_name, snapshot);
    json_object_array_add (array, json_object_new_string (uri));
    free (uri);
  }
  return array;
}
