/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* How far a job is: a bar on a terminal, lines elsewhere. */

#ifndef NBDFLEECE_PROGRESS_H
#define NBDFLEECE_PROGRESS_H

#include <stdbool.h>
#include <stdio.h>

#include <json.h>

struct progress {
  FILE *out;                    /* NULL: show nothing */
  bool bar;                     /* out is a terminal */
  bool shown;                   /* a bar is on the line */
  int tenth;                    /* of the last line, -1 before any */
  char state[32];               /* in the last line */
};

/* stdout; or, if that carries a JSON document, stderr if it is a terminal. */
extern void progress_start (struct progress *progress, bool json);

/* Shows a job object. */
extern void progress_show (struct progress *progress, json_object *job);

/* Takes the bar away, so that a message can follow. */
extern void progress_clear (struct progress *progress);

#endif /* NBDFLEECE_PROGRESS_H */
