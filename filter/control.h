/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The control thread: serves the protocol of wire.h. */

#ifndef NBDFLEECE_CONTROL_H
#define NBDFLEECE_CONTROL_H

struct fleece;
struct control;

/* Listens on options.control, if there is one, and starts the thread, which
 * finds itself in f->control.  0; or -1, with the error logged. */
extern int control_start (struct fleece *f);

/* Ends the thread and opens the gate if a client held it. */
extern void control_free (struct control *c);

/* Has the thread look for something to report.  Any thread; never blocks.
 * NULL is harmless. */
extern void control_poke (struct control *c);

#endif /* NBDFLEECE_CONTROL_H */
