/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Starting processes that are no children of ours, and finding them again. */

/* Whatever carries I/O must not notice that the daemon died.  So a process is
 * forked twice:
 *
 *   daemon ──fork──▶ middle ──fork──▶ grandchild
 *     │                │ exits           │ waits for a byte
 *     │◀── waitpid ────┘                 │
 *     │ opens a pidfd, writes the pidfile│
 *     │─── the byte ────────────────────▶│ execs
 *
 * When waitpid has returned, the grandchild has init as its parent: nbdkit
 * asks the kernel for a signal when its parent dies, and must not ask for
 * that of the middle process.  The grandchild is there for sure when its
 * pidfd is opened, since it waits.  If the daemon dies before the byte, the
 * grandchild reads the end of the pipe and exits; if after, the pidfile and
 * the id are there for the next daemon.  The daemon's lock on the run
 * directory is inherited up to the exec, so a new daemon does not look before
 * there is something to see.
 *
 * The id goes into the environment of the process: a pid in a file may have
 * come to mean another process, an id in /proc/PID/environ does not.  The
 * pidfd is opened before the id is read and seen alive after: what was read
 * is of the process that the pidfd means.
 *
 * A process that is ending has no environment any more, but may still have its
 * files open and locks on them, which would be in the way of the next one.  It
 * may be ours, so its end is waited for.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broken.h"
#include "process.h"

#define ID_VARIABLE "NBDFLEECE_ID"
#define FIRST_FD 3
#define ENVIRON_MAX (256 * 1024)
#define OUTPUT_MAX 65536
#define END_LIMIT 30000         /* milliseconds, for a process that is ending */
#define FLAG_EXITING 0x4        /* PF_EXITING of the kernel, in /proc/PID/stat */

void
process_default_signals (void)
{
  sigset_t none;
  int s;

  for (s = 1; s < NSIG; s++)
    signal (s, SIG_DFL);        /* fails for some, which cannot be changed */
  signal (SIGXFSZ, SIG_IGN);    /* a limit of files' sizes is an error */
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
}

static int
prepare_environment (const struct spawn *spawn)
{
  char number[16];

  unsetenv ("NOTIFY_SOCKET");
  unsetenv ("JOURNAL_STREAM");
  unsetenv ("WATCHDOG_USEC");
  unsetenv ("LISTEN_FDNAMES");
  unsetenv ("LISTEN_FDS");
  unsetenv ("LISTEN_PID");
  if (spawn->activation) {
    snprintf (number, sizeof number, "%u", spawn->nr_fds - spawn->nr_hidden);
    if (setenv ("LISTEN_FDS", number, 1) == -1)
      return -1;
    snprintf (number, sizeof number, "%d", (int) getpid ());
    if (setenv ("LISTEN_PID", number, 1) == -1)
      return -1;
  }
  return setenv (ID_VARIABLE, spawn->id, 1);
}

/* Puts the descriptors where they belong and marks all others close-on-exec.
 * First they are moved out of the way of each other. */
static int
place_descriptors (const struct spawn *spawn)
{
  int moved[SPAWN_FDS_MAX], error, null;
  unsigned i;

  for (i = 0; i < spawn->nr_fds; i++) {
    moved[i] = fcntl (spawn->fds[i], F_DUPFD_CLOEXEC,
                      FIRST_FD + SPAWN_FDS_MAX);
    if (moved[i] == -1)
      return -1;
  }
  error = fcntl (spawn->stderr_fd, F_DUPFD_CLOEXEC, FIRST_FD + SPAWN_FDS_MAX);
  null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  if (error == -1 || null == -1
      || dup2 (null, STDIN_FILENO) == -1 || dup2 (null, STDOUT_FILENO) == -1
      || dup2 (error, STDERR_FILENO) == -1
      || close_range (FIRST_FD, ~0U, CLOSE_RANGE_CLOEXEC) == -1)
    return -1;
  for (i = 0; i < spawn->nr_fds; i++)
    if (dup2 (moved[i], FIRST_FD + i) == -1)
      return -1;
  return 0;
}

/* Never returns.  status is above all that place_descriptors overwrites. */
static void
grandchild (const struct spawn *spawn, int go, int status)
{
  char byte;
  int err;

  if (read (go, &byte, 1) != 1)
    _exit (0);
  if (setsid () != -1 && place_descriptors (spawn) == 0
      && prepare_environment (spawn) == 0 && confine_rights () == 0
      && (!spawn->is_confined || confine_writes (&spawn->confined) == 0)
      && (BROKEN (NO_DROP) || user_become (spawn->user) == 0)) {
    process_default_signals ();
    umask (077);
    execvp (spawn->argv.v[0], spawn->argv.v);
  }
  err = errno;
  if (write (status, &err, sizeof err) == -1)
    _exit (126);
  _exit (127);
}

/* The middle process; never returns. */
static void
middle (const struct spawn *spawn, int go[2], int status)
{
  pid_t pid = fork ();

  close (go[1]);
  if (pid == 0)
    grandchild (spawn, go[0], status);
  if (write (status, &pid, sizeof pid) != sizeof pid)
    _exit (1);
  _exit (pid == -1);
}

