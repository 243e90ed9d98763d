/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The handshake: options and their answers. */

/* Every option is a row of the table at the end, which says what has to be
 * true before its function is called; the rest is for all options alike:
 *
 *   unknown                      NBD_REP_ERR_UNSUP
 *   longer than OPTION_MAX       skipped, NBD_REP_ERR_TOO_BIG; far longer: end
 *   not fixed newstyle           only EXPORT_NAME; else the end
 *   TLS required and not there   NBD_REP_ERR_TLS_REQD ("FORCEDTLS mode")
 *   being shut down              NBD_REP_ERR_SHUTDOWN
 *   data where there may be none NBD_REP_ERR_INVALID
 */

#include <config.h>

#include "answers.h"
#include "nbd.h"

enum option_needs {
  NO_DATA = 1 << 0,             /* must have none */
  BEFORE_TLS = 1 << 1,          /* is allowed before required TLS */
  IN_SHUTDOWN = 1 << 2,         /* is answered even then */
  NO_REPLY = 1 << 3,            /* cannot be refused but by the end */
};

struct option {
  uint32_t id;
  unsigned needs;
  answer_function *answer;
};

static const struct option options[] = {
  { NBD_OPT_EXPORT_NAME, NO_REPLY, answer_export_name },
  { NBD_OPT_ABORT, BEFORE_TLS | IN_SHUTDOWN, answer_abort },
  { NBD_OPT_LIST, NO_DATA, answer_list },
  { NBD_OPT_STARTTLS, NO_DATA | BEFORE_TLS, answer_starttls },
  { NBD_OPT_INFO, 0, answer_info },
  { NBD_OPT_GO, 0, answer_info },
  { NBD_OPT_STRUCTURED_REPLY, NO_DATA, answer_structured },
  { NBD_OPT_LIST_META_CONTEXT, 0, answer_contexts },
  { NBD_OPT_SET_META_CONTEXT, 0, answer_contexts },
  { NBD_OPT_EXTENDED_HEADERS, NO_DATA, answer_extended },
};

static const struct option *
find_option (uint32_t id)
{
  size_t i;

  for (i = 0; i < sizeof options / sizeof options[0]; i++)
    if (options[i].id == id)
      return &options[i];
  return NULL;
}

/* What stands in the way of an option, or NULL with the error to reply. */
static const char *
objection (const struct client *c, const struct option *o, size_t len,
           uint32_t *error)
{
  unsigned needs = o ? o->needs : 0;

  *error = NBD_REP_ERR_TLS_REQD;
  if (c->tls_mode == TLS_REQUIRE && !c->is_tls && !(needs & BEFORE_TLS))
    return "TLS comes first";
  *error = NBD_REP_ERR_SHUTDOWN;
  if (c->front->stopping && !(needs & IN_SHUTDOWN))
    return "the server is being shut down";
  *error = NBD_REP_ERR_UNSUP;
  if (!o)
    return "this option is not known";
  *error = NBD_REP_ERR_INVALID;
  if ((needs & NO_DATA) && len > 0)
    return "this option has no data";
  return NULL;
}

static void
answer (struct client *c, const uint8_t *data, size_t len)
{
  const struct option *o = find_option (c->option);
  uint32_t error;
  const char *why = objection (c, o, len, &error);

  if (!c->fixed && c->option != NBD_OPT_EXPORT_NAME)
    client_fail (c, "option %u without fixed newstyle", (unsigned) c->option);
  else if (why && o && (o->needs & NO_REPLY))
    client_fail (c, "%s", why);
  else if (why)
    reply_error (c, error, why);
  else
    o->answer (c, data, len);
}

/* An option too long to be looked at: its data are passed over. */
static void
begin_skip (struct client *c, uint32_t len)
{
  if (len > OPTION_SKIP_MAX || c->option == NBD_OPT_EXPORT_NAME || !c->fixed) {
    client_fail (c, "option %u of %u bytes", (unsigned) c->option,
                 (unsigned) len);
    return;
  }
  c->skip = len;
  c->skip_reply = find_option (c->option) ? NBD_REP_ERR_TOO_BIG
    : NBD_REP_ERR_UNSUP;
  if (c->option == NBD_OPT_SET_META_CONTEXT)
    c->contexts.nr = 0;
}

static bool
go_on_skipping (struct client *c)
{
  size_t n = buffer_size (&c->in);

  if (n > c->skip)
    n = c->skip;
  buffer_take (&c->in, n);
  c->skip -= n;
  if (c->skip > 0)
    return client_fill (c, 1) == 1;
  /* ABORT is answered whatever came with it. */
  if (c->option == NBD_OPT_ABORT)
    answer (c, NULL, 0);
  else if (c->tls_mode == TLS_REQUIRE && !c->is_tls)
    reply_error (c, NBD_REP_ERR_TLS_REQD, "TLS comes first");
  else
    reply_error (c, c->skip_reply, "the option is too long");
  return true;
}

/* Waits for need bytes of input.  False: not there (yet). */
static bool
have (struct client *c, size_t need)
{
  while (buffer_size (&c->in) < need)
    switch (client_fill (c, need)) {
    case 0: return false;
    case -1: client_fail (c, "it went away"); return false;
    }
  return true;
}

bool
handshake_flags (struct client *c)
{
  uint32_t flags;

  if (!have (c, 4))
    return false;
  flags = get32 (buffer_bytes (&c->in));
  buffer_take (&c->in, 4);
  if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) {
    client_fail (c, "unknown client flags %#x", (unsigned) flags);
    return false;
  }
  c->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
  c->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
  client_become (c, CLIENT_OPTIONS);
  return true;
}

bool
handshake_option (struct client *c)
{
  const uint8_t *p;
  uint32_t len;

  if (c->skip > 0) {
    if (go_on_skipping (c))
      return true;
    if (c->wants == 0)
      client_fail (c, "it went away");
    return false;
  }
  if (!have (c, NBD_OPTION_SIZE))
    return false;
  p = buffer_bytes (&c->in);
  if (get64 (p) != NBD_OPTION_MAGIC) {
    client_fail (c, "an option without its magic number");
    return false;
  }
  len = get32 (p + 12);
  if (len <= OPTION_MAX && !have (c, NBD_OPTION_SIZE + len))
    return false;
  p = buffer_bytes (&c->in);
  c->option = get32 (p + 8);
  if (len > OPTION_MAX) {
    buffer_take (&c->in, NBD_OPTION_SIZE);
    begin_skip (c, len);
    return true;
  }
  /* The bytes stay where they are until the next ones are read. */
  buffer_take (&c->in, NBD_OPTION_SIZE + len);
  client_moved (c, 4096);
  answer (c, p + NBD_OPTION_SIZE, len);
  return true;
}
