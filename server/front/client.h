/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One client: its states, and what moves it from one to the next. */

#ifndef NBDFLEECE_CLIENT_H
#define NBDFLEECE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "backend.h"
#include "context.h"
#include "exports.h"
#include "extents.h"
#include "front.h"
#include "slots.h"

enum client_state {
  CLIENT_FLAGS,                 /* greeted; waits for the client's flags */
  CLIENT_OPTIONS,               /* haggles */
  CLIENT_TLS,                   /* has agreed to TLS, which is being set up */
  CLIENT_CHOSEN,                /* has chosen an export; waits for backend */
  CLIENT_REQUESTS,              /* transmission */
  CLIENT_DRAINING,              /* reads nothing more, answers the rest */
  CLIENT_FLUSHING,              /* sends what is in out, then closes */
  CLIENT_LEAVING,               /* is gone; takes leave of the backend */
  CLIENT_CLOSED,
};

enum header_style { HEADER_SIMPLE, HEADER_STRUCTURED, HEADER_EXTENDED };

/* What client_run cannot go on without. */
enum client_wants {
  WANT_CLIENT_READ = 1 << 0,
  WANT_CLIENT_WRITE = 1 << 1,
  WANT_BACKEND_READ = 1 << 2,
  WANT_BACKEND_WRITE = 1 << 3,
  WANT_BACKEND = 1 << 4,        /* that it can be connected */
};

/* Longest option that is looked at; and longest that is skipped, to be
 * answered with an error, instead of ending the connection; bytes. */
#define OPTION_MAX 65536
#define OPTION_SKIP_MAX (1 << 20)

/* Buffers of a client, bytes: input, and output (a listing may need more, while
 * the client haggles). */
#define CLIENT_IN_SIZE 8192
#define CLIENT_IN_MAX (OPTION_MAX + NBD_OPTION_SIZE)
#define CLIENT_OUT_MAX (1 << 19)
#define CLIENT_LISTING_MAX (1 << 22)

/* Bytes moved, or as much work, in one turn before others have theirs. */
#define CLIENT_TURN (1 << 20)

/* What is being done with the backend's current reply. */
enum relay_state {
  RELAY_HEADER,                 /* it has not come whole */
  RELAY_DATA,                   /* its data go to the client */
  RELAY_STATUS,                 /* its descriptors are taken */
  RELAY_RESUME,                 /* its connection broke: the rest of its data
                                 * is asked for, before anything else */
};

struct relay {
  enum relay_state state;
  uint8_t slot;                 /* whose reply; NO_SLOT: nobody's */
  uint8_t piece;
  uint64_t left;                /* bytes of it still in the backend */
  const uint8_t *send;          /* bytes to be sent first */
  size_t nr_send;
  uint64_t pad;                 /* then zeroes */
  uint8_t head[64];             /* a header that went into the backend's pipe, */
  size_t nr_head;               /* of so many bytes, and nothing else yet */
  bool asked;                   /* RESUME: the backend */
  bool last;                    /* the client was told that the chunk is the
                                 * last, so it must not fail any more */
};

/* The one block status request that is being answered. */
struct status_job {
  uint8_t slot;                 /* NO_SLOT: none */
  uint32_t contexts;            /* not yet answered */
  bool asked;                   /* the backend, for base:allocation */
  unsigned rounds;              /* how often it was asked */
  uint64_t covered;             /* bytes that it has told about */
  struct extent *extents;       /* which are these, merged; or NULL */
  unsigned nr;
  struct dirty_run *runs;       /* for dirty_start; or NULL */
};

struct client {
  /* Set once. */
  struct front *front;
  uint64_t id;
  struct peer peer;             /* identity: after TLS */
  enum tls_mode tls_mode;
  struct tls_context *tls;      /* or NULL */
  void *loop;                   /* what the event loop keeps for it */
  TAILQ_ENTRY (client) entry;

  enum client_state state;      /* changed by client_become only */
  struct channel ch;
  struct buffer in, out;
  unsigned wants;               /* of the last client_run */
  int64_t budget;               /* of this client_run */
  double since, active;         /* connected; last moved a byte */
  char why[128];                /* why it was closed, or "" */

