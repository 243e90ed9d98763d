/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* One line that says what went wrong, handed up to whoever reports it. */

#ifndef NBDFLEECE_MESSAGE_H
#define NBDFLEECE_MESSAGE_H

struct message {
  char text[640];               /* "" if nothing went wrong */
};

/* Sets the text, without newline.  Control characters, which may come from a
 * server, become blanks, and what is too long is cut.  Returns -1 and leaves
 * errno alone, so that `return message_set (...)' reads well. */
extern int message_set (struct message *m, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

#endif /* NBDFLEECE_MESSAGE_H */
