/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Programs, directories, locks and disks, before anything is started. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "backup_options.h"
#include "process.h"
#include "setup.h"

#define VERSION_SECONDS 20
#define CHECK_SECONDS 20
/* A process that is just being started holds the locks of a daemon that died
 * up to its exec. */
#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 10000000

static const char *
from_environment (const char *variable, const char *fallback)
{
  const char *value = getenv (variable);

  return value && value[0] ? value : fallback;
}

static int
need_file (const char *path, const char *what, struct failure *failure)
{
  if (!strchr (path, '/') || access (path, R_OK) == 0)
    return 0;
  failure_set (failure, "failed", "%s is missing: %s: %s", what, path,
               strerror (errno));
  return -1;
}

/* The line version=... of nbdkit --dump-config. */
static int
nbdkit_version (struct programs *p, struct failure *failure)
{
  char *argv[] = { (char *) p->nbdkit, "--dump-config", NULL };
  char message[256], *text, *v;

  text = process_output (argv, VERSION_SECONDS, message, sizeof message);
  if (!text) {
    failure_set (failure, "failed", "%s; nbdkit %s is needed", message,
                 BUILT_NBDKIT_VERSION);
    return -1;
  }
  v = strstr (text, "\nversion=");
  if (v)
    snprintf (p->nbdkit_version, sizeof p->nbdkit_version, "%.*s",
              (int) strcspn (v + 9, "\n"), v + 9);
  free (text);
  if (strcmp (p->nbdkit_version, BUILT_NBDKIT_VERSION) == 0)
    return 0;
  failure_set (failure, "failed", "%s is version %s, but the filter was "
               "compiled for nbdkit %s and runs with no other; compile "
               "nbdfleece again", p->nbdkit,
               v ? p->nbdkit_version : "unknown", BUILT_NBDKIT_VERSION);
  return -1;
}

int
programs_find (struct programs *p, const struct config *config,
               struct failure *failure)
{
  char *qemu[] = { NULL, "--version", NULL }, message[256], *text;
  size_t i;

  *p = (struct programs) {
    .nbdkit = from_environment ("NBDKIT", "nbdkit"),
    .filter = from_environment ("NBDFLEECE_FILTER", FILTERDIR
                                "/nbdkit-fleece-filter.so"),
    .plugin = from_environment ("NBDFLEECE_PLUGIN", PLUGINDIR
                                "/nbdkit-fleece-plugin.so"),
    .copy = from_environment ("NBDFLEECE_COPY", BINDIR "/nbdfleece-copy"),
    .front = from_environment ("NBDFLEECE_FRONT", SBINDIR "/nbdfleece-front"),
    .qemu_nbd = from_environment ("QEMU_NBD", "qemu-nbd"),
  };
  snprintf (p->reconnect, sizeof p->reconnect,
            "%.*snbdkit-fleece-reconnect-filter.so",
            (int) (strrchr (p->filter, '/') ? strrchr (p->filter, '/') + 1
                   - p->filter : 0), p->filter);
  if (nbdkit_version (p, failure) == -1
      || need_file (p->filter, "the filter", failure) == -1
      || need_file (p->reconnect, "the reconnecting filter", failure) == -1
      || need_file (p->plugin, "the plugin", failure) == -1
      || need_file (p->copy, "the copier", failure) == -1
      || need_file (p->front, "the front", failure) == -1)
    return -1;
  for (i = 0; i < config->nr_exports; i++) {
    if (config->exports[i].disk.kind != CONFIG_DISK_QCOW2)
      continue;
    qemu[0] = (char *) p->qemu_nbd;
    text = process_output (qemu, VERSION_SECONDS, message, sizeof message);
    if (!text) {
      failure_set (failure, "failed", "%s; export %s needs it for its qcow2 "
                   "disk", message, config->exports[i].name);
      return -1;
    }
    free (text);
    break;
  }
  return 0;
}

/* True if the file that fd has open is still the one at path. */
static bool
is_file_at (int fd, const char *path)
{
  struct stat a, b;

  return fstat (fd, &a) == 0 && lstat (path, &b) == 0
    && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static int
lock_one (const char *path)
{
  const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
  int fd, tries, err;

  for (tries = 0; tries < LOCK_TRIES; tries++) {
    fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd == -1)
      return -1;
    if (flock (fd, LOCK_EX | LOCK_NB) == 0 && is_file_at (fd, path))
      return fd;
    err = errno;
    close (fd);
    nanosleep (&pause, NULL);
    errno = err;
  }
  errno = EWOULDBLOCK;
  return -1;
}