  /* Haggling. */
  bool fixed, no_zeroes;        /* the client's flags */
  bool is_tls;
  enum header_style header;
  uint32_t option;              /* being answered */
  uint64_t skip;                /* bytes of input to be thrown away */
  uint32_t skip_reply;          /* then this error, or 0 */
  struct context_set contexts;  /* of view */

  /* The export, once chosen (or its contexts were). */
  struct view view;
  bool served;                  /* it came to the transmission phase */
  struct pull *pull;            /* what status tells of it */

  /* Transmission. */
  struct backend backend;
  double backend_since;         /* since when it is missed; 0: it is not */
  double backend_again;         /* not to be connected before that */
  struct slots slots;
  struct slot_queue issue;      /* have pieces for the backend */
  struct slot_queue local;      /* to be answered by us */
  struct slot_queue statuses;   /* block status, to be answered by us */
  bool alone;                   /* a request that has to be alone is on */
  uint64_t payload;             /* bytes of a request to be thrown away */
  unsigned small;               /* short reads under way in the backend */
  struct relay relay;
  struct status_job status;
};

/* A client at the other end of ch, which it takes over, in the list of its
 * front; NULL and errno if there is no memory. */
extern struct client *client_new (struct front *front, struct channel *ch,
                                  const struct peer *peer,
                                  enum tls_mode mode, struct tls_context *tls);
extern void client_free (struct client *c);

/* Does what can be done without waiting; then c->wants says what is missing.
 * True if there is more to do at once, but others should have a turn. */
extern bool client_run (struct client *c);

/* To be called now and then: lets go of a snapshot that has ended when nobody
 * asks for it any more. */
extern void client_tick (struct client *c);

/* Ends it in order, as if the server were being shut down. */
extern void client_shut_down (struct client *c);

/* When it has run out of time, on front->now's clock. */
extern double client_deadline (const struct client *c);
extern void client_timed_out (struct client *c);

extern const char *client_state_name (enum client_state state);

/* ---- for the parts of a client only */

/* True from client_fail on: nothing can be sent or received any more. */
static inline bool
client_is_over (const struct client *c)
{
  return c->state >= CLIENT_LEAVING;
}

/* The one function that changes the state; anything but what the table in
 * client.c allows is a bug. */
extern void client_become (struct client *c, enum client_state state);

/* Ends the connection at once, for a reason. */
extern void client_fail (struct client *c, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* The client is gone, or has to go: takes leave of the backend, if there is
 * one to be left, and closes. */
extern void client_end (struct client *c);

/* Reads into in, at least one byte if there is one; makes room for need bytes.
 * 1 if it did, 0 if it has to wait, -1 at the end or after client_fail. */
extern int client_fill (struct client *c, size_t need);

/* Sends bytes.  Returns how many, 0 if it has to wait or failed. */
extern size_t client_send (struct client *c, const void *data, size_t size,
                           bool more);

/* Sends what is in out.  True if that is all of it. */
extern bool client_flush (struct client *c);

/* Room at the end of out; client_fail and NULL if it is too much. */
extern uint8_t *client_room (struct client *c, size_t size, size_t max);

/* Charges the turn; notes that the client is alive. */
extern void client_moved (struct client *c, size_t bytes);

/* handshake.c: the client's flags; the next option.  False: wait. */
extern bool handshake_flags (struct client *c);
extern bool handshake_option (struct client *c);

/* handshake.c: the answer to what chose the export, good or bad. */
extern void handshake_chosen (struct client *c);
extern void handshake_refused (struct client *c);

/* transmission.c: an export was chosen, and waits for the backend; a part of
 * the transmission phase.  True if something moved. */
extern bool transmission_begin (struct client *c);
extern bool transmission_step (struct client *c);
/* Says goodbye to the backend.  False if there is none that would care. */
extern bool transmission_leave (struct client *c);
extern bool leaving_step (struct client *c);
extern void transmission_free (struct client *c);

#endif /* NBDFLEECE_CLIENT_H */
