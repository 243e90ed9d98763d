/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The command line, from one table. */

#ifndef NBDFLEECE_OPTIONS_H
#define NBDFLEECE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "message.h"

/* What an error leads to; QEMU's words and meaning. */
enum error_action {
  ACTION_REPORT,                /* the job fails */
  ACTION_STOP,                  /* the job pauses; resume tries again */
  ACTION_IGNORE,                /* noted, and tried again later */
  ACTION_ENOSPC,                /* stop if there is no space, else report */
};

struct options {
  const char *source, *target;  /* as given */
  const char *copy_bitmap, *map, *progress, *control, *result, *backing;
  const char *compress, *checkpoint, *manifest, *since, *top_of, *live;
  uint64_t speed;               /* bytes per second; 0: no limit */
  uint64_t max_requests, connections, threads, request_size;
  uint64_t retry_ms;            /* 0: never */
  uint64_t flush_interval_ms;
  uint64_t scratch_limit;       /* bytes; 0: none */
  uint64_t on_source_error, on_target_error; /* enum error_action */
  bool source_action_given, request_size_given, connections_given;
  /* Flags. */
  uint64_t allow_incomplete, compare, new_bitmap, release, same_size, top;
  uint64_t quiet, verbose;
};

enum options_result { OPTIONS_OK, OPTIONS_DONE, OPTIONS_USAGE };

/* Fills in *o, which then points into argv.  OPTIONS_DONE: --help or --version
 * was carried out.  OPTIONS_USAGE: why says what is wrong. */
extern enum options_result options_parse (struct options *o, int argc,
                                          char *argv[], struct message *why);

/* "10M" and the like: digits and one of K M G T or none.  0, or -1. */
extern int parse_size (const char *s, uint64_t *n);

#endif /* NBDFLEECE_OPTIONS_H */
