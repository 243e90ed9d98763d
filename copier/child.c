/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Child processes that never outlive the copier. */

/* Between the copier and the program stands a guard, a fork of the copier that
 * does nothing but wait:
 *
 *   copier ──▶ guard ──▶ program
 *
 * PR_SET_PDEATHSIG tells the guard when the copier has died, however that
 * came, and kills the program should the guard be killed.  The guard is there
 * since one signal is not enough: qemu-nbd forgets a SIGTERM that comes while
 * it starts, and would then wait for ever for a client that nobody can be.  So
 * the guard asks again and again, and in the end does not ask any more.  That
 * the program may go in order matters: it closes its image then.
 *
 * The death signal counts from the thread that forked, so child_start is for
 * the loop's thread, which is the main one.  Between fork and exec there are
 * other threads, and in the guard always, so only what is safe there is
 * called, and the environment is made before. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "child.h"

/* How often a program is asked to end, and for how long. */
#define ASK_MS 100
#define ASK_MAX_MS 10000
#define STOP_MS (2 * ASK_MAX_MS)

/* Where systemd's protocol puts the first socket. */
#define LISTEN_FD 3

extern char **environ;

/* environ with LISTEN_FDS, and room for LISTEN_PID, which only the child
 * knows.  NULL if there is no memory; free it. */
static char **
make_environment (char *listen_pid)
{
  size_t n = 0, i, j = 0;
  char **env;

  while (environ[n])
    n++;
  env = calloc (n + 3, sizeof *env);
  if (!env)
    return NULL;
  for (i = 0; i < n; i++)
    if (strncmp (environ[i], "LISTEN_", 7) != 0)
      env[j++] = environ[i];
  env[j++] = listen_pid;
  env[j++] = (char *) "LISTEN_FDS=1";
  return env;
}

static void
print_pid (char *s, pid_t pid)
{
  char digits[24];
  int n = 0;

  do
    digits[n++] = '0' + pid % 10;
  while ((pid /= 10) > 0);
  while (n > 0)
    *s++ = digits[--n];
  *s = '\0';
}

struct start {
  char *const *argv;
  char **env;
  char *pid_text;               /* where LISTEN_PID's number goes */
  int socket, err_fd, hold;
};

/* Asks for sig when the process `parent' ends. */
static void
end_with (pid_t parent, int sig)
{
  prctl (PR_SET_PDEATHSIG, sig);
  if (getppid () != parent)     /* it was faster */
    _exit (127);
}

static void
close_from (int fd)
{
  if (syscall (SYS_close_range, fd, ~0u, 0) == 0)
    return;
  for (; fd < 4096; fd++)
    close (fd);
}

static void __attribute__ ((noreturn))
be_program (const struct start *s, pid_t guard)
{
  sigset_t none;
  int null;

  end_with (guard, SIGKILL);
  signal (SIGPIPE, SIG_DFL);
  null = open ("/dev/null", O_RDWR);
  if (null == -1 || dup2 (null, 0) == -1 || dup2 (null, 1) == -1
      || dup2 (s->err_fd, 2) == -1)
    _exit (127);
  if (s->socket != -1) {
    if (s->socket == LISTEN_FD)
      fcntl (LISTEN_FD, F_SETFD, 0);
    else if (dup2 (s->socket, LISTEN_FD) == -1)
      _exit (127);
    print_pid (s->pid_text, getpid ());
  }
  close_from (s->socket != -1 ? LISTEN_FD + 1 : 3);
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
  if (s->socket != -1)
    execvpe (s->argv[0], s->argv, s->env);
  else
    execvp (s->argv[0], s->argv);
  dprintf (2, "%s: %s\n", s->argv[0], strerror (errno));
  _exit (127);
}

/* Ends as the program has ended. */
static void __attribute__ ((noreturn))
end_like (int status)
{
  sigset_t none;

  if (WIFSIGNALED (status)) {
    sigemptyset (&none);
    sigprocmask (SIG_SETMASK, &none, NULL);
    signal (WTERMSIG (status), SIG_DFL);
    raise (WTERMSIG (status));
  }
  _exit (WIFEXITED (status) ? WEXITSTATUS (status) : 127);
}

