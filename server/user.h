/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The user as whom the daemon's processes run, if not as its own. */

#ifndef NBDFLEECE_USER_H
#define NBDFLEECE_USER_H

#include <sys/types.h>

#include "conf.h"
#include "util.h"

#define USER_GROUPS_MAX 64

struct user {
  const char *name;             /* of the configuration; NULL: nobody else */
  uid_t uid;
  gid_t gid;
  gid_t groups[USER_GROUPS_MAX];
  int nr_groups;
};

/* Who that is, by the configuration.  0, or -1 with *failure. */
extern int user_find (const struct config *config, struct user *user,
                      struct failure *failure);

/* In a child, before its exec: becomes the user, for good and with no
 * capabilities.  Does nothing if there is none.  0, or -1 and errno. */
extern int user_become (const struct user *user);

/* Whether the user may open a file so (flags of open), or reach a directory;
 * found out by trying it in a child.  0, or the errno. */
extern int user_try_open (const struct user *user, const char *path,
                          int flags);
extern int user_try_access (const struct user *user, const char *path,
                            int mode);

#endif /* NBDFLEECE_USER_H */