int
run_lock_take (struct run_lock *lock, const struct config *config,
               struct failure *failure)
{
  const char *dirs[2] = { config->state_dir, config->run_dir };
  const char *keys[2] = { "state-dir", "run-dir" };
  unsigned i;

  *lock = (struct run_lock) { .fds = { -1, -1 } };
  for (i = 0; i < 2; i++) {
    if (mkdir_private (dirs[i], true) == -1) {
      failure_set (failure, "failed", "%s %s: %s", keys[i], dirs[i],
                   errno == EPERM ? "it is another user's, or others may "
                   "write there" : strerror (errno));
      goto failed;
    }
    lock->paths[i] = xasprintf ("%s/lock", dirs[i]);
    lock->fds[i] = lock_one (lock->paths[i]);
    if (lock->fds[i] == -1 && errno == EWOULDBLOCK) {
      failure_set (failure, "failed", "another nbdfleeced uses %s %s",
                   keys[i], dirs[i]);
      goto failed;
    }
    if (lock->fds[i] == -1) {
      failure_set (failure, "failed", "%s: %s", lock->paths[i],
                   strerror (errno));
      goto failed;
    }
  }
  return 0;

 failed:
  run_lock_release (lock);
  return -1;
}

/* Whoever waited for the lock sees that the file is not at its path any more
 * and tries again. */
void
run_lock_release (struct run_lock *lock)
{
  unsigned i;

  for (i = 0; i < 2; i++) {
    if (lock->fds[i] != -1) {
      remove_file (lock->paths[i]);
      close (lock->fds[i]);
    }
    lock->fds[i] = -1;
    free (lock->paths[i]);
    lock->paths[i] = NULL;
  }
}

static void
wrong (struct failure *failure, const struct config *config,
       const struct config_export *ex, const char *key, const char *path,
       const char *what)
{
  failure_set (failure, "bad-config", "%s:%u:%u: export %s: %s: %s: %s",
               config->file, ex->line, ex->column, ex->name, key, path, what);
}

const char *
disk_path (const struct config_disk *disk)
{
  size_t i;

  if (disk->kind == CONFIG_DISK_RAW || disk->kind == CONFIG_DISK_QCOW2)
    return disk->where;
  if (disk->kind == CONFIG_DISK_PLUGIN && strcmp (disk->where, "file") == 0)
    for (i = 0; i < disk->nr_options; i++)
      if (strcmp (disk->options[i].key, "file") == 0)
        return disk->options[i].value;
  return NULL;
}

struct disk_identity
disk_identify (const char *path)
{
  struct stat st;

  if (!path || stat (path, &st) == -1)
    return (struct disk_identity) { .known = false };
  return (struct disk_identity) {
    .known = true, .block = S_ISBLK (st.st_mode),
    .dev = S_ISBLK (st.st_mode) ? st.st_rdev : st.st_dev,
    .ino = S_ISBLK (st.st_mode) ? 0 : st.st_ino,
  };
}

/* NULL if the disk at path will do, else what is wrong with it. */
static const char *
check_disk_file (const char *path, bool qcow2, struct disk_identity *id)
{
  const char *why = NULL;
  char magic[4] = "";
  struct stat st;
  int fd;

  if (stat (path, &st) == -1)
    return strerror (errno);
  if (S_ISDIR (st.st_mode))
    return "is a directory, expected a file or block device";
  if (!S_ISREG (st.st_mode) && !S_ISBLK (st.st_mode))
    return "is neither a regular file nor a block device";
  fd = open (path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd == -1)
    return strerror (errno);
  if (lseek (fd, 0, SEEK_END) <= 0)
    why = "is empty";
  else if (qcow2 && (pread (fd, magic, 4, 0) != 4
                     || memcmp (magic, "QFI\373", 4) != 0))
    why = "is not a qcow2 image";
  close (fd);
  *id = disk_identify (path);
  return why;
}

/* NULL if files can be made in the directory, else why not. */
static const char *
check_directory (const char *path)
{
  struct stat st;

  if (stat (path, &st) == -1)
    return strerror (errno);
  if (!S_ISDIR (st.st_mode))
    return "is not a directory";
  return access (path, W_OK | X_OK) == 0 ? NULL : strerror (errno);
}

