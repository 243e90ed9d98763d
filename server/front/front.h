/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The front as a whole: what all its clients share. */

#ifndef NBDFLEECE_FRONT_H
#define NBDFLEECE_FRONT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "channel.h"
#include "settings.h"

struct client;
struct pull;
struct tls_context;

struct front {
  const struct settings *settings; /* replaced as a whole by a reload */
  int state_dir;                /* settings->state, open */

  /* Connects to the snapshot server without waiting.  0, or -1 and errno:
   * EAGAIN if it is worth trying again soon. */
  int (*connect) (struct front *front, struct channel *ch);
  /* One line for the log; level as in syslog.h. */
  void (*log) (struct front *front, int level, const char *text);

  TAILQ_HEAD (client_list, client) clients;
  unsigned nr_clients;
  uint64_t last_id;
  LIST_HEAD (pull_list, pull) pulls;
  uint64_t connected, refused;  /* connections so far */
  double now;                   /* seconds, kept by the loop; only rises */
  bool stopping;                /* nothing new is begun */
  uint64_t reloads;             /* tried */
  char refusal[SETTINGS_WHY];   /* why the last reload changed nothing, or "" */
};

extern void front_log (struct front *front, int level, const char *fmt, ...)
  __attribute__ ((format (printf, 3, 4)));

#endif /* NBDFLEECE_FRONT_H */