static int
read_int (int fd, int *value)
{
  ssize_t r;

  do
    r = read (fd, value, sizeof *value);
  while (r == -1 && errno == EINTR);
  return r == sizeof *value ? 0 : -1;
}

static int
write_pidfile (const char *path, pid_t pid)
{
  char text[24];

  snprintf (text, sizeof text, "%d\n", (int) pid);
  return write_file (path, text, false);
}

/* The daemon's side, once the middle process has been forked.  Closes go. */
static int
release_grandchild (const struct spawn *spawn, struct process *process,
                    pid_t child, int go, int status)
{
  int pid = -1, err = 0;

  if (read_int (status, &pid) == -1)
    pid = -1;
  while (waitpid (child, NULL, 0) == -1 && errno == EINTR)
    ;
  errno = EAGAIN;
  if (pid == -1)
    goto failed;
  process->pid = pid;
  process->pidfd = pidfd_open (pid, 0);
  if (process->pidfd == -1 || write_pidfile (spawn->pidfile, pid) == -1)
    goto failed;
  if (write (go, "", 1) != 1)
    goto failed;
  close (go);
  go = -1;
  if (read_int (status, &err) == 0) { /* else it was closed by the exec */
    unlink (spawn->pidfile);
    errno = err;
    goto failed;
  }
  return 0;

 failed:
  err = errno;
  if (go != -1)
    close (go);
  process_forget (process);
  errno = err;
  return -1;
}

int
process_spawn (const struct spawn *spawn, struct process *process,
               char *message, size_t size)
{
  int pipes[2] = { -1, -1 }, go[2] = { -1, -1 }, status, r = -1;
  pid_t child;

  *process = (struct process) { .pid = 0, .pidfd = -1 };
  if (pipe2 (pipes, O_CLOEXEC) == -1 || pipe2 (go, O_CLOEXEC) == -1)
    goto out;
  /* Out of the way of the descriptors to hand over. */
  status = fcntl (pipes[1], F_DUPFD_CLOEXEC, FIRST_FD + 2 * SPAWN_FDS_MAX + 1);
  if (status == -1)
    goto out;
  close (pipes[1]);
  pipes[1] = status;

  child = fork ();
  if (child == 0)
    middle (spawn, go, status);
  close (go[0]);
  go[0] = -1;
  close (pipes[1]);
  pipes[1] = -1;
  if (child != -1) {
    r = release_grandchild (spawn, process, child, go[1], pipes[0]);
    go[1] = -1;
  }

 out:
  if (r == -1)
    snprintf (message, size, "cannot start %s: %s", spawn->argv.v[0],
              strerror (errno));
  if (pipes[0] != -1)
    close (pipes[0]);
  if (pipes[1] != -1)
    close (pipes[1]);
  if (go[0] != -1)
    close (go[0]);
  if (go[1] != -1)
    close (go[1]);
  return r;
}

/* Copies the id out of the environment of a process.  0, or -1 and errno. */
static int
read_id (pid_t pid, char id[PROCESS_ID_SIZE])
{
  static const char variable[] = ID_VARIABLE "=";
  char path[64], *environment, *p;
  size_t size;
  int r = -1;

  snprintf (path, sizeof path, "/proc/%d/environ", (int) pid);
  environment = read_file (path, ENVIRON_MAX, &size);
  if (!environment)
    return -1;
  errno = ESRCH;
  for (p = environment; p < environment + size; p += strlen (p) + 1) {
    if (strncmp (p, variable, sizeof variable - 1) == 0
        && strlen (p) - (sizeof variable - 1) < PROCESS_ID_SIZE) {
      strcpy (id, p + sizeof variable - 1);
      r = 0;
      break;
    }
  }
  free (environment);
  return r;
}

