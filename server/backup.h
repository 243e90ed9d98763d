/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The endpoint that backup software pulls snapshots from. */

#ifndef NBDFLEECE_BACKUP_H
#define NBDFLEECE_BACKUP_H

#include <json-c/json.h>

#include "daemon.h"
#include "front_client.h"

/* Starts or adopts it, with what daemon->config says. */
extern struct backup *backup_new (struct daemon *d);

/* daemon->config has changed: has the front read it. */
extern void backup_configure (struct backup *b);

/* Calls done once the front has the configuration: with NULL; or why it keeps
 * the one before.  Never from within. */
extern void backup_when_in_effect (struct backup *b,
                                   void (*done) (void *opaque,
                                                 const char *refusal),
                                   void *opaque);

extern bool backup_is_up (const struct backup *b);

/* Ends it; daemon_part_changed is called when it has. */
extern void backup_end (struct backup *b);
extern bool backup_has_ended (const struct backup *b);

/* Leaves its processes alone; for backup_has_ended, it has. */
extern void backup_leave (struct backup *b);

/* Lets go of it; its processes go on unless they have ended. */
extern void backup_free (struct backup *b);

/* True if it ran before the daemon and still does. */
extern bool backup_was_adopted (const struct backup *b);

/* Asks the front about its clients.  Never calls done from within. */
extern void backup_ask (struct backup *b, front_answered done, void *opaque);

/* False if there is no front, and so no client of it. */
extern bool backup_front_runs (const struct backup *b);

/* How many clients read EXPORT@SNAPSHOT, going by the front's answer; and
 * words for one of them. */
extern size_t backup_readers (struct json_object *status,
                              const char *export_name, const char *snapshot,
                              char *who, size_t size);

/* The member `backup' of the control protocol's status; status: the front's
 * answer, or NULL. */
extern struct json_object *backup_json (const struct backup *b,
                                        struct json_object *status);

/* An array of the URIs of an export of it, here EXPORT@SNAPSHOT. */
extern struct json_object *backup_uris (const struct daemon *d,
                                        const char *export_name,
                                        const char *snapshot);

/* The URI of the unix socket for EXPORT@SNAPSHOT; the caller frees it. */
extern char *backup_unix_uri (const struct daemon *d, const char *export_name,
                              const char *snapshot);

#endif /* NBDFLEECE_BACKUP_H */
