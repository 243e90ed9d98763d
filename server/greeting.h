/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Finding out that an NBD server serves. */

#ifndef NBDFLEECE_GREETING_H
#define NBDFLEECE_GREETING_H

#include "service.h"

/* A probe for a service that is an NBD server at a unix socket: ready once it
 * greets.  To be called from the service's probe. */
extern void greeting_probe (struct service *s, const char *socket_path);

#endif /* NBDFLEECE_GREETING_H */
