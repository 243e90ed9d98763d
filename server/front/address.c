/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A place to listen at, as people write it. */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "address.h"

static const char *const tls_words[] = { "off", "allow", "require" };

struct message {
  char *text;
  size_t size;
};

static int __attribute__ ((format (printf, 2, 3)))
bad (const struct message *m, const char *fmt, ...)
{
  va_list ap;

  va_start (ap, fmt);
  vsnprintf (m->text, m->size, fmt, ap);
  va_end (ap);
  return -1;
}

const char *
tls_mode_name (enum tls_mode mode)
{
  return tls_words[mode];
}

static int
hex_digit (char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
percent_decode (char *text)
{
  char *to = text;
  int high, low;

  for (; *text; text++) {
    if (*text != '%') {
      *to++ = *text;
      continue;
    }
    high = hex_digit (text[1]);
    low = high == -1 ? -1 : hex_digit (text[2]);
    if (low == -1 || high + low == 0)
      return false;
    *to++ = high << 4 | low;
    text += 2;
  }
  *to = '\0';
  return true;
}

bool
socket_path_ok (const char *path)
{
  return *path && strlen (path) < sizeof ((struct sockaddr_un *) 0)->sun_path;
}

static int
set_tls (const struct message *m, const char *word, struct address *a)
{
  size_t i;

  for (i = 0; i < sizeof tls_words / sizeof tls_words[0]; i++)
    if (strcmp (word, tls_words[i]) == 0) {
      a->tls = i;
      return 0;
    }
  return bad (m, "tls=%s: expected off, allow or require", word);
}

static int
set_attribute (const struct message *m, const char *word, struct address *a)
{
  char **to;

  if (strncmp (word, "tls=", 4) == 0)
    return set_tls (m, word + 4, a);
  if (strncmp (word, "certificates=/", 14) == 0)
    to = &a->certificates;
  else if (strncmp (word, "psk=/", 5) == 0)
    to = &a->psk;
  else
    return bad (m, "'%s': expected tls=off|allow|require, certificates=/DIR "
                "or psk=/FILE", word);
  if (*to)
    return bad (m, "'%s' comes after another one", word);
  *to = strdup (strchr (word, '=') + 1);
  return *to ? 0 : bad (m, "no memory");
}

/* HOST:PORT or [V6]:PORT. */
static int
split_host (const struct message *m, const char *text, struct address *a)
{
  const char *colon = strrchr (text, ':'), *port = colon ? colon + 1 : "";
  size_t len = colon ? (size_t) (colon - text) : 0;
  size_t digits = strspn (port, "0123456789");

  if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
    text++;
    len -= 2;
  }
  else if (memchr (text, ':', len))
    len = 0;
  if (len == 0 || digits == 0 || digits > 5 || port[digits]
      || atoi (port) > 65535)
    return bad (m, "expected tcp:HOST:PORT or tcp:[V6-ADDRESS]:PORT");
  a->host = strndup (text, len);
  a->port = strdup (port);
  return a->host && a->port ? 0 : bad (m, "no memory");
}

static int
split_address (const struct message *m, const char *text, struct address *a)
{
  a->text = strdup (text);
  if (!a->text)
    return bad (m, "no memory");
  if (strncmp (text, "tcp:", 4) == 0)
    return split_host (m, text + 4, a);
  if (strncmp (text, "unix:", 5) != 0 || !socket_path_ok (text + 5))
    return bad (m, "'%s': expected unix:PATH (short enough for a socket) or "
                "tcp:HOST:PORT", text);
  a->path = strdup (text + 5);
  return a->path ? 0 : bad (m, "no memory");
}

static int
parse_words (const struct message *m, char *text, struct address *a)
{
  char *save, *word = strtok_r (text, " \t", &save);

  if (!word)
    return bad (m, "expected unix:PATH or tcp:HOST:PORT");
  for (; word; word = strtok_r (NULL, " \t", &save)) {
    if (!percent_decode (word))
      return bad (m, "'%s': expected two hex digits after each %%", word);
    if (a->text ? set_attribute (m, word, a) == -1
        : split_address (m, word, a) == -1)
      return -1;
  }
  if ((a->tls == TLS_OFF) != (!a->certificates && !a->psk))
    return bad (m, "'%s': tls=allow and tls=require need certificates= or "
                "psk=, which are for nothing else", a->text);
  return 0;
}

int
address_parse (const char *text, struct address *a, char *why, size_t size)
{
  const struct message m = { why, size };
  char *copy = strdup (text);
  int r;

  if (!copy)
    return bad (&m, "no memory");
  r = parse_words (&m, copy, a);
  free (copy);
  return r;
}

void
address_clear (struct address *a)
{
  free (a->text);
  free (a->path);
  free (a->host);
  free (a->port);
  free (a->certificates);
  free (a->psk);
  memset (a, 0, sizeof *a);
}
