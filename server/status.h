/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* JSON objects of the control protocol. */

#ifndef NBDFLEECE_STATUS_H
#define NBDFLEECE_STATUS_H

#include <json-c/json.h>

#include "control.h"
#include "export.h"

/* Each is what docs/control-protocol.md says, a new reference. */
extern struct json_object *snapshot_json (const struct snapshot *s);

/* All snapshots of one export (or of all, if NULL) that exist, in an array. */
extern struct json_object *snapshots_json (const struct daemon *d,
                                           const struct export *ex);

/* Answers a status request, as soon as the filters have said what they
 * count. */
extern void status_request (struct request *request);

/* Adds a member; s may be NULL for null. */
extern void json_add_string (struct json_object *o, const char *key,
                             const char *s);
extern void json_add_int (struct json_object *o, const char *key, int64_t n);

/* Adds all members of more, which stays the caller's. */
extern void json_add_members (struct json_object *o,
                              struct json_object *more);

/* Adds KEY (text) and KEY-ns; both null if ns is 0. */
extern void json_add_instant (struct json_object *o, const char *key,
                              int64_t ns);

#endif /* NBDFLEECE_STATUS_H */
