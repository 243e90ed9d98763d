/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The transmission phase: what its parts are to each other. */

/*             requests.c          relay.c
 *   client ──▶ slots ──▶ backend ──▶ client      reads and cache hints
 *                │
 *                ├──▶ blockstatus.c ──▶ client   block status
 *                └──▶ replies.c ──▶ client       trims, errors, what is empty
 *
 * A *_step function does what can be done now, and returns true if something
 * moved.  What goes to the client is whole messages: while the data of one are
 * being relayed (relay_is_busy), nobody puts anything into c->out; and relaying
 * begins only when c->out has been sent.
 */

#ifndef NBDFLEECE_TRANSMISSION_H
#define NBDFLEECE_TRANSMISSION_H

#include "client.h"

/* requests.c: from the client to slots, from slots to the backend. */
extern bool requests_read_step (struct client *c);
extern bool requests_issue_step (struct client *c);

/* The cookie of a request to the backend.  Besides pieces there are two kinds. */
#define PIECE_STATUS 255
#define PIECE_REST 254          /* of the piece that is being relayed */
extern uint64_t requests_cookie (const struct client *c, uint8_t slot,
                                 unsigned piece);

/* Short reads share what is read from the backend; c->small counts them. */
extern bool request_is_small (const struct slot *s);

/* relay.c: from the backend to the client. */
extern bool relay_step (struct client *c);
/* The connection to the backend was lost.  All that had come of the current
 * reply has been sent, since only then more is read, except for its header. */
extern void relay_lost (struct client *c);
/* True while part of a message is with the client: nothing may come between. */
static inline bool
relay_is_busy (const struct client *c)
{
  return c->relay.state == RELAY_DATA || c->relay.state == RELAY_RESUME;
}

/* blockstatus.c */
extern bool blockstatus_step (struct client *c);
/* The backend's answer: len bytes of descriptors, a multiple of 8; or its
 * end; or an error in its place. */
extern void blockstatus_take (struct client *c, const uint8_t *p, size_t len);
extern void blockstatus_taken (struct client *c);
extern void blockstatus_failed (struct client *c, uint32_t error);
/* The connection to the backend was lost. */
extern void blockstatus_forget (struct client *c);

/* replies.c: slots that we answer by ourselves. */
extern bool replies_step (struct client *c);

/* Bytes of a reply header in the client's style. */
extern size_t reply_header_size (const struct client *c);
/* Writes one there; returns its end.  type and flags are for chunks, error for
 * simple replies. */
extern uint8_t *put_reply_header (const struct client *c,
                                  const struct slot *s, uint8_t *p,
                                  uint16_t type, uint16_t flags,
                                  uint32_t error, uint64_t payload);

/* The slot is to be answered by us: with slot->error, or with success. */
extern void reply_locally (struct client *c, uint8_t n);
/* Its reply is complete. */
extern void request_ends (struct client *c, uint8_t n);

/* transmission.c: the backend's connection broke. */
extern void backend_lost (struct client *c);

#endif /* NBDFLEECE_TRANSMISSION_H */
