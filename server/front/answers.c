/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The handshake: what each option is answered. */

/* What a client may not see does not exist for it: names are refused in the
 * same words whether there is such a snapshot or not.  Where TLS is possible
 * and not yet there, INFO and GO answer both with NBD_REP_ERR_TLS_REQD, since
 * the client may see more with it ("SELECTIVETLS mode").
 *
 * The view of a snapshot is opened by the first option that names it, and kept
 * up to the transmission phase if that is about the same one: the contexts
 * that were chosen are contexts of this view.
 */

#include <config.h>

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "answers.h"
#include "nbd.h"

/* More queries in one option are refused: each is held against each context. */
#define QUERIES_MAX 256

/* --------------------------------------------------------------- replies */

/* The header of one reply, with room for its data; where that goes, or NULL
 * after client_fail. */
static uint8_t *
put_reply (struct client *c, uint32_t type, size_t len)
{
  uint8_t *p = client_room (c, NBD_OPTION_REPLY_SIZE + len,
                            CLIENT_LISTING_MAX);

  if (!p)
    return NULL;
  c->out.len += NBD_OPTION_REPLY_SIZE + len;
  p = put64 (p, NBD_OPTION_REPLY_MAGIC);
  p = put32 (p, c->option);
  p = put32 (p, type);
  return put32 (p, len);
}

void
reply_error (struct client *c, uint32_t type, const char *text)
{
  uint8_t *p = put_reply (c, type, strlen (text));

  if (p)
    memcpy (p, text, strlen (text));
}

static void
reply_ack (struct client *c)
{
  put_reply (c, NBD_REP_ACK, 0);
}

static void
reply_invalid (struct client *c)
{
  reply_error (c, NBD_REP_ERR_INVALID, "the option's data make no sense");
}

static void
reply_unknown (struct client *c)
{
  reply_error (c, NBD_REP_ERR_UNKNOWN, "there is no such export");
}

/* ------------------------------------------------------------- what there is */

static bool
may_see (void *opaque, const char *export_name)
{
  const struct client *c = opaque;
  const struct settings *s = c->front->settings;

  return rules_allow (s->allow, s->nr_allow, &c->peer, export_name);
}

/* Opens the view that c is to have, if there is one of that name that it may
 * see.  One that it already has is kept, with the contexts chosen of it. */
static int
open_view (struct client *c, const char *name)
{
  char export_name[NAME_LENGTH_MAX + 1], snapshot[NAME_LENGTH_MAX + 1];

  errno = ENOENT;
  if (name_split (name, export_name, snapshot) == -1
      || !may_see (c, export_name)) {
    errno = ENOENT;
    return -1;
  }
  if (strcmp (c->view.name, name) == 0 && view_is_active (&c->view))
    return 0;
  view_close (&c->view);
  c->contexts.nr = 0;
  if (view_open (c->front->state_dir, name,
                 settings_may_release (c->front->settings, name),
                 &c->view) == 0)
    return 0;
  if (errno != ENOENT)
    front_log (c->front, LOG_ERR, "%s: %s", name, strerror (errno));
  return -1;
}

static uint16_t
transmission_flags (const struct client *c)
{
  uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_CAN_MULTI_CONN
    | NBD_FLAG_SEND_CACHE;

  /* A client does not trim what it takes for read-only.  Writes are refused
   * in any case. */
  flags |= view_can_release (&c->view) ? NBD_FLAG_SEND_TRIM : NBD_FLAG_READ_ONLY;
  if (c->header != HEADER_SIMPLE)
    flags |= NBD_FLAG_SEND_DF;
  if (c->header == HEADER_EXTENDED && c->contexts.nr > 0)
    flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
  return flags;
}

/* ---------------------------------------------------------- reading options */

/* What is left of an option's data. */
struct data {
  const uint8_t *p;
  size_t len;
};

static int
take16 (struct data *d, uint16_t *v)
{
  if (d->len < 2)
    return -1;
  *v = get16 (d->p);
  d->p += 2;
  d->len -= 2;
  return 0;
}

static int
take32 (struct data *d, uint32_t *v)
{
  if (d->len < 4)
    return -1;
  *v = get32 (d->p);
  d->p += 4;
  d->len -= 4;
  return 0;
}

/* A string after its length. */
static int
take_string (struct data *d, const uint8_t **s, uint32_t *len)
{
  if (take32 (d, len) == -1 || *len > d->len || *len > NBD_STRING_MAX)
    return -1;
  *s = d->p;
  d->p += *len;
  d->len -= *len;
  return 0;
}

/* As a name of ours; what cannot be one becomes "". */
static void
name_of (const uint8_t *s, size_t len, char name[FULL_NAME_SIZE])
{
  if (len >= FULL_NAME_SIZE || memchr (s, '\0', len))
    len = 0;
  memcpy (name, s, len);
  name[len] = '\0';
}

/* ------------------------------------------------------------ LIST, ABORT... */

void
answer_abort (struct client *c, const uint8_t *data, size_t len)
{
  (void) data;
  (void) len;
  reply_ack (c);
  if (c->state == CLIENT_OPTIONS)
    client_become (c, CLIENT_FLUSHING);
}

