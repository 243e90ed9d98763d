/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* No new privileges, and no files to write to but one's own. */

/* The snapshot server talks to strangers, even if through the front, and its
 * user may write to the live disks: it is that of the nbdkits that carry them.
 * So it is the kernel that keeps it from doing so, by Landlock: what it starts
 * with (sockets, stderr) stays open to it, and /dev/null, which nbdkit wants to
 * have as its output.  An export's nbdkit has its disk and its own directory of
 * the state directory; the front, for clients that release clusters, maps and
 * scratches.
 *
 * Sockets are no files to Landlock, and have to be open to these processes,
 * since a live disk may be behind one.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>

#include "confine.h"

/* FLEECE_COVERAGE: tests/coverage. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ \
  || defined FLEECE_COVERAGE
#define OFF 1
#else
#define OFF 0
#endif

/* Of later versions of Landlock; headers may be older. */
#define ACCESS_REFER (1ULL << 13) /* version 2 */
#define ACCESS_TRUNCATE (1ULL << 14) /* 3 */
#define SCOPE_SIGNAL (1ULL << 1) /* 6 */

#define ACCESS_ALWAYS (LANDLOCK_ACCESS_FS_WRITE_FILE                    \
  | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE      \
  | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR          \
  | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK          \
  | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK        \
  | LANDLOCK_ACCESS_FS_MAKE_SYM)

/* struct landlock_ruleset_attr of version 6. */
struct ruleset {
  uint64_t files, net, scoped;
};

int
confine_rights (void)
{
  return prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

int
confine_version (void)
{
  long r = syscall (SYS_landlock_create_ruleset, NULL, 0,
                    LANDLOCK_CREATE_RULESET_VERSION);

  return r > 0 ? r : 0;
}

void
confined_free (struct confined *c)
{
  strings_free (&c->files);
  strings_free (&c->directories);
}

/* All of access that this kernel knows. */
static int
allow (int rules, const struct ruleset *forbidden, const char *path,
       uint64_t access)
{
  struct landlock_path_beneath_attr what = {
    .allowed_access = access & forbidden->files,
    .parent_fd = open (path, O_PATH | O_CLOEXEC),
  };
  int r, err;

  if (what.parent_fd == -1)
    return errno == ENOENT ? 0 : -1;
  r = syscall (SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH,
               &what, 0);
  err = errno;
  close (what.parent_fd);
  errno = err;
  return r;
}

static int
allow_all (int rules, const struct ruleset *forbidden,
           const struct confined *to)
{
  const uint64_t write = LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE;
  const uint64_t make = LANDLOCK_ACCESS_FS_MAKE_REG
    | LANDLOCK_ACCESS_FS_REMOVE_FILE | ACCESS_REFER;
  size_t i;

  if (allow (rules, forbidden, "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE)
      == -1)
    return -1;
  for (i = 0; i < to->files.nr; i++)
    if (allow (rules, forbidden, to->files.v[i], write) == -1)
      return -1;
  for (i = 0; i < to->directories.nr; i++)
    if (allow (rules, forbidden, to->directories.v[i], write | make) == -1)
      return -1;
  return 0;
}

int
confine_writes (const struct confined *to)
{
  int version = confine_version (), rules, r, err;
  struct ruleset forbidden = {
    .files = ACCESS_ALWAYS | (version >= 2 ? ACCESS_REFER : 0)
      | (version >= 3 ? ACCESS_TRUNCATE : 0),
    .scoped = version >= 6 ? SCOPE_SIGNAL : 0,
  };

  if (OFF || version == 0)
    return 0;
  rules = syscall (SYS_landlock_create_ruleset, &forbidden, sizeof forbidden,
                   0);
  if (rules == -1)
    return -1;
  r = allow_all (rules, &forbidden, to);
  if (r == 0)
    r = syscall (SYS_landlock_restrict_self, rules, 0);
  err = errno;
  close (rules);
  errno = err;
  return r;
}
