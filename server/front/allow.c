/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Who may see which export. */

/* A rule says yes, nothing says no, and there is no order among rules.  What
 * no rule covers does not exist for the client: whoever asks for it gets the
 * answer that a misspelt name gets.
 *
 * Addresses are compared as v6 addresses, v4 as ::ffff:a.b.c.d, so that it
 * does not matter which kind of socket a client came through.  Names of
 * certificates are compared as a whole and without regard to case, as host
 * names are; no wildcards on either side.
 */

#include <config.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "address.h"
#include "allow.h"

#define V4_PREFIX 96            /* bits of ::ffff:0:0 */

static void
map_v4 (uint8_t ip[16], const void *v4)
{
  memset (ip, 0, 10);
  ip[10] = ip[11] = 0xff;
  memcpy (ip + 12, v4, 4);
}

static int
parse_address (const char *text, struct rule *rule, const char **why)
{
  char address[INET6_ADDRSTRLEN], *end;
  const char *slash = strchr (text, '/');
  size_t len = slash ? (size_t) (slash - text) : strlen (text);
  unsigned long bits;
  uint8_t v4[4];
  bool is_v4;

  *why = "address: expected an address, or one with /BITS";
  if (len >= sizeof address || rule->has_address)
    return -1;
  memcpy (address, text, len);
  address[len] = '\0';
  is_v4 = inet_pton (AF_INET, address, v4) == 1;
  if (is_v4)
    map_v4 (rule->ip, v4);
  else if (inet_pton (AF_INET6, address, rule->ip) != 1)
    return -1;
  rule->prefix = 128;
  rule->has_address = true;
  if (!slash)
    return 0;
  if (slash[1] < '0' || slash[1] > '9')
    return -1;
  bits = strtoul (slash + 1, &end, 10);
  if (*end || bits > (is_v4 ? 32 : 128))
    return -1;
  rule->prefix = bits + (is_v4 ? V4_PREFIX : 0);
  return 0;
}

static int
parse_name (const char *text, char **to, const char **why)
{
  *why = "expected a name after the =, once in a rule";
  if (!*text || *to)
    return -1;
  *to = strdup (text);
  *why = "no memory";
  return *to ? 0 : -1;
}

static int
parse_condition (char *word, struct rule *rule, const char **why)
{
  *why = "expected two hex digits after each %";
  if (!percent_decode (word))
    return -1;
  if (strncmp (word, "address=", 8) == 0)
    return parse_address (word + 8, rule, why);
  if (strncmp (word, "certificate=", 12) == 0)
    return parse_name (word + 12, &rule->certificate, why);
  if (strncmp (word, "psk=", 4) == 0)
    return parse_name (word + 4, &rule->psk, why);
  *why = "expected address=CIDR, certificate=NAME or psk=NAME";
  return -1;
}

static int
parse_words (char *text, struct rule *rule, const char **why)
{
  char *save, *word = strtok_r (text, " \t", &save);

  *why = "expected an export's name or *";
  if (!word || (strcmp (word, "*") != 0 && !name_ok (word)))
    return -1;
  snprintf (rule->export_name, sizeof rule->export_name, "%s", word);
  *why = "expected a condition: address=CIDR, certificate=NAME or psk=NAME";
  word = strtok_r (NULL, " \t", &save);
  if (!word)
    return -1;
  for (; word; word = strtok_r (NULL, " \t", &save))
    if (parse_condition (word, rule, why) == -1)
      return -1;
  return 0;
}

int
rule_parse (const char *text, struct rule *rule, const char **why)
{
  char *copy = strdup (text);
  int r;

  memset (rule, 0, sizeof *rule);
  *why = "no memory";
  if (!copy)
    return -1;
  r = parse_words (copy, rule, why);
  free (copy);
  if (r == -1)
    rule_clear (rule);
  return r;
}

void
rule_clear (struct rule *rule)
{
  free (rule->certificate);
  free (rule->psk);
  memset (rule, 0, sizeof *rule);
}

