/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The configuration of the backup endpoint, as options of nbdfleece-front. */

#include <config.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backup_options.h"

char *
backup_file (const struct config *config, const char *suffix)
{
  return xasprintf ("%s/backup%s", config->run_dir, suffix);
}

/* A word as the front takes it: in one piece, without blanks.  The caller
 * frees it. */
static char *
encoded (const char *text)
{
  char *word = xcalloc (3 * strlen (text) + 1, 1), *to = word;

  for (; *text; text++)
    if (*text == ' ' || *text == '%')
      to += sprintf (to, "%%%02x", (unsigned char) *text);
    else
      *to++ = *text;
  return word;
}

/* Appends " KEYTEXT" to the line, unless text is NULL. */
static void
append (char **line, const char *key, const char *text)
{
  char *word, *longer;

  if (!text)
    return;
  word = encoded (text);
  longer = xasprintf ("%s%s%s%s", *line, **line ? " " : "", key, word);
  free (word);
  free (*line);
  *line = longer;
}

/* Adds a name and a value to the list. */
static void
add_line (struct strings *s, const char *name, char *line)
{
  strings_add (s, "%s", name);
  strings_add (s, "%s", line);
  free (line);
}

static void
add_number (struct strings *s, const char *name, uint64_t n)
{
  add_line (s, name, xasprintf ("%" PRIu64, n));
}

static void
add_listen (struct strings *s, const struct config *config)
{
  char *line = xstrdup (""), *socket = backup_file (config, BACKUP_SOCKET);
  size_t i;

  append (&line, "unix:", socket);
  add_line (s, "listen", line);
  free (socket);
  for (i = 0; i < config->nr_listen; i++) {
    const struct config_listen *l = &config->listen[i];

    line = xstrdup ("");
    append (&line, "tcp:", l->tcp);
    append (&line, "tls=", config_tls_name (l->tls));
    append (&line, "certificates=", l->tls_certificates);
    append (&line, "psk=", l->tls_psk);
    add_line (s, "listen", line);
  }
}

static void
add_allow (struct strings *s, const char *export_name,
           const struct config_allow *allow, size_t nr)
{
  char *line;
  size_t i;

  for (i = 0; i < nr; i++) {
    line = xstrdup (export_name);
    append (&line, "address=", allow[i].address);
    append (&line, "certificate=", allow[i].certificate);
    append (&line, "psk=", allow[i].psk);
    add_line (s, "allow", line);
  }
}

static uint64_t
seconds (uint64_t ms)
{
  return (ms + 999) / 1000;
}

/* Names and values in turn. */
static void
add_all (struct strings *s, const struct config *config)
{
  size_t i;

  add_listen (s, config);
  add_allow (s, "*", config->allow, config->nr_allow);
  for (i = 0; i < config->nr_exports; i++)
    add_allow (s, config->exports[i].name, config->exports[i].allow,
               config->exports[i].nr_allow);
  add_number (s, "max-connections", config->max_connections);
  add_number (s, "max-connections-per-client",
              config->max_connections_per_client);
  add_number (s, "max-request", config->max_request);
  add_number (s, "handshake-timeout", seconds (config->handshake_timeout_ms));
  add_number (s, "idle-timeout", seconds (config->idle_timeout_ms));
}

void
backup_options_fixed (const struct config *config, struct strings *argv)
{
  char *data = backup_file (config, BACKUP_DATA_SOCKET);
  char *status = backup_file (config, BACKUP_STATUS);

  strings_add (argv, "--state=%s", config->state_dir);
  strings_add (argv, "--backend=%s", data);
  strings_add (argv, "--status=%s", status);
  free (data);
  free (status);
}

void
backup_options_argv (const struct config *config, struct strings *argv)
{
  struct strings s = { 0 };
  size_t i;

  add_all (&s, config);
  for (i = 0; i < s.nr; i += 2)
    strings_add (argv, "--%s=%s", s.v[i], s.v[i + 1]);
  strings_free (&s);
}

char *
backup_options_text (const struct config *config, const char *id)
{
  struct strings s = { 0 };
  char *text = xasprintf ("# Options of nbdfleece-front, from %s.\nid %s\n",
                          config->file, id), *more;
  size_t i;

  add_all (&s, config);
  for (i = 0; i < s.nr; i += 2) {
    more = xasprintf ("%s%s %s\n", text, s.v[i], s.v[i + 1]);
    free (text);
    text = more;
  }
  strings_free (&s);
  return text;
}
