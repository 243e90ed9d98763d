/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The test build's switch; see broken.h. */

#include <config.h>

#include "broken.h"

#ifdef FLEECE_TEST_BUILD

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum broken
broken_mechanism (void)
{
  static const char *const names[] = {
    [NO_INFLIGHT] = "no-inflight",
    [MARK_BEFORE_COPY] = "mark-before-copy",
    [MARK_AFTER_WRITE] = "mark-after-write",
    [NO_GATE] = "no-gate",
    [NO_LOST] = "no-lost",
    [NO_DIRTY] = "no-dirty",
    [DIRTY_AFTER_WRITE] = "dirty-after-write",
    [NO_TAKE_UP] = "no-take-up",
    [END_LATE] = "end-late",
    [TRIM_AFTER_WRITE] = "trim-after-write",
    [NO_RECHECK] = "no-recheck",
    [NO_LOG] = "no-log",
    [LOG_NOT_FLUSHED] = "log-not-flushed",
    [LIVE_NOT_FLUSHED] = "live-not-flushed",
    [BITMAPS_NOT_FLUSHED] = "bitmaps-not-flushed",
    [NO_GUARD] = "no-guard",
    [NO_DROP] = "no-drop",
    [NO_MERGE] = "no-merge",
    [SCRATCH_NOT_FLUSHED] = "scratch-not-flushed",
    [MAP_NOT_FLUSHED] = "map-not-flushed",
    [END_NOT_FLUSHED] = "end-not-flushed",
    [RELEASE_NOT_FLUSHED] = "release-not-flushed",
    [DELIVERED_NOT_FLUSHED] = "delivered-not-flushed",
    [RELEASE_EARLY] = "release-early",
    [FLUSH_TRIED_AGAIN] = "flush-tried-again",
    [KEEP_ENDED] = "keep-ended",
    [FILES_LEFT] = "files-left",
    [NAMES_NOT_FLUSHED] = "names-not-flushed",
  };
  static int found = -1;
  const char *env;
  unsigned i;

  if (found == -1) {
    found = NOT_BROKEN;
    env = getenv ("NBDFLEECE_BROKEN");
    for (i = 1; env && i < sizeof names / sizeof names[0]; i++)
      if (strcmp (env, names[i]) == 0)
        found = i;
  }
  return found;
}

void
failpoint (const char *name)
{
  static _Atomic unsigned arrivals;
  const char *env = getenv ("NBDFLEECE_FAILPOINT");
  const char *once = getenv ("NBDFLEECE_FAILPOINT_ONCE");
  size_t length = strlen (name);
  unsigned n = 1;

  if (!env || strncmp (env, name, length) != 0
      || (env[length] != '\0' && env[length] != ':'))
    return;
  if (env[length] == ':')
    n = atoi (env + length + 1);
  if (atomic_fetch_add (&arrivals, 1) + 1 == n
      && (!once || unlink (once) == 0))
    kill (getpid (), SIGKILL);
}

#endif
