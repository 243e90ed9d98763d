/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The control protocol of the filter: messages on a SOCK_SEQPACKET socket. */

/* The filter listens on RUN/EXPORT.ctl (mode 0600).  Each request is one
 * packet of exactly sizeof (struct wire_request), each reply one of exactly
 * sizeof (struct wire_reply); files travel with the request as SCM_RIGHTS.
 * Host order, same host.  A packet of another size, magic or version is
 * answered with EPROTO and the connection is closed; nothing else suffers.
 *
 * Replies come in the order of the requests.  Requests of one connection are
 * carried out one after the other.
 *
 *   HELLO   who is there; the reply carries the listening socket of the
 *           export as SCM_RIGHTS if nbdkit was started with one as fd 3
 *   FREEZE  close the gate: hold new writes, wait until those in flight have
 *           ended.  It opens by itself after deadline_ms.  The reply comes
 *           when it is closed and drained, or with ETIMEDOUT and open.
 *   THAW    open the gate.  ESTALE if it has opened by itself before.
 *   BEGIN   begin a snapshot and/or a checkpoint at one instant.  Files, in
 *           this order, as flags say: map, scratch, tracking bitmap.  With
 *           WIRE_BEGIN_FROZEN the instant is the freeze that this connection
 *           holds, and the gate opens; ESTALE if it does not hold one, or it
 *           opened by itself.  Without, BEGIN closes the gate, drains, flips
 *           and opens, within deadline_ms; EBUSY if it is closed already.
 *           Nothing is begun for a client that has hung up meanwhile, nor
 *           (ECANCELED) with a file whose state has been changed from PREPARED
 *           to ENDED, which whoever made it may do at any time; ESTALE, too,
 *           if the disk is not of their size any more.
 *   END     end the snapshot `uuid'.  The reply comes when no writer uses its
 *           files any more.  ENOENT if there is none.
 *   LIST    the UUIDs of all snapshots that are kept
 *   STATS   counters of the export, or with a uuid of one snapshot
 *   UNTRACK stop tracking: the ACTIVE tracking bitmap is let go (frozen).
 *           ESTALE if that is not `uuid', unless that is 0; ENOENT if there is
 *           none
 *   HANG_UP hear no more from the clients that are connected to the export: a
 *           connection ends when what was sent on it has been answered.  They
 *           may connect again, so this is for an nbdkit that has been told to
 *           end and waits for idle clients.  ENOTSUP if nbdkit was not
 *           started with its listening socket as fd 3
 *
 * A connection that closes while it holds the gate opens the gate.
 */

#ifndef NBDFLEECE_WIRE_H
#define NBDFLEECE_WIRE_H

#include <stdint.h>

#define WIRE_MAGIC 0x464c4342u  /* "FLCB" */
#define WIRE_VERSION 1
#define WIRE_FILES_MAX 3
#define WIRE_DEADLINE_MS_MAX 60000
#define WIRE_HISTOGRAM 128
#define WIRE_SNAPSHOTS_MAX 32

enum wire_op {
  WIRE_HELLO = 1,
  WIRE_FREEZE,
  WIRE_THAW,
  WIRE_BEGIN,
  WIRE_END,
  WIRE_STATS,
  WIRE_UNTRACK,
  WIRE_LIST,
  WIRE_HANG_UP,
};

enum wire_begin_flags {
  WIRE_BEGIN_SNAPSHOT = 1,      /* files: map, scratch */
  WIRE_BEGIN_CHECKPOINT = 2,    /* file: tracking bitmap */
  WIRE_BEGIN_FROZEN = 4,
};

struct wire_request {
  uint32_t magic;
  uint16_t version;
  uint16_t op;                  /* enum wire_op */
  uint64_t cookie;              /* comes back in the reply */
  uint32_t flags;
  uint32_t deadline_ms;         /* 1 to WIRE_DEADLINE_MS_MAX */
  uint8_t uuid[16];
};