/* True if the first bits of both are the same. */
static bool
same_prefix (const uint8_t *a, const uint8_t *b, unsigned bits)
{
  unsigned bytes = bits / 8, rest = bits % 8;

  return memcmp (a, b, bytes) == 0
    && (rest == 0 || ((a[bytes] ^ b[bytes]) >> (8 - rest)) == 0);
}

static bool
has_name (const struct peer *peer, const char *name)
{
  unsigned i;

  for (i = 0; i < peer->nr_names; i++)
    if (strcasecmp (peer->names[i], name) == 0)
      return true;
  return false;
}

static bool
rule_allows (const struct rule *r, const struct peer *peer,
             const char *export_name)
{
  if (strcmp (r->export_name, "*") != 0
      && strcmp (r->export_name, export_name) != 0)
    return false;
  if (r->has_address && !same_prefix (r->ip, peer->ip, r->prefix))
    return false;
  if (r->certificate && !has_name (peer, r->certificate))
    return false;
  return !r->psk || (peer->psk && strcmp (r->psk, peer->psk) == 0);
}

bool
rules_allow (const struct rule *rules, size_t nr, const struct peer *peer,
             const char *export_name)
{
  size_t i;

  if (peer->local)
    return true;
  for (i = 0; i < nr; i++)
    if (rule_allows (&rules[i], peer, export_name))
      return true;
  return false;
}

static int
local_peer (struct peer *peer, int fd)
{
  struct ucred cred;
  socklen_t len = sizeof cred;

  if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
    return -1;
  peer->local = true;
  peer->uid = cred.uid;
  peer->pid = cred.pid;
  strcpy (peer->address, "unix");
  return 0;
}

static void
inet_peer (struct peer *peer, const struct sockaddr_storage *ss)
{
  const struct sockaddr_in *in4 = (const void *) ss;
  const struct sockaddr_in6 *in6 = (const void *) ss;

  if (ss->ss_family == AF_INET) {
    map_v4 (peer->ip, &in4->sin_addr);
    peer->port = ntohs (in4->sin_port);
  }
  else {
    memcpy (peer->ip, &in6->sin6_addr, sizeof peer->ip);
    peer->port = ntohs (in6->sin6_port);
  }
  if (IN6_IS_ADDR_V4MAPPED ((const struct in6_addr *) peer->ip))
    inet_ntop (AF_INET, peer->ip + 12, peer->address, sizeof peer->address);
  else
    inet_ntop (AF_INET6, peer->ip, peer->address, sizeof peer->address);
}

int
peer_of_socket (struct peer *peer, int fd)
{
  struct sockaddr_storage ss;
  socklen_t len = sizeof ss;

  memset (peer, 0, sizeof *peer);
  if (getpeername (fd, (struct sockaddr *) &ss, &len) == -1)
    return -1;
  if (ss.ss_family == AF_UNIX)
    return local_peer (peer, fd);
  if (ss.ss_family == AF_INET || ss.ss_family == AF_INET6) {
    inet_peer (peer, &ss);
    return 0;
  }
  errno = EAFNOSUPPORT;
  return -1;
}

void
peer_clear (struct peer *peer)
{
  while (peer->nr_names > 0)
    free (peer->names[--peer->nr_names]);
  free (peer->psk);
  peer->psk = NULL;
}

bool
peer_same_client (const struct peer *a, const struct peer *b)
{
  bool v4 = IN6_IS_ADDR_V4MAPPED ((const struct in6_addr *) a->ip);

  if (a->local != b->local)
    return false;
  if (a->local)
    return a->uid == b->uid && a->pid == b->pid;
  return same_prefix (a->ip, b->ip, v4 ? 128 : 64);
}

void
peer_identity (const struct peer *peer, char *text, size_t size)
{
  if (peer->nr_names > 0)
    snprintf (text, size, "certificate:%s", peer->names[0]);
  else if (peer->psk)
    snprintf (text, size, "psk:%s", peer->psk);
  else
    snprintf (text, size, "%s", "");
}
