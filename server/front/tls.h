/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* TLS, by GnuTLS: credentials, and sessions as channels. */

#ifndef NBDFLEECE_TLS_H
#define NBDFLEECE_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "allow.h"
#include "channel.h"

/* Certificates, keys and PSK identities of one place to listen at, shared by
 * the sessions that use them. */
struct tls_context;

/* Reads them: ca-cert.pem, ca-crl.pem (both may be missing), server-cert.pem
 * and server-key.pem of certificates (a directory); the file psk, lines
 * NAME:HEX-KEY; either may be NULL.  The caller holds the one reference.  NULL
 * with a message. */
extern struct tls_context *tls_context_new (const char *certificates,
                                            const char *psk,
                                            char *why, size_t size);
extern struct tls_context *tls_context_ref (struct tls_context *tls);
/* Harmless on NULL. */
extern void tls_context_unref (struct tls_context *tls);

/* Turns a plain channel into one that is to speak TLS from now on, as the
 * server.  0, or -1 and errno. */
extern int tls_start (struct channel *ch, struct tls_context *tls);
extern bool tls_is_on (const struct channel *ch);

/* Goes on with the handshake.  1 when it is done and the peer has been told
 * apart (peer->names, peer->psk); 0 to wait; -1: tls_error says why. */
extern int tls_handshake (struct channel *ch, struct peer *peer);
extern bool tls_wants_write (const struct channel *ch);
extern const char *tls_error (const struct channel *ch);

#endif /* NBDFLEECE_TLS_H */
