/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Addresses: to listen on, HOST:PORT or [V6]:PORT; and of clients. */

#include <config.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "schema.h"

static void
tcp_expected (const struct option *opt, char *buf, size_t size)
{
  (void) opt;
  snprintf (buf, size, "HOST:PORT or [V6-ADDRESS]:PORT, the port from 1 to "
            "65535");
}

static bool
port_ok (const char *port)
{
  const size_t len = strspn (port, "0123456789");

  return len >= 1 && len <= 5 && port[len] == '\0' && port[0] != '0'
    && atoi (port) <= 65535;
}

/* A name or v4 address as far as one can tell without asking DNS. */
static bool
host_ok (const char *host)
{
  return host[0] != '\0' && host[0] != '-' && strlen (host) <= 253
    && host[strspn (host, "abcdefghijklmnopqrstuvwxyz"
                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")] == '\0';
}

/* A v6 address, maybe with a zone: fe80::1%eth0. */
static bool
v6_ok (const char *host)
{
  const size_t len = strcspn (host, "%");
  char address[INET6_ADDRSTRLEN];
  struct in6_addr addr;

  if (len >= sizeof address || strcmp (host + len, "%") == 0)
    return false;
  memcpy (address, host, len);
  address[len] = '\0';
  return inet_pton (AF_INET6, address, &addr) == 1;
}

/* Takes apart text, which it overwrites.  False if it is no address. */
static bool
split_tcp (char *text, char **host, char **port)
{
  char *const colon = strrchr (text, ':');

  if (!colon)
    return false;
  *colon = '\0';
  *port = colon + 1;
  *host = text;
  if (!port_ok (*port))
    return false;
  if (text[0] != '[')
    return host_ok (text);
  if (colon == text + 1 || colon[-1] != ']')
    return false;
  colon[-1] = '\0';
  *host = text + 1;
  return v6_ok (*host);
}

static void
tcp_clear (const struct option *opt, void *field)
{
  struct config_listen *listen = field;

  (void) opt;
  free (listen->tcp);
  free (listen->host);
  free (listen->port);
  listen->tcp = listen->host = listen->port = NULL;
}

/* The field is the whole struct config_listen: one key fills three. */
static int
tcp_set (struct parse *p, const struct option *opt,
         const struct node *value, void *field)
{
  struct config_listen *listen = field;
  const char *text = parse_text (p, opt, value);
  char *host, *port, *parts, quoted[QUOTE_SIZE];
  bool ok;

  if (!text)
    return -1;
  parts = strdup (text);
  if (!parts)
    return parse_no_memory (p);
  ok = split_tcp (parts, &host, &port);
  if (ok) {
    listen->tcp = strdup (text);
    listen->host = strdup (host);
    listen->port = strdup (port);
  }
  free (parts);
  if (!ok)
    return parse_error_value (p, opt, value, quote (text, quoted));
  if (!listen->tcp || !listen->host || !listen->port)
    return parse_no_memory (p);
  return 0;
}

static void
tcp_show (const struct option *opt, const void *field,
          unsigned indent, FILE *out)
{
  const struct config_listen *listen = field;

  (void) opt;
  (void) indent;
  fputc (' ', out);
  show_quoted (listen->tcp, out);
  fputc ('\n', out);
}

const struct option_type type_tcp = {
  .name = "HOST:PORT",
  .expected = tcp_expected,
  .set = tcp_set,
  .show = tcp_show,
  .clear = tcp_clear,
};

/* An address of clients, or many: ADDRESS or ADDRESS/BITS. */

static void
cidr_expected (const struct option *opt, char *buf, size_t size)
{
  (void) opt;
  snprintf (buf, size, "an IPv4 or IPv6 address, or one with /BITS");
}

static bool
cidr_ok (const char *text)
{
  const char *slash = strchr (text, '/'), *bits = slash ? slash + 1 : "0";
  const size_t len = slash ? (size_t) (slash - text) : strlen (text);
  char address[INET6_ADDRSTRLEN];
  struct in6_addr addr;
  int max;

  if (len >= sizeof address)
    return false;
  memcpy (address, text, len);
  address[len] = '\0';
  max = inet_pton (AF_INET, address, &addr) == 1 ? 32
    : inet_pton (AF_INET6, address, &addr) == 1 ? 128 : -1;
  return bits[0] && strlen (bits) <= 3
    && bits[strspn (bits, "0123456789")] == '\0' && atoi (bits) <= max;
}

static bool
cidr_unset (const void *field)
{
  return *(char *const *) field == NULL;
}

static void
cidr_clear (const struct option *opt, void *field)
{
  (void) opt;
  free (*(char **) field);
  *(char **) field = NULL;
}

static int
cidr_set (struct parse *p, const struct option *opt,
          const struct node *value, void *field)
{
  const char *text = parse_text (p, opt, value);
  char quoted[QUOTE_SIZE];

  if (!text)
    return -1;
  if (!cidr_ok (text))
    return parse_error_value (p, opt, value, quote (text, quoted));
  *(char **) field = strdup (text);
  return *(char **) field ? 0 : parse_no_memory (p);
}

static void
cidr_show (const struct option *opt, const void *field,
           unsigned indent, FILE *out)
{
  (void) opt;
  (void) indent;
  fputc (' ', out);
  show_quoted (*(char *const *) field, out);
  fputc ('\n', out);
}

const struct option_type type_cidr = {
  .name = "ADDRESS",
  .expected = cidr_expected,
  .set = cidr_set,
  .show = cidr_show,
  .unset = cidr_unset,
  .clear = cidr_clear,
};
