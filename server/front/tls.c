/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* TLS, by GnuTLS: credentials, and sessions as channels. */

/* Who the client is: a certificate is asked for if we have a CA to check it
 * by, and a client without one is let through, as nobody in particular; the
 * allow rules then decide.  A certificate that is not good ends the
 * connection.  A PSK client is who it says, or the handshake fails.
 *
 * Versions 1.2 and 1.3 ("TLS versions").  No session is resumed, so every
 * connection proves who it is.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "tls.h"

#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_PSK PRIORITY ":+ECDHE-PSK:+DHE-PSK:+PSK"

#define NAME_SIZE 256

struct tls_context {
  unsigned references;
  gnutls_certificate_credentials_t x509; /* or NULL */
  gnutls_psk_server_credentials_t psk;   /* or NULL */
  bool ask;                     /* for a client's certificate */
};

struct session {
  gnutls_session_t session;
  struct tls_context *tls;
  size_t unsent;                /* of the last send, which was EAGAIN */
  int error;                    /* GnuTLS's, or 0 */
  const char *why;              /* ours, or NULL */
  bool up;
};

/* DIR/NAME if it can be read, which the caller frees; else NULL and errno. */
static char *
find_file (const char *dir, const char *name)
{
  char *path;

  if (asprintf (&path, "%s/%s", dir, name) == -1)
    return NULL;
  if (access (path, R_OK) == 0)
    return path;
  free (path);
  return NULL;
}

static int
add_ca (struct tls_context *tls, const char *dir, char *why, size_t size)
{
  char *ca = find_file (dir, "ca-cert.pem");
  char *crl = find_file (dir, "ca-crl.pem");
  int r = 0;

  if (ca) {
    r = gnutls_certificate_set_x509_trust_file (tls->x509, ca,
                                                GNUTLS_X509_FMT_PEM);
    tls->ask = r > 0;
    if (r < 0)
      snprintf (why, size, "%s: %s", ca, gnutls_strerror (r));
  }
  if (r >= 0 && crl) {
    r = gnutls_certificate_set_x509_crl_file (tls->x509, crl,
                                              GNUTLS_X509_FMT_PEM);
    if (r < 0)
      snprintf (why, size, "%s: %s", crl, gnutls_strerror (r));
  }
  free (ca);
  free (crl);
  return r < 0 ? -1 : 0;
}

static int
add_certificate (struct tls_context *tls, const char *dir,
                 char *why, size_t size)
{
  char *cert = find_file (dir, "server-cert.pem");
  char *key = cert ? find_file (dir, "server-key.pem") : NULL;
  int r = -1;

  if (!cert || !key)
    snprintf (why, size, "%s/%s: %s", dir,
              cert ? "server-key.pem" : "server-cert.pem", strerror (errno));
  else {
    r = gnutls_certificate_set_x509_key_file (tls->x509, cert, key,
                                              GNUTLS_X509_FMT_PEM);
    if (r < 0)
      snprintf (why, size, "%s: %s", cert, gnutls_strerror (r));
  }
  free (cert);
  free (key);
  return r < 0 ? -1 : 0;
}

static int
load_x509 (struct tls_context *tls, const char *dir, char *why, size_t size)
{
  int r = gnutls_certificate_allocate_credentials (&tls->x509);

  if (r < 0) {
    snprintf (why, size, "%s", gnutls_strerror (r));
    return -1;
  }
  gnutls_certificate_set_known_dh_params (tls->x509, GNUTLS_SEC_PARAM_MEDIUM);
  if (add_ca (tls, dir, why, size) == -1)
    return -1;
  return add_certificate (tls, dir, why, size);
}

static int
load_psk (struct tls_context *tls, const char *file, char *why, size_t size)
{
  int r = gnutls_psk_allocate_server_credentials (&tls->psk);

  if (r >= 0)
    r = gnutls_psk_set_server_credentials_file (tls->psk, file);
  if (r >= 0)
    r = gnutls_psk_set_server_known_dh_params (tls->psk,
                                               GNUTLS_SEC_PARAM_MEDIUM);
  if (r >= 0 && access (file, R_OK) == 0)
    return 0;
  snprintf (why, size, "%s: %s", file,
            r < 0 ? gnutls_strerror (r) : strerror (errno));
  return -1;
}