/* proc_pid_stat(5): "PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS ..." */
static bool
is_ending (pid_t pid)
{
  char path[64], *text;
  const char *end;
  unsigned flags = 0;

  snprintf (path, sizeof path, "/proc/%d/stat", (int) pid);
  text = read_file (path, ENVIRON_MAX, NULL);
  end = text ? strrchr (text, ')') : NULL;
  if (end && sscanf (end, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
    flags = 0;
  free (text);
  return flags & FLAG_EXITING;
}

static void
wait_for_end (const struct process *process)
{
  struct pollfd p = { .fd = process->pidfd, .events = POLLIN };

  while (poll (&p, 1, END_LIMIT) == -1 && errno == EINTR)
    ;
}

int
process_find (const char *pidfile, const char *prefix,
              struct process *process, char id[PROCESS_ID_SIZE])
{
  char *text = read_file (pidfile, 32, NULL);
  long pid;

  *process = (struct process) { .pid = 0, .pidfd = -1 };
  if (!text)
    return -1;
  pid = strtol (text, NULL, 10);
  free (text);
  errno = ESRCH;
  if (pid <= 1)
    return -1;
  process->pid = pid;
  process->pidfd = pidfd_open (pid, 0);
  if (process->pidfd == -1)
    return -1;
  if (read_id (pid, id) == 0 && strncmp (id, prefix, strlen (prefix)) == 0
      && process_alive (process))
    return 0;
  if (is_ending (pid))
    wait_for_end (process);
  process_forget (process);
  errno = ESRCH;
  return -1;
}

bool
process_alive (const struct process *process)
{
  struct pollfd p = { .fd = process->pidfd, .events = POLLIN };

  return process->pidfd != -1 && poll (&p, 1, 0) == 0;
}

void
process_signal (const struct process *process, int sig)
{
  if (process->pidfd != -1)
    pidfd_send_signal (process->pidfd, sig, NULL, 0);
}

int
process_take_listener (const struct process *process, int fd)
{
  int copy = pidfd_getfd (process->pidfd, fd, 0), listens = 0;
  socklen_t length = sizeof listens;

  if (copy == -1)
    return -1;
  if (getsockopt (copy, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0
      && listens)
    return copy;
  close (copy);
  errno = ENOTSOCK;
  return -1;
}

unsigned
process_take_listeners (const struct process *process, int *fds, unsigned max)
{
  char path[64];
  struct dirent *e;
  unsigned nr = 0;
  DIR *d;
  int fd;

  snprintf (path, sizeof path, "/proc/%d/fd", (int) process->pid);
  d = opendir (path);
  while (d && nr < max && (e = readdir (d))) {
    if (e->d_name[0] == '.')
      continue;
    fd = process_take_listener (process, atoi (e->d_name));
    if (fd != -1)
      fds[nr++] = fd;
  }
  if (d)
    closedir (d);
  return nr;
}

void
process_forget (struct process *process)
{
  if (process->pidfd != -1)
    close (process->pidfd);
  process->pidfd = -1;
  process->pid = 0;
}

/* Reads to the end, for so long.  0, or -1 and errno. */
static int
read_until (int fd, char *text, size_t max, unsigned seconds)
{
  struct timespec now;
  struct pollfd p = { .fd = fd, .events = POLLIN };
  size_t have = 0;
  long long end;
  ssize_t r;

  clock_gettime (CLOCK_MONOTONIC, &now);
  end = now.tv_sec * 1000LL + now.tv_nsec / 1000000 + seconds * 1000LL;
  for (;;) {
    clock_gettime (CLOCK_MONOTONIC, &now);
    long long left = end - now.tv_sec * 1000LL - now.tv_nsec / 1000000;

    if (left <= 0 || poll (&p, 1, left) == 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    r = read (fd, text + have, max - have);
    if (r == 0)
      return 0;
    if (r == -1 && errno != EINTR)
      return -1;
    have += r > 0 ? r : 0;
    if (have == max) {
      errno = EFBIG;
      return -1;
    }
  }
}

/* Runs it with descriptor fd as a pipe.  What came out of that, which the
 * caller frees, and the status to wait for; or NULL with a message. */
static char *
run_and_read (char *const *argv, const struct user *user, int fd,
              unsigned seconds, int *status, char *message, size_t size)
{
  char *text = xcalloc (OUTPUT_MAX + 1, 1);
  int pipes[2], r;
  pid_t pid;

  if (pipe2 (pipes, O_CLOEXEC) == -1 || (pid = fork ()) == -1) {
    snprintf (message, size, "cannot run %s: %s", argv[0], strerror (errno));
    free (text);
    return NULL;
  }
  if (pid == 0) {
    process_default_signals ();
    dup2 (pipes[1], fd);
    if (user_become (user) == -1)
      _exit (126);
    execvp (argv[0], argv);
    _exit (127);
  }
  close (pipes[1]);
  r = read_until (pipes[0], text, OUTPUT_MAX, seconds);
  if (r == -1)
    snprintf (message, size, "%s does not answer: %s", argv[0],
              strerror (errno));
  close (pipes[0]);
  if (r == -1)
    kill (pid, SIGKILL);
  while (waitpid (pid, status, 0) == -1 && errno == EINTR)
    ;
  if (r == 0 && WIFEXITED (*status) && WEXITSTATUS (*status) == 127) {
    snprintf (message, size, "%s is missing", argv[0]);
    r = -1;
  }
  if (r == 0)
    return text;
  free (text);
  return NULL;
}

char *
process_output (char *const *argv, unsigned seconds,
                char *message, size_t size)
{
  int status;
  char *text = run_and_read (argv, NULL, STDOUT_FILENO, seconds, &status,
                             message, size);

  if (!text || (WIFEXITED (status) && WEXITSTATUS (status) == 0))
    return text;
  snprintf (message, size, "%s failed", argv[0]);
  free (text);
  return NULL;
}

int
process_check (char *const *argv, const struct user *user, unsigned seconds,
               char *message, size_t size)
{
  int status, r = 0;
  char *text = run_and_read (argv, user, STDERR_FILENO, seconds, &status,
                             message, size);

  if (!text)
    return -1;
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 0) {
    snprintf (message, size, "%.*s", (int) strcspn (text, "\n"),
              text[0] ? text : "it failed without a word");
    r = -1;
  }
  free (text);
  return r;
}
