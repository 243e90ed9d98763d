/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One run of nbdfleece-copy: the job and what it is made of. */

#ifndef NBDFLEECE_COPIER_H
#define NBDFLEECE_COPIER_H

#include "chain.h"
#include "image.h"
#include "job.h"

struct control;

#define MANIFEST "manifest:"    /* before the file, as the source */

struct copier {
  struct options opt;
  struct loop loop;
  struct job job;
  struct mapfile map;
  struct target_params params;
  struct control *control;
  struct image source;          /* what the source's name stands for */
  struct image other;           /* --compare: the target's */
  struct comparison comparison;
  struct manifest expected;     /* --compare manifest:FILE */
  struct digests digests;       /* --manifest */

  /* keep.c: what is known about the backup and kept beside it. */
  struct identity id;
  struct record record;
  struct chain_backing backing;
  char image[PATH_MAX];         /* absolute path of the target, if it is a
                                 * file; else "" */
  bool recording, claimed;
};

/* open.c: in this order.  0, or -1 with why. */
extern int open_source (struct copier *c, struct message *why);
extern int open_ledger (struct copier *c, struct message *why);
extern int open_target (struct copier *c, struct message *why);

/* differ.c: the same for what is to be compared; and for what a manifest is to
 * prove, instead of all three. */
extern int open_compared (struct copier *c, struct message *why);
extern int open_proved (struct copier *c, struct message *why);

/* Connects one side and runs the loop until that is over.  0, or -1 and a
 * message; also if the job was cancelled meanwhile. */
extern int connect_side (struct job *job, enum side side, struct message *why);

/* top.c: with --top, after open_ledger: what is not in the top layer need not
 * be delivered. */
extern int top_narrow (struct copier *c, struct message *why);

/* keep.c: after open_ledger: what the backup is of, and what an earlier run has
 * left.  0, or -1 with why. */
extern int keep_begin (struct copier *c, struct message *why);

/* Before the target is opened: checks that it may be what it is to
 * become, and sets the rest of c->params.  0, or -1 with why. */
extern int keep_prepare (struct copier *c, struct message *why);

/* The target is complete: job->complete. */
extern int keep_complete (struct job *job, bool lost, struct message *why);

/* The target has been let go of. */
extern void keep_end (struct copier *c);

#endif /* NBDFLEECE_COPIER_H */