void
answer_list (struct client *c, const uint8_t *data, size_t len)
{
  struct listing l;
  size_t i;
  int r = listing_read (c->front->state_dir, may_see, c, &l);

  (void) data;
  (void) len;
  for (i = 0; r == 0 && i < l.nr && c->state == CLIENT_OPTIONS; i++) {
    size_t name = strlen (l.items[i].name);
    size_t text = strlen (l.items[i].description);
    uint8_t *p = put_reply (c, NBD_REP_SERVER, 4 + name + text);

    if (!p)
      break;
    p = put32 (p, name);
    memcpy (p, l.items[i].name, name);
    memcpy (p + name, l.items[i].description, text);
  }
  listing_free (&l);
  if (r == -1)
    reply_error (c, NBD_REP_ERR_POLICY, "the list cannot be read now");
  else if (c->state == CLIENT_OPTIONS)
    reply_ack (c);
}

/* "Option types", NBD_OPT_STARTTLS: nothing that was negotiated before may
 * survive it, and nothing that came before it in the clear may be taken for
 * something that came after. */
void
answer_starttls (struct client *c, const uint8_t *data, size_t len)
{
  (void) data;
  (void) len;
  if (c->is_tls) {
    reply_error (c, NBD_REP_ERR_INVALID, "TLS is already on");
    return;
  }
  if (!c->tls) {
    reply_error (c, NBD_REP_ERR_POLICY, "there is no TLS at this address");
    return;
  }
  if (buffer_size (&c->in) > 0) {
    client_fail (c, "data after STARTTLS");
    return;
  }
  c->header = HEADER_SIMPLE;
  c->contexts.nr = 0;
  view_close (&c->view);
  reply_ack (c);
  if (c->state == CLIENT_OPTIONS)
    client_become (c, CLIENT_TLS);
}

