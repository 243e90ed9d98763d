/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Whose the files are that the processes work with. */

/* Without a user in the configuration all is the daemon's.  With one:
 *
 *   directories        the daemon's, with the user's group: STATE and RUN may
 *                      be passed through, STATE/exports and below be listed
 *   maps, scratches,   the user's
 *   tracking bitmaps,
 *   activity logs
 *   all the rest       the daemon's alone
 *
 * So names are made, changed and removed by the daemon only, and nothing that
 * it looks for by name can be led elsewhere.  What is in the user's files may be
 * anything at any time (common/guard.h, common/bmfile.h).
 */

#ifndef NBDFLEECE_OWNER_H
#define NBDFLEECE_OWNER_H

#include "export.h"

/* The user to start processes as, or NULL. */
extern const struct user *owner_user (const struct daemon *d);

/* Whose files that are, then. */
extern uid_t owner_uid (const struct daemon *d);

/* A directory that the user may pass through, or list.  Each of these: 0, or -1
 * and errno. */
extern int owner_let_pass (const struct daemon *d, const char *path);
extern int owner_let_list (const struct daemon *d, const char *path);

/* A file that the user may read, and not write. */
extern int owner_let_read (const struct daemon *d, const char *path);

/* Makes a file, open or by name, the user's, mode 0600. */
extern int owner_give_fd (const struct daemon *d, int fd);
extern int owner_give (const struct daemon *d, const char *path);

/* A socket that the user's processes may connect to. */
extern int owner_give_socket (const struct daemon *d, const char *path);

/* All that an export's nbdkit needs, whoever had it before. */
extern int owner_give_all (const struct export *ex);

#endif /* NBDFLEECE_OWNER_H */
