/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The handshake: what each option is answered. */

#ifndef NBDFLEECE_ANSWERS_H
#define NBDFLEECE_ANSWERS_H

#include "client.h"

/* Each answers c->option, whose data are the len bytes at data; handshake.c
 * has checked what is the same for all. */
typedef void answer_function (struct client *c, const uint8_t *data,
                              size_t len);
extern answer_function answer_export_name, answer_abort, answer_list,
  answer_starttls, answer_info, answer_structured, answer_extended,
  answer_contexts;

/* An error reply to c->option: NBD_REP_ERR_... and a text for people. */
extern void reply_error (struct client *c, uint32_t type, const char *text);

#endif /* NBDFLEECE_ANSWERS_H */
