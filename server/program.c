/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Running a program, its time limit, and what it has to say. */

/* The program is a child of the daemon, unlike the processes of process.c: its
 * status is what is asked for.  A pidfd tells of its end, so that nobody else
 * who waits for children is disturbed.  A daemon that starts while a child of
 * one that was killed has not reached its exec yet waits for the lock, which
 * the child has inherited up to there.
 *
 * When the time is up:
 *
 *   RUNNING ──limit──▶ ENDING ──1 s──▶ KILLED ──5 s──▶ given up
 *              SIGTERM         SIGKILL
 *
 * The signals go to the process group, and SIGKILL once more just before the
 * leader is waited for, as long as its zombie keeps the number of the group
 * from being used again: of a program that was stopped nothing is left, but
 * what has left its group.  One that ended by itself may have left something
 * running on purpose, which is let alone.  A process that SIGKILL does not end
 * hangs in the kernel; whoever waits is told, and the rest is cleared up when
 * it ends.
 *
 * Output comes through a pipe that is read as long as the program runs, so
 * that it never waits for us for long; lines beyond a limit are not logged.
 * Why an exec failed comes through a second pipe.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "logpipe.h"
#include "process.h"
#include "program.h"
#include "units.h"
#include "util.h"

#define TERM_GRACE 1.0          /* seconds */
#define KILL_GRACE 5.0
#define OUTPUT_LINES 100
#define REASON_MAX 200          /* bytes of the last line */
#define LAST_READS 8            /* a full pipe has no more */

enum program_phase { RUNNING, ENDING, KILLED };

struct program {
  struct ev_loop *loop;
  program_ended ended;          /* NULL: has been called */
  void *opaque;
  char *label;
  uint64_t timeout_ms;
  pid_t pid;                    /* -1: could not even be forked */
  int pidfd, status_fd;
  int start_error;              /* errno, if pid is -1 */
  const char *stopped;          /* why, or NULL */
  enum program_phase phase;
  ev_io exited;
  ev_timer limit;
  struct logpipe output;
};

/* What an exec needs.  No allocation: other threads of ours may have been in
 * the middle of one. */