struct tls_context *
tls_context_new (const char *certificates, const char *psk,
                 char *why, size_t size)
{
  struct tls_context *tls = calloc (1, sizeof *tls);

  if (!tls) {
    snprintf (why, size, "no memory");
    return NULL;
  }
  tls->references = 1;
  if ((!certificates || load_x509 (tls, certificates, why, size) == 0)
      && (!psk || load_psk (tls, psk, why, size) == 0))
    return tls;
  tls_context_unref (tls);
  return NULL;
}

struct tls_context *
tls_context_ref (struct tls_context *tls)
{
  tls->references++;
  return tls;
}

void
tls_context_unref (struct tls_context *tls)
{
  if (!tls || --tls->references > 0)
    return;
  if (tls->x509)
    gnutls_certificate_free_credentials (tls->x509);
  if (tls->psk)
    gnutls_psk_free_server_credentials (tls->psk);
  free (tls);
}

static ssize_t
result_of (struct session *s, ssize_t r)
{
  if (r >= 0)
    return r;
  if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED
      || !gnutls_error_is_fatal (r)) {
    errno = EAGAIN;
    return -1;
  }
  s->error = r;
  errno = r == GNUTLS_E_PREMATURE_TERMINATION ? ECONNRESET : EPROTO;
  return -1;
}

static ssize_t
session_recv (struct channel *ch, void *buf, size_t size)
{
  struct session *s = ch->opaque;
  ssize_t r;

  do
    r = gnutls_record_recv (s->session, buf, size);
  while (r == GNUTLS_E_INTERRUPTED);
  return result_of (s, r);
}

/* GnuTLS keeps what it could not send and wants no data when it is asked to
 * try again; it then says how much it was. */
static ssize_t
session_send (struct channel *ch, const void *buf, size_t size, bool more)
{
  struct session *s = ch->opaque;
  ssize_t r;

  (void) more;
  do
    r = s->unsent ? gnutls_record_send (s->session, NULL, 0)
      : gnutls_record_send (s->session, buf, size);
  while (r == GNUTLS_E_INTERRUPTED);
  s->unsent = r == GNUTLS_E_AGAIN ? 1 : 0;
  return result_of (s, r);
}

/* The goodbye goes out if there is room for it; nobody waits for the other
 * one. */
static void
session_close (struct channel *ch)
{
  struct session *s = ch->opaque;

  if (s->up && s->error == 0 && !s->unsent)
    gnutls_bye (s->session, GNUTLS_SHUT_WR);
  gnutls_deinit (s->session);
  tls_context_unref (s->tls);
  free (s);
  close (ch->fd);
}

static const struct channel_ops session_ops = {
  .recv = session_recv,
  .send = session_send,
  .close = session_close,
};

static int
set_credentials (struct session *s)
{
  const struct tls_context *tls = s->tls;
  int r = gnutls_priority_set_direct (s->session, tls->psk ? PRIORITY_PSK
                                      : PRIORITY, NULL);

  if (r >= 0 && tls->x509)
    r = gnutls_credentials_set (s->session, GNUTLS_CRD_CERTIFICATE,
                                tls->x509);
  if (r >= 0 && tls->psk)
    r = gnutls_credentials_set (s->session, GNUTLS_CRD_PSK, tls->psk);
  if (tls->ask)
    gnutls_certificate_server_set_request (s->session, GNUTLS_CERT_REQUEST);
  return r < 0 ? -1 : 0;
}