void
answer_structured (struct client *c, const uint8_t *data, size_t len)
{
  (void) data;
  (void) len;
  if (c->header == HEADER_EXTENDED)
    reply_error (c, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers are on");
  else if (c->header == HEADER_STRUCTURED)
    reply_error (c, NBD_REP_ERR_INVALID, "structured replies are on");
  else {
    c->header = HEADER_STRUCTURED;
    reply_ack (c);
  }
}

void
answer_extended (struct client *c, const uint8_t *data, size_t len)
{
  (void) data;
  (void) len;
  if (c->header == HEADER_EXTENDED)
    reply_error (c, NBD_REP_ERR_INVALID, "extended headers are on");
  else {
    c->header = HEADER_EXTENDED;
    reply_ack (c);
  }
}

/* -------------------------------------------------------------- INFO and GO */

struct info_request {
  char name[FULL_NAME_SIZE];
  bool want_name, want_description, want_block_size;
};

static int
take_info (struct data d, struct info_request *r)
{
  const uint8_t *s;
  uint32_t len;
  uint16_t nr, info;

  memset (r, 0, sizeof *r);
  if (take_string (&d, &s, &len) == -1 || take16 (&d, &nr) == -1
      || d.len != 2u * nr)
    return -1;
  name_of (s, len, r->name);
  while (take16 (&d, &info) == 0) {
    r->want_name |= info == NBD_INFO_NAME;
    r->want_description |= info == NBD_INFO_DESCRIPTION;
    r->want_block_size |= info == NBD_INFO_BLOCK_SIZE;
  }
  return 0;
}

static uint8_t *
put_info (struct client *c, uint16_t type, size_t len)
{
  uint8_t *p = put_reply (c, NBD_REP_INFO, 2 + len);

  return p ? put16 (p, type) : NULL;
}

static void
put_info_text (struct client *c, uint16_t type, const char *text)
{
  uint8_t *p = put_info (c, type, strlen (text));

  if (p)
    memcpy (p, text, strlen (text));
}

static void
put_infos (struct client *c, const struct info_request *r)
{
  const struct view *v = &c->view;
  uint8_t *p = put_info (c, NBD_INFO_EXPORT, 10);

  if (p)
    put16 (put64 (p, v->map.disk_size), transmission_flags (c));
  if (r->want_name)
    put_info_text (c, NBD_INFO_NAME, v->name);
  if (r->want_description)
    put_info_text (c, NBD_INFO_DESCRIPTION, v->description);
  p = r->want_block_size ? put_info (c, NBD_INFO_BLOCK_SIZE, 12) : NULL;
  if (p) {
    p = put32 (p, 1);
    p = put32 (p, UINT32_C (1) << v->map.cluster_bits);
    put32 (p, c->front->settings->max_request);
  }
}

void
answer_info (struct client *c, const uint8_t *data, size_t len)
{
  struct info_request r;

  if (take_info ((struct data) { data, len }, &r) == -1)
    reply_invalid (c);
  else if (open_view (c, r.name) == -1) {
    if (c->tls && !c->is_tls)
      reply_error (c, NBD_REP_ERR_TLS_REQD,
                   "there is no such export without TLS");
    else
      reply_unknown (c);
  }
  else {
    put_infos (c, &r);
    /* GO's ACK comes when the backend is there: transmission may begin
     * then. */
    if (c->option == NBD_OPT_INFO)
      reply_ack (c);
    else if (c->state == CLIENT_OPTIONS)
      client_become (c, CLIENT_CHOSEN);
  }
}

void
answer_export_name (struct client *c, const uint8_t *data, size_t len)
{
  char name[FULL_NAME_SIZE];

  if (c->header == HEADER_EXTENDED) {
    client_fail (c, "EXPORT_NAME after EXTENDED_HEADERS");
    return;
  }
  name_of (data, len, name);
  if (open_view (c, name) == -1)
    client_fail (c, "there is no such export");
  else
    client_become (c, CLIENT_CHOSEN);
}

void
handshake_chosen (struct client *c)
{
  uint8_t *p;
  size_t zeroes = c->no_zeroes ? 0 : 124;

  if (c->option == NBD_OPT_GO) {
    reply_ack (c);
    return;
  }
  p = client_room (c, 10 + zeroes, CLIENT_OUT_MAX);
  if (!p)
    return;
  c->out.len += 10 + zeroes;
  p = put64 (p, c->view.map.disk_size);
  p = put16 (p, transmission_flags (c));
  memset (p, 0, zeroes);
}

void
handshake_refused (struct client *c)
{
  if (c->option != NBD_OPT_GO) {
    client_fail (c, "the snapshot server is not there");
    return;
  }
  reply_error (c, NBD_REP_ERR_UNKNOWN, "the snapshot cannot be read now");
  if (c->state == CLIENT_CHOSEN)
    client_become (c, CLIENT_OPTIONS);
}

/* --------------------------------------------------------- metadata contexts */

static void
put_context (struct client *c, unsigned nr, uint32_t id)
{
  char name[CONTEXT_NAME_SIZE];
  uint8_t *p;

  context_name (&c->view, nr, name);
  p = put_reply (c, NBD_REP_META_CONTEXT, 4 + strlen (name));
  if (p)
    memcpy (put32 (p, id), name, strlen (name));
}

/* True if context nr is offered, and one of the queries asks for it.  They have
 * been checked. */
static bool
any_query (const struct client *c, struct data d, uint32_t nr_queries,
           unsigned nr, bool wildcards)
{
  const uint8_t *q;
  uint32_t len;

  if (!context_is_offered (&c->view, nr))
    return false;
  while (nr_queries-- > 0 && take_string (&d, &q, &len) == 0)
    if (context_matches (&c->view, nr, q, len, wildcards))
      return true;
  return false;
}

static int
check_queries (struct data d, uint32_t nr_queries)
{
  const uint8_t *q;
  uint32_t len;

  for (; nr_queries > 0 && d.len > 0; nr_queries--)
    if (take_string (&d, &q, &len) == -1 || !memchr (q, ':', len))
      return -1;
  return d.len == 0 && nr_queries == 0 ? 0 : -1;
}

static void
list_contexts (struct client *c, struct data queries, uint32_t nr_queries)
{
  unsigned nr;

  for (nr = 0; nr < context_count (&c->view); nr++)
    if (nr_queries == 0 ? context_is_offered (&c->view, nr)
        : any_query (c, queries, nr_queries, nr, true))
      put_context (c, nr, 0);
  reply_ack (c);
}

static void
set_contexts (struct client *c, struct data queries, uint32_t nr_queries)
{
  struct context_set set = { 0 };
  unsigned nr, i;

  for (nr = 0; nr < context_count (&c->view); nr++)
    if (any_query (c, queries, nr_queries, nr, false)) {
      if (set.nr == CONTEXTS_MAX) {
        reply_error (c, NBD_REP_ERR_TOO_BIG, "too many contexts");
        return;
      }
      set.chosen[set.nr++] = nr;
    }
  for (i = 0; i < set.nr; i++)
    put_context (c, set.chosen[i], set.chosen[i] + CONTEXT_ID_FIRST);
  reply_ack (c);
  c->contexts = set;
}

void
answer_contexts (struct client *c, const uint8_t *data, size_t len)
{
  struct data d = { data, len };
  bool setting = c->option == NBD_OPT_SET_META_CONTEXT;
  char name[FULL_NAME_SIZE];
  const uint8_t *s;
  uint32_t name_len, nr;

  if (setting)
    c->contexts.nr = 0;         /* even if this fails */
  if (setting && c->header == HEADER_SIMPLE)
    reply_error (c, NBD_REP_ERR_INVALID,
                 "structured replies or extended headers come first");
  else if (take_string (&d, &s, &name_len) == -1 || take32 (&d, &nr) == -1
           || check_queries (d, nr) == -1)
    reply_invalid (c);
  else if (nr > QUERIES_MAX)
    reply_error (c, NBD_REP_ERR_TOO_BIG, "too many queries");
  else {
    name_of (s, name_len, name);
    if (open_view (c, name) == -1)
      reply_unknown (c);
    else if (setting)
      set_contexts (c, d, nr);
    else
      list_contexts (c, d, nr);
  }
}
