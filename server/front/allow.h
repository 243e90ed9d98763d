/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Who may see which export. */

#ifndef NBDFLEECE_ALLOW_H
#define NBDFLEECE_ALLOW_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "names.h"

#define IDENTITY_NAMES_MAX 16   /* of one certificate */

/* Who is at the other end.  Set once, the identity after TLS. */
struct peer {
  bool local;                   /* came through a unix socket */
  uid_t uid;                    /* local */
  pid_t pid;                    /* local; 0 if unknown */
  uint8_t ip[16];               /* else; v4 as ::ffff:a.b.c.d */
  unsigned port;
  char address[INET6_ADDRSTRLEN + 16]; /* for people; no port */
  /* A verified certificate's common name and subject alternative names. */
  char *names[IDENTITY_NAMES_MAX];
  unsigned nr_names;
  char *psk;                    /* or NULL */
};

/* An export, and conditions that must all hold. */
struct rule {
  char export_name[NAME_LENGTH_MAX + 1]; /* "*": any */
  bool has_address;
  uint8_t ip[16];
  unsigned prefix;              /* bits of ip, 0 to 128 */
  char *certificate;            /* or NULL */
  char *psk;                    /* or NULL */
};

/* Reads EXPORT CONDITION..., the conditions being address=CIDR,
 * certificate=NAME and psk=NAME, at least one.  0, or -1 with *why set to a
 * static phrase. */
extern int rule_parse (const char *text, struct rule *rule, const char **why);
extern void rule_clear (struct rule *rule);

/* True if a rule lets peer see that export; a local peer needs none. */
extern bool rules_allow (const struct rule *rules, size_t nr,
                         const struct peer *peer, const char *export_name);

/* Fills in who is at the other end of a connected socket.  0, or -1 and
 * errno. */
extern int peer_of_socket (struct peer *peer, int fd);
extern void peer_clear (struct peer *peer);

/* True if both are the same client for limits: the same address (v6: the same
 * /64) or the same process. */
extern bool peer_same_client (const struct peer *a, const struct peer *b);

/* "certificate:NAME", "psk:NAME" or "" into text. */
extern void peer_identity (const struct peer *peer, char *text, size_t size);

#endif /* NBDFLEECE_ALLOW_H */