int
tls_start (struct channel *ch, struct tls_context *tls)
{
  struct session *s = calloc (1, sizeof *s);

  if (!s)
    return -1;
  if (gnutls_init (&s->session, GNUTLS_SERVER | GNUTLS_NONBLOCK
                   | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS) < 0) {
    free (s);
    errno = ENOMEM;
    return -1;
  }
  s->tls = tls;
  if (set_credentials (s) == -1) {
    gnutls_deinit (s->session);
    free (s);
    errno = EINVAL;
    return -1;
  }
  tls_context_ref (tls);
  gnutls_transport_set_int (s->session, ch->fd);
  gnutls_handshake_set_timeout (s->session, GNUTLS_INDEFINITE_TIMEOUT);
  ch->ops = &session_ops;
  ch->opaque = s;
  ch->can_splice = false;
  return 0;
}

bool
tls_is_on (const struct channel *ch)
{
  return ch->ops == &session_ops;
}

bool
tls_wants_write (const struct channel *ch)
{
  const struct session *s = ch->opaque;

  return gnutls_record_get_direction (s->session) == 1;
}

const char *
tls_error (const struct channel *ch)
{
  const struct session *s = ch->opaque;

  return s->why ? s->why : gnutls_strerror (s->error);
}

static int
add_name (struct peer *peer, const char *name, size_t len)
{
  char *copy;

  /* A name with a NUL in it is meant to be read as another one. */
  if (peer->nr_names == IDENTITY_NAMES_MAX || memchr (name, '\0', len))
    return 0;
  copy = strndup (name, len);
  if (!copy)
    return -1;
  peer->names[peer->nr_names++] = copy;
  return 0;
}

static int
read_names (gnutls_x509_crt_t crt, struct peer *peer)
{
  char name[NAME_SIZE];
  size_t size = sizeof name;
  unsigned i, type;
  int r;

  if (gnutls_x509_crt_get_dn_by_oid (crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0,
                                     name, &size) >= 0
      && add_name (peer, name, size) == -1)
    return -1;
  for (i = 0; i < IDENTITY_NAMES_MAX; i++) {
    size = sizeof name;
    r = gnutls_x509_crt_get_subject_alt_name2 (crt, i, name, &size, &type,
                                               NULL);
    if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
      break;
    if (r >= 0 && (type == GNUTLS_SAN_DNSNAME || type == GNUTLS_SAN_URI
                   || type == GNUTLS_SAN_RFC822NAME)
        && add_name (peer, name, size) == -1)
      return -1;
  }
  return 0;
}

/* The peer's own certificate, which has been verified. */
static int
identify_x509 (const gnutls_datum_t *der, struct peer *peer)
{
  gnutls_x509_crt_t crt;
  int r = -1;

  if (gnutls_x509_crt_init (&crt) < 0)
    return -1;
  if (gnutls_x509_crt_import (crt, der, GNUTLS_X509_FMT_DER) >= 0)
    r = read_names (crt, peer);
  gnutls_x509_crt_deinit (crt);
  return r;
}

static int
identify (struct session *s, struct peer *peer)
{
  unsigned status = 0, nr = 0;
  const gnutls_datum_t *chain;
  const char *psk;

  s->why = "no memory";
  if (gnutls_auth_client_get_type (s->session) == GNUTLS_CRD_PSK) {
    psk = gnutls_psk_server_get_username (s->session);
    peer->psk = psk ? strdup (psk) : NULL;
    return peer->psk ? 0 : -1;
  }
  chain = gnutls_certificate_get_peers (s->session, &nr);
  if (!chain || nr == 0)
    return 0;
  s->why = "the client's certificate is not good";
  if (!s->tls->ask
      || gnutls_certificate_verify_peers2 (s->session, &status) < 0
      || status != 0)
    return -1;
  return identify_x509 (&chain[0], peer);
}

int
tls_handshake (struct channel *ch, struct peer *peer)
{
  struct session *s = ch->opaque;
  int r = gnutls_handshake (s->session);

  if (r == GNUTLS_E_SUCCESS) {
    if (identify (s, peer) == -1)
      return -1;
    s->up = true;
    s->why = NULL;
    return 1;
  }
  if (!gnutls_error_is_fatal (r))
    return 0;
  s->error = r;
  return -1;
}