static void __attribute__ ((noreturn))
be_guard (const struct start *s, pid_t copier)
{
  const struct timespec again = { 0, ASK_MS * 1000000 };
  sigset_t set;
  pid_t pid, self;
  int status, sig, asked = 0;
  bool ending = false;

  sigemptyset (&set);
  sigaddset (&set, SIGTERM);
  sigaddset (&set, SIGCHLD);
  sigprocmask (SIG_SETMASK, &set, NULL);
  end_with (copier, SIGTERM);
  setpgid (0, 0);
  self = getpid ();
  pid = fork ();
  if (pid == 0)
    be_program (s, self);
  if (s->hold != -1)
    dup2 (s->hold, 0);
  close_from (s->hold != -1 ? 1 : 0);
  if (pid == -1)
    _exit (127);
  for (;;) {
    if (waitpid (pid, &status, WNOHANG) == pid)
      end_like (status);
    sig = sigtimedwait (&set, NULL, &again);
    ending = ending || sig == SIGTERM;
    if (ending && sig != SIGCHLD)
      kill (pid, ++asked * ASK_MS < ASK_MAX_MS ? SIGTERM : SIGKILL);
  }
}

int
child_start (struct child *c, char *const argv[], int socket, int hold,
             struct message *why)
{
  char listen_pid[48] = "LISTEN_PID=";
  char **env = make_environment (listen_pid);
  struct start s = {
    .argv = argv, .env = env, .pid_text = listen_pid + strlen (listen_pid),
    .socket = socket, .hold = hold,
  };
  int fds[2];
  pid_t pid, self = getpid ();

  *c = (struct child) { 0, -1 };
  if (!env || pipe2 (fds, O_CLOEXEC) == -1) {
    free (env);
    return message_set (why, "%s: %s", argv[0], strerror (errno));
  }
  s.err_fd = fds[1];
  pid = fork ();
  if (pid == 0)
    be_guard (&s, self);
  close (fds[1]);
  free (env);
  if (pid == -1) {
    close (fds[0]);
    return message_set (why, "%s: %s", argv[0], strerror (errno));
  }
  fcntl (fds[0], F_SETFL, O_NONBLOCK);
  *c = (struct child) { pid, fds[0] };
  return 0;
}

/* Keeps the first line that was said, if there is one, in why; more lines are
 * hints. */
static void
read_errors (struct child *c, struct message *why)
{
  char buf[4096];
  ssize_t n = read (c->err_fd, buf, sizeof buf - 1);

  if (n <= 0)
    return;
  buf[n] = '\0';
  buf[strcspn (buf, "\n")] = '\0';
  if (buf[0])
    message_set (why, "%s", buf);
}

static int
reap (struct child *c, int status, struct message *why)
{
  int r = WIFEXITED (status) && WEXITSTATUS (status) == 0 ? 0 : -1;

  if (r == -1 && why) {
    if (WIFSIGNALED (status))
      message_set (why, "ended by signal %d", WTERMSIG (status));
    else
      message_set (why, "ended with status %d", WEXITSTATUS (status));
    read_errors (c, why);
    errno = EIO;
  }
  close (c->err_fd);
  *c = (struct child) { 0, -1 };
  return r;
}

int
child_wait (struct child *c, struct message *why)
{
  int status;

  while (waitpid (c->pid, &status, 0) == -1)
    if (errno != EINTR)
      return message_set (why, "%s", strerror (errno));
  return reap (c, status, why);
}

void
child_stop (struct child *c)
{
  int status, waited;

  if (c->pid <= 0)
    return;
  kill (c->pid, SIGTERM);
  for (waited = 0; waitpid (c->pid, &status, WNOHANG) == 0; waited += 10) {
    if (waited == STOP_MS)
      kill (c->pid, SIGKILL);
    poll (NULL, 0, 10);
  }
  reap (c, status, NULL);
}
