/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Progress and result of a job, for programs and for people. */

#ifndef NBDFLEECE_REPORT_H
#define NBDFLEECE_REPORT_H

#include "job.h"

/* Opens where progress goes.  Returns 0, or -1 and a message. */
extern int report_open (struct job *job, struct message *why);
extern void report_close (struct job *job);

/* Reports if it is time; at most a few times a second. */
extern void report_turn (struct job *job);

/* Reports now, on a change of state. */
extern void report_now (struct job *job);

/* The end: the last progress line, the result file, the line for people.
 * Returns 0; or -1 and a message if the result file could not be written. */
extern int report_end (struct job *job, struct message *why);

#endif /* NBDFLEECE_REPORT_H */
