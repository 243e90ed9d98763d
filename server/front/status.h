/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the front tells about its clients. */

#ifndef NBDFLEECE_FRONT_STATUS_H
#define NBDFLEECE_FRONT_STATUS_H

#include <stdint.h>
#include <sys/queue.h>

#include "front.h"
#include "statedir.h"

/* A disk is looked at in so many regions, to say how much of it was read. */
#define PULL_REGIONS 8192

/* All connections of one client to one snapshot. */
struct pull {
  LIST_ENTRY (pull) entry;
  char address[INET6_ADDRSTRLEN + 16];
  char identity[300];           /* or "" */
  char snapshot[FULL_NAME_SIZE];
  pid_t pid;                    /* of a local client; else 0 */
  uint64_t disk_size;
  unsigned connections;
  double since, active;         /* on front->now's clock */
  uint64_t bytes;               /* of data, relayed */
  unsigned region_bits;         /* log2 of the bytes of a region */
  uint64_t regions[PULL_REGIONS / 64]; /* touched by a read */
  double window;                /* the rate is measured since then */
  uint64_t window_bytes;
  double rate;                  /* of the window before; bytes per second */
};

/* The pull that c belongs to; a connection more.  NULL if there is no
 * memory. */
extern struct pull *pull_join (struct client *c);
extern void pull_leave (struct pull *p, struct client *c);

/* [offset, offset + length) was relayed. */
extern void pull_read (struct pull *p, uint64_t offset, uint64_t length,
                       double now);

/* All of it as one JSON document, ending with a newline; the caller frees it.
 * NULL if there is no memory. */
extern char *status_text (const struct front *front);

#endif /* NBDFLEECE_FRONT_STATUS_H */