bool
same_disk (const struct disk_identity *a, const struct disk_identity *b)
{
  return a->known && b->known && a->block == b->block && a->dev == b->dev
    && a->ino == b->ino;
}

static int
user_wrong (struct failure *failure, const struct config *config,
            const struct config_export *ex, const char *key, const char *path,
            const char *what, int err)
{
  failure_set (failure, "bad-config", "%s:%u:%u: export %s: %s: %s: user %s "
               "%s%s%s", config->file, ex->line, ex->column, ex->name, key,
               path, config->user, what, err ? ": " : "",
               err ? strerror (err) : "");
  return -1;
}

/* The user may read and write the disk; and reach the scratch directory, but
 * not change what is in it by name: the files there are opened by the daemon,
 * too. */
static int
check_user (const struct config *config, const struct config_export *ex,
            const struct user *user, struct failure *failure)
{
  const char *path = disk_path (&ex->disk);
  int err = path ? user_try_open (user, path, O_RDWR) : 0;

  if (err)
    return user_wrong (failure, config, ex, "disk", path, "may not read and "
                       "write it", err);
  if (!ex->scratch.directory)
    return 0;
  err = user_try_access (user, ex->scratch.directory, X_OK);
  if (err)
    return user_wrong (failure, config, ex, "scratch", ex->scratch.directory,
                       "may not pass through it", err);
  if (user_try_access (user, ex->scratch.directory, W_OK) == 0)
    return user_wrong (failure, config, ex, "scratch", ex->scratch.directory,
                       "may make files there, and must not: they are given files that "
                       "the daemon makes", 0);
  return 0;
}

static int
check_export (const struct config *config, size_t n,
              struct disk_identity *ids, struct failure *failure)
{
  const struct config_export *ex = &config->exports[n];
  const char *path = disk_path (&ex->disk), *why;
  size_t i;

  if (path) {
    why = check_disk_file (path, ex->disk.kind == CONFIG_DISK_QCOW2, &ids[n]);
    if (why) {
      wrong (failure, config, ex, "disk", path, why);
      return -1;
    }
  }
  for (i = 0; i < n; i++) {
    if (!same_disk (&ids[i], &ids[n]))
      continue;
    failure_set (failure, "bad-config", "%s:%u:%u: export %s: disk: %s is the "
                 "disk of export %s, too", config->file, ex->line, ex->column,
                 ex->name, path, config->exports[i].name);
    return -1;
  }
  why = ex->scratch.directory ? check_directory (ex->scratch.directory) : NULL;
  if (why) {
    wrong (failure, config, ex, "scratch", ex->scratch.directory, why);
    return -1;
  }
  return 0;
}

int
setup_check (const struct config *config, const struct user *user,
             struct failure *failure)
{
  struct disk_identity *ids = xcalloc (config->nr_exports, sizeof *ids);
  const char *why, *dir;
  int r = 0;
  size_t i;

  for (i = 0; r == 0 && i < config->nr_exports; i++)
    r = check_export (config, i, ids, failure) == -1 ? -1
      : user->name ? check_user (config, &config->exports[i], user, failure)
      : 0;
  for (i = 0; r == 0 && i < config->nr_listen; i++) {
    dir = config->listen[i].tls_certificates;
    why = dir ? check_directory (dir) : NULL;
    if (why) {
      failure_set (failure, "bad-config", "%s: backup: tls-certificates: %s: "
                   "%s", config->file, dir, why);
      r = -1;
    }
  }
  free (ids);
  return r;
}

int
setup_check_backup (const struct config *config,
                    const struct programs *programs, const struct user *user,
                    struct failure *failure)
{
  static const char prefix[] = "nbdfleece-front: error: ";
  struct strings argv = { 0 };
  char message[400];
  size_t skip = 0;
  int r;

  strings_add (&argv, "%s", programs->front);
  strings_add (&argv, "--check");
  backup_options_fixed (config, &argv);
  backup_options_argv (config, &argv);
  r = process_check (argv.v, user, CHECK_SECONDS, message, sizeof message);
  strings_free (&argv);
  if (r == 0)
    return 0;
  if (strncmp (message, prefix, sizeof prefix - 1) == 0)
    skip = sizeof prefix - 1;
  failure_set (failure, "bad-config", "%s: backup: %s", config->file,
               message + skip);
  return -1;
}
