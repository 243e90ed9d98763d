/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Instants and UUIDs as text. */

#ifndef NBDFLEECE_TEXT_H
#define NBDFLEECE_TEXT_H

#include <stdint.h>

/* RFC 3339 in UTC with nine digits. */
#define INSTANT_SIZE 40
extern void format_instant (int64_t ns, char text[INSTANT_SIZE]);

/* 8-4-4-4-12 hex digits. */
#define UUID_SIZE 37
extern void format_uuid (const uint8_t uuid[16], char text[UUID_SIZE]);

#endif /* NBDFLEECE_TEXT_H */