struct wire_hello {
  uint64_t disk_size;           /* bytes */
  uint64_t cluster_size;        /* bytes, as the filter would choose */
  uint32_t pid;
  uint32_t nr_snapshots;
  char nbdkit_version[32];
  char export_name[72];
  char config_id[72];           /* fleece-id= of the command line */
};

struct wire_begun {
  int64_t instant_ns;           /* CLOCK_REALTIME */
  uint64_t closed_ns;           /* how long the gate was closed */
  uint64_t drain_ns;            /* of that, waiting for writes in flight */
  uint64_t closed_at_ns;        /* CLOCK_MONOTONIC; 0: an older filter */
};

/* Of the export since its nbdkit started (but scratch_bytes of the snapshots
 * that there are), or of one snapshot (then only from copied_clusters to
 * scratch_bytes).  The histogram counts guest requests that
 * had to copy, by the time they waited for it: bucket b < 4 is b
 * microseconds, else [(4 + b % 4) << (b / 4 - 1), ...) microseconds, the top
 * two bits after the leading one. */
struct wire_stats {
  uint64_t writes, written_bytes; /* pwrite requests */
  uint64_t zeroes, trims;       /* requests */
  uint64_t cow_requests;        /* requests that had to copy */
  uint64_t held_requests;       /* requests that a gate held */
  uint64_t failed_requests;     /* failed by break-guest-write */
  uint64_t copied_clusters, zero_clusters, lost_clusters, scratch_bytes;
  uint64_t histogram[WIRE_HISTOGRAM];
  uint64_t cow_max_us;
  uint64_t clients;             /* connected now */
};

struct wire_list {
  uint32_t nr;
  uint8_t uuids[WIRE_SNAPSHOTS_MAX][16];
};

struct wire_reply {
  uint32_t magic;
  uint16_t version;
  uint16_t op;
  uint64_t cookie;
  int32_t error;                /* 0 or an errno value */
  uint32_t nr_files;
  union {
    struct wire_hello hello;
    struct wire_begun begun;    /* BEGIN, FREEZE (instant_ns 0), THAW */
    struct wire_stats stats;
    struct wire_list list;
  } u;
};

/* Sends one packet with nr_fds descriptors.  Returns 0, or -1 and errno
 * (EAGAIN if the socket is non-blocking and full). */
extern int wire_send (int sock, const void *packet, uint32_t size,
                      const int *fds, unsigned nr_fds);

/* Receives one packet of at most size bytes and up to WIRE_FILES_MAX
 * descriptors, close-on-exec and the caller's to close.  More descriptors
 * than that, or a truncated packet, is EPROTO, with none left open.  Returns
 * the length, 0 at the end, or -1 and errno. */
extern int64_t wire_recv (int sock, void *packet, uint32_t size,
                          int fds[WIRE_FILES_MAX], unsigned *nr_fds);

/* Connects to the filter at path, or listens there (mode 0600).  Returns a
 * close-on-exec descriptor, or -1 and errno. */
extern int wire_connect (const char *path);
extern int wire_listen (const char *path);

/* Fills in a request. */
extern void wire_request_init (struct wire_request *req, enum wire_op op,
                               uint64_t cookie);

/* One request and its reply, blocking: for tests and small programs.  *fd,
 * if not NULL, gets a descriptor that came with the reply, or -1.  Returns 0;
 * or -1 and errno, the reply's error included. */
extern int wire_call (int sock, const struct wire_request *req,
                      const int *fds, unsigned nr_fds,
                      struct wire_reply *reply, int *fd);

/* The bucket of a time, and the least time of a bucket, in microseconds. */
extern unsigned wire_bucket (uint64_t us);
extern uint64_t wire_bucket_start (unsigned bucket);

/* The quantile q (0 to 1) of a histogram, in microseconds; 0 if empty. */
extern uint64_t wire_quantile (const uint64_t histogram[WIRE_HISTOGRAM],
                               double q);

#endif /* NBDFLEECE_WIRE_H */
