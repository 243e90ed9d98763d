/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Orders to a running job: commands on a named pipe, and signals. */

#ifndef NBDFLEECE_CONTROL_H
#define NBDFLEECE_CONTROL_H

#include "job.h"

struct control;

/* Begins to listen.  Returns NULL and a message on error. */
extern struct control *control_new (struct job *job, struct message *why);
extern void control_free (struct control *c);

#endif /* NBDFLEECE_CONTROL_H */