static void
child (const struct program_params *params, int output, int status)
{
  int null = open ("/dev/null", O_RDONLY | O_CLOEXEC), err;

  if (null != -1 && setsid () != -1 && chdir ("/") == 0
      && dup2 (null, STDIN_FILENO) != -1 && dup2 (output, STDOUT_FILENO) != -1
      && dup2 (output, STDERR_FILENO) != -1
      && close_range (STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0) {
    process_default_signals ();
    umask (077);
    execve (params->argv[0], params->argv, params->env);
  }
  err = errno;
  if (write (status, &err, sizeof err) == -1)
    _exit (126);
  _exit (127);
}

/* 0 with both reading ends, or -1 and errno. */
static int
make_pipes (int output[2], int status[2])
{
  int err;

  if (pipe2 (output, O_CLOEXEC) == -1)
    return -1;
  if (pipe2 (status, O_CLOEXEC | O_NONBLOCK) == 0) {
    fcntl (output[0], F_SETFL, O_NONBLOCK);
    return 0;
  }
  err = errno;
  close (output[0]);
  close (output[1]);
  errno = err;
  return -1;
}

/* 0, or -1 and errno. */
static int
fork_child (struct program *p, const struct log *log,
            const struct program_params *params)
{
  int output[2], status[2], err;

  if (make_pipes (output, status) == -1)
    return -1;
  p->pid = fork ();
  if (p->pid == 0)
    child (params, output[1], status[1]);
  err = errno;
  close (output[1]);
  close (status[1]);
  p->status_fd = status[0];
  logpipe_attach (&p->output, p->loop, log, p->label, output[0],
                  OUTPUT_LINES);
  if (p->pid == -1) {
    errno = err;
    return -1;
  }
  p->pidfd = pidfd_open (p->pid, 0);
  if (p->pidfd != -1)
    return 0;
  err = errno;                  /* no descriptors left, most likely */
  kill (p->pid, SIGKILL);
  waitpid (p->pid, NULL, 0);
  p->pid = -1;
  errno = err;
  return -1;
}

static void
signal_group (const struct program *p, int sig)
{
  if (p->pid > 0 && kill (-p->pid, sig) == -1)
    kill (p->pid, sig);         /* it has not become a leader yet */
}

/* What others wrote goes into JSON, which has to be UTF-8 throughout. */
static void
make_plain (char *text)
{
  for (; *text; text++)
    if ((unsigned char) *text < 0x20 || (unsigned char) *text >= 0x7f)
      *text = '?';
}

/* Calls ended.  what: in a few words; NULL: all is well. */
static void
tell (struct program *p, const char *what)
{
  program_ended ended = p->ended;
  char *why = NULL;

  p->ended = NULL;
  if (!ended)
    return;
  make_plain (p->output.last);
  if (what)
    why = xasprintf ("%s%s%.*s", what, p->output.last[0] ? ": " : "",
                     REASON_MAX, p->output.last);
  ended (p->opaque, why);
  free (why);
}

static char *
describe_end (const struct program *p, const siginfo_t *info)
{
  char limit[UNITS_SIZE];
  int err;

  if (p->pid == -1)
    return xasprintf ("cannot be started: %s", strerror (p->start_error));
  if (read (p->status_fd, &err, sizeof err) == sizeof err)
    return xasprintf ("cannot be started: %s", strerror (err));
  if (p->stopped)
    return xstrdup (p->stopped);
  if (p->phase != RUNNING)
    return xasprintf ("took longer than %s", units_time (p->timeout_ms,
                                                         limit));
  if (info->si_code != CLD_EXITED)
    return xasprintf ("was ended by signal %d", info->si_status);
  return info->si_status == 0 ? NULL
    : xasprintf ("ended with status %d", info->si_status);
}

static void
free_program (struct program *p)
{
  ev_io_stop (p->loop, &p->exited);
  ev_timer_stop (p->loop, &p->limit);
  logpipe_close (&p->output);
  if (p->pidfd != -1)
    close (p->pidfd);
  if (p->status_fd != -1)
    close (p->status_fd);
  free (p->label);
  free (p);
}

static void
finish (struct program *p, const siginfo_t *info)
{
  char *what;
  int i;

  ev_timer_stop (p->loop, &p->limit);
  for (i = 0; i < LAST_READS; i++)
    logpipe_drain (&p->output);
  logpipe_finish (&p->output);
  what = describe_end (p, info);
  tell (p, what);
  free (what);
  free_program (p);
}

static void
has_exited (struct ev_loop *loop, ev_io *w, int revents)
{
  struct program *p = w->data;
  siginfo_t info = { 0 };

  (void) loop;
  (void) revents;
  if (p->phase != RUNNING)
    signal_group (p, SIGKILL);
  if (waitid (P_PID, p->pid, &info, WEXITED | WNOHANG) == -1
      || info.si_pid == p->pid)
    finish (p, &info);
}

static void
set_limit (struct program *p, double seconds)
{
  ev_timer_stop (p->loop, &p->limit);
  ev_timer_set (&p->limit, seconds, 0);
  ev_timer_start (p->loop, &p->limit);
}

static void
time_is_up (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct program *p = w->data;
  const siginfo_t none = { 0 };

  (void) loop;
  (void) revents;
  if (p->pid == -1)
    finish (p, &none);
  else if (p->phase == RUNNING) {
    p->phase = ENDING;
    signal_group (p, SIGTERM);
    set_limit (p, TERM_GRACE);
  }
  else if (p->phase == ENDING) {
    p->phase = KILLED;
    signal_group (p, SIGKILL);
    set_limit (p, KILL_GRACE);
  }
  else
    tell (p, "took too long and cannot be killed");
}

struct program *
program_start (struct ev_loop *loop, const struct log *log,
               const struct program_params *params, program_ended ended,
               void *opaque)
{
  struct program *p = xcalloc (1, sizeof *p);

  *p = (struct program) {
    .loop = loop, .ended = ended, .opaque = opaque,
    .label = xstrdup (params->label), .timeout_ms = params->timeout_ms,
    .pid = -1, .pidfd = -1, .status_fd = -1,
  };
  p->output.fd = -1;
  ev_init (&p->exited, has_exited);
  ev_init (&p->limit, time_is_up);
  p->exited.data = p->limit.data = p;
  if (fork_child (p, log, params) == -1) {
    p->start_error = errno;
    set_limit (p, 0);
    return p;
  }
  ev_io_set (&p->exited, p->pidfd, EV_READ);
  ev_io_start (loop, &p->exited);
  ev_now_update (loop);
  set_limit (p, params->timeout_ms / 1000.0);
  return p;
}

void
program_stop (struct program *p, const char *reason)
{
  if (p->phase != RUNNING || p->pid == -1)
    return;
  p->stopped = reason;
  set_limit (p, 0);
}

/* ------------------------------------------------------------ environment */

static bool
has_name (const char *variable, const char *name)
{
  const size_t length = strcspn (name, "=");

  return strncmp (variable, name, length) == 0 && variable[length] == '=';
}

static bool
is_left_out (const char *variable, const char *const *more, unsigned n)
{
  static const char *const own[] = {
    "NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "WATCHDOG_PID",
    "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID",
  };
  size_t i;

  for (i = 0; i < sizeof own / sizeof own[0]; i++)
    if (has_name (variable, own[i]))
      return true;
  for (i = 0; i < n; i++)
    if (has_name (variable, more[i]))
      return true;
  return false;
}

char **
environment_with (const char *const *more, unsigned n)
{
  struct strings all = { NULL, 0 };
  char **variable;
  unsigned i;

  for (variable = environ; *variable; variable++)
    if (!is_left_out (*variable, more, n))
      strings_add (&all, "%s", *variable);
  for (i = 0; i < n; i++)
    strings_add (&all, "%s", more[i]);
  return all.v;
}

void
environment_free (char **env)
{
  struct strings all = { env, 0 };

  while (env && env[all.nr])
    all.nr++;
  strings_free (&all);
}
