/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One client's connection to the snapshot server. */

#ifndef NBDFLEECE_BACKEND_H
#define NBDFLEECE_BACKEND_H

#include "channel.h"

/* What is read from it at once, at most, and room before that for a reply
 * header to be put in front of data. */
#define BACKEND_IN_SIZE 65536
#define BACKEND_HEADROOM 64

/* Requests not yet sent are at most one for each piece that may be under way,
 * one for block status, and the last one; or an option. */
#define BACKEND_UNDER_WAY_MAX 32
#define BACKEND_OUT_MAX 4096    /* bytes */

enum backend_state {
  BACKEND_DOWN,
  BACKEND_GREETING,             /* waits for the server's greeting */
  BACKEND_STRUCTURED,           /* asked for structured replies */
  BACKEND_CONTEXT,              /* asked for base:allocation */
  BACKEND_GO,                   /* asked for the export */
  BACKEND_UP,
};

struct backend {
  struct channel ch;
  enum backend_state state;
  bool with_status;             /* base:allocation is wanted */
  uint16_t epoch;               /* number of this connection */
  unsigned under_way;           /* requests without a reply */
  struct buffer out;
  uint8_t *in;                  /* BACKEND_HEADROOM + BACKEND_IN_SIZE bytes */
  size_t pos, len;              /* what is in it: [pos, len) */
  int pipe[2];                  /* for splicing; -1: none yet */
  size_t in_pipe;               /* bytes */
  uint64_t size;                /* of the export, as it told */
};

extern void backend_init (struct backend *b);

/* Starts talking over b->ch, which the caller has connected.  0, or -1 and
 * errno if there is no memory. */
extern int backend_start (struct backend *b, bool with_status);

/* Goes on with the handshake for the export.  Returns 1 when it is done, 0 if
 * it waits (for input, and for output if there is some), or -1 and errno:
 * ENOENT if there is no such export, EPROTO for what is no answer. */
extern int backend_handshake (struct backend *b, const char *name);

/* Puts a request into b->out; there is always room. */
extern void backend_request (struct backend *b, uint16_t cmd, uint16_t flags,
                             uint64_t cookie, uint64_t offset,
                             uint32_t length);

/* Sends what is in b->out.  Returns the bytes sent, or -1 and errno. */
extern ssize_t backend_flush (struct backend *b);

/* Reads more, at most want bytes, behind what is in b->in.  Returns like
 * channel_ops.recv; 0 is the end. */
extern ssize_t backend_fill (struct backend *b, size_t want);

/* Closes the connection and forgets what was under way. */
extern void backend_drop (struct backend *b);

/* Frees the rest. */
extern void backend_free (struct backend *b);

#endif /* NBDFLEECE_BACKEND_H */
