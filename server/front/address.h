/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A place to listen at, as people write it. */

#ifndef NBDFLEECE_ADDRESS_H
#define NBDFLEECE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

enum tls_mode { TLS_OFF, TLS_ALLOW, TLS_REQUIRE };

struct address {
  char *text;                   /* as given, without its attributes */
  char *path;                   /* unix; else NULL */
  char *host, *port;            /* tcp; else NULL */
  enum tls_mode tls;
  char *certificates;           /* directory, or NULL */
  char *psk;                    /* file, or NULL */
};

/* Reads unix:PATH or tcp:HOST:PORT and, after blanks, tls=, certificates= and
 * psk=.  a is zeroed.  0, or -1 with a message; address_clear in both cases. */
extern int address_parse (const char *text, struct address *a,
                          char *why, size_t size);
extern void address_clear (struct address *a);

/* Undoes %XX in place.  False if what follows a % are no two hex digits, or
 * they are 00. */
extern bool percent_decode (char *text);

/* True if path is neither empty nor too long for a socket. */
extern bool socket_path_ok (const char *path);

extern const char *tls_mode_name (enum tls_mode mode);

#endif /* NBDFLEECE_ADDRESS_H */
