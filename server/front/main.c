/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* nbdfleece-front: starting, reloading and ending. */

/* One process, one thread, one loop.  It is told what to do by options and a
 * file (settings.c), keeps nothing on disk, and may be killed at any time:
 * clients connect again, and find the same snapshots.
 *
 *   SIGHUP             reads the options again; connections stay
 *   SIGTERM, SIGINT    ends: what clients have asked for is still answered, as
 *                      far as that takes no longer than STOP_TIME; then all
 *                      take leave of the backend (client.c), which gets
 *                      LEAVE_TIME
 *
 * The log goes to stderr, which may be a pipe that nobody reads: nothing waits
 * for it, and no client can fill it.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <gnutls/gnutls.h>

#include "guard.h"
#include "loop.h"
#include "status.h"

#define FIRST_FD 3              /* of LISTEN_FDS */
#define INHERITED_MAX 64
#define STOP_TIME 4.0           /* seconds */
#define LEAVE_TIME 4.0
#define TICK 1.0
#define LINES_PER_SECOND 50     /* of the log */
#define FDS_PER_CLIENT 5        /* client, backend, pipe, scratch */
#define FDS_BESIDES 64

struct program {
  struct front front;           /* first: the callbacks cast */
  int argc;
  char *const *argv;
  struct ev_loop *loop;
  struct settings *settings;
  struct listeners *listeners;
  struct report *report;
  ev_signal hangup, terminate, interrupt;
  ev_timer tick, stop;
  bool leaving;                 /* STOP_TIME is over */
  double log_second;            /* in which we counted */
  unsigned log_lines, log_left_out;
};

/* ---------------------------------------------------------------------- log */

static void
write_line (int level, const char *text)
{
  const char *word = level <= LOG_ERR ? "error: "
    : level == LOG_WARNING ? "warning: " : level == LOG_DEBUG ? "debug: " : "";
  char line[1024], *p;

  snprintf (line, sizeof line, "nbdfleece-front: %s%s", word, text);
  for (p = line; *p; p++)
    if ((unsigned char) *p < ' ' || *p == 127)
      *p = ' ';
  fprintf (stderr, "%s\n", line);
}

static void
log_text (struct front *front, int level, const char *text)
{
  struct program *p = (struct program *) front;
  char lost[64];

  if (level > (front->settings->verbose ? LOG_DEBUG : LOG_INFO))
    return;
  if (front->now - p->log_second >= 1) {
    if (p->log_left_out > 0) {
      snprintf (lost, sizeof lost, "%u messages were left out",
                p->log_left_out);
      write_line (LOG_WARNING, lost);
    }
    p->log_second = front->now;
    p->log_lines = p->log_left_out = 0;
  }
  if (++p->log_lines > LINES_PER_SECOND)
    p->log_left_out++;
  else
    write_line (level, text);
}

void
front_log (struct front *front, int level, const char *fmt, ...)
{
  char text[900];
  va_list ap;
  int err = errno;

  if (!front->log)
    return;
  va_start (ap, fmt);
  errno = err;                  /* for %m */
  vsnprintf (text, sizeof text, fmt, ap);
  va_end (ap);
  front->log (front, level, text);
  errno = err;
}

/* ------------------------------------------------------------------ backend */

static int
connect_backend (struct front *front, struct channel *ch)
{
  struct sockaddr_un sa = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int err;

  if (fd == -1)
    return -1;
  strcpy (sa.sun_path, front->settings->backend);
  if (connect (fd, (struct sockaddr *) &sa, sizeof sa) == 0) {
    channel_of_socket (ch, fd);
    return 0;
  }
  err = errno;
  close (fd);
  errno = err;
  return -1;
}

/* ------------------------------------------------------------------- signals */

static void
reload (struct ev_loop *loop, ev_signal *w, int revents)
{
  struct program *p = w->data;
  struct settings *next;
  char why[SETTINGS_WHY];

  (void) loop;
  (void) revents;
  loop_now (&p->front);
  p->front.reloads++;
  if (settings_read (p->argc, p->argv, &next, why) != SETTINGS_OK
      || !settings_can_replace (p->settings, next, why)
      || listeners_configure (p->listeners, next, why, sizeof why) == -1) {
    front_log (&p->front, LOG_ERR, "nothing has changed: %s", why);
    snprintf (p->front.refusal, sizeof p->front.refusal, "%s", why);
    settings_free (next);
    return;
  }
  p->front.refusal[0] = '\0';
  p->front.settings = next;
  settings_free (p->settings);
  p->settings = next;
  front_log (&p->front, LOG_INFO, "the options were read again");
}

static void
leave (struct program *p)
{
  ev_break (p->loop, EVBREAK_ALL);
}

/* No answer is waited for any more, but a backend that is in the middle of one
 * is not cut off. */
static void
stop_soon (struct program *p)
{
  if (p->leaving) {
    leave (p);
    return;
  }
  p->leaving = true;
  loop_now (&p->front);
  loop_end_all (p->loop, &p->front);
  ev_timer_stop (p->loop, &p->stop);
  ev_timer_set (&p->stop, LEAVE_TIME, 0);
  ev_timer_start (p->loop, &p->stop);
}

static void
stop_time_is_over (struct ev_loop *loop, ev_timer *w, int revents)
{
  (void) loop;
  (void) revents;
  stop_soon (w->data);
}

static void
stop (struct ev_loop *loop, ev_signal *w, int revents)
{
  struct program *p = w->data;

  (void) revents;
  if (p->front.stopping) {
    stop_soon (p);
    return;
  }
  p->front.stopping = true;
  listeners_free (p->listeners);
  p->listeners = NULL;
  loop_now (&p->front);
  loop_shut_down (loop, &p->front);
  ev_signal_stop (loop, &p->hangup);
  ev_timer_set (&p->stop, STOP_TIME, 0);
  ev_timer_start (loop, &p->stop);
  ev_timer_again (loop, &p->tick);
  if (p->front.nr_clients == 0)
    leave (p);
}

/* Often enough for time limits in seconds; soon, when we are to end. */
static void
tick (struct ev_loop *loop, ev_timer *w, int revents)
{
  struct program *p = w->data;

  (void) revents;
  loop_tick (loop, &p->front);
  if (p->front.stopping && p->front.nr_clients == 0)
    leave (p);
  w->repeat = p->front.stopping ? TICK / 20 : TICK;
  ev_timer_again (loop, w);
}

static void
watch_signals (struct program *p)
{
  signal (SIGPIPE, SIG_IGN);
  ev_signal_init (&p->hangup, reload, SIGHUP);
  ev_signal_init (&p->terminate, stop, SIGTERM);
  ev_signal_init (&p->interrupt, stop, SIGINT);
  ev_timer_init (&p->tick, tick, TICK, TICK);
  ev_timer_init (&p->stop, stop_time_is_over, STOP_TIME, 0);
  p->hangup.data = p->terminate.data = p->interrupt.data = p;
  p->tick.data = p->stop.data = p;
  ev_signal_start (p->loop, &p->hangup);
  ev_signal_start (p->loop, &p->terminate);
  ev_signal_start (p->loop, &p->interrupt);
  ev_timer_start (p->loop, &p->tick);
}

/* ---------------------------------------------------------------------- start */

static unsigned
number_of (const char *variable)
{
  const char *text = getenv (variable);

  return text ? strtoul (text, NULL, 10) : 0;
}

/* How many listening sockets we were given, from FIRST_FD on. */
static unsigned
inherited_sockets (void)
{
  unsigned n = number_of ("LISTEN_FDS"), i;

  if (number_of ("LISTEN_PID") != (unsigned) getpid () || n > INHERITED_MAX)
    n = 0;
  unsetenv ("LISTEN_FDS");
  unsetenv ("LISTEN_PID");
  unsetenv ("LISTEN_FDNAMES");
  for (i = 0; i < n; i++) {
    fcntl (FIRST_FD + i, F_SETFD, FD_CLOEXEC);
    fcntl (FIRST_FD + i, F_SETFL, O_NONBLOCK);
  }
  return n;
}

/* The last of them may be the one that we answer at; then it is none of the
 * others.  -1 if it is not. */
static int
inherited_status (const struct program *p, unsigned *nr)
{
  struct sockaddr_un sa = { .sun_family = AF_UNIX };
  socklen_t len = sizeof sa;
  int fd = FIRST_FD + (int) *nr - 1;

  if (*nr == 0 || !p->settings->status
      || getsockname (fd, (struct sockaddr *) &sa, &len) == -1
      || sa.sun_family != AF_UNIX
      || strncmp (sa.sun_path, p->settings->status, sizeof sa.sun_path) != 0)
    return -1;
  --*nr;
  return fd;
}

static void
raise_limits (struct program *p)
{
  rlim_t need = p->settings->max_connections * FDS_PER_CLIENT + FDS_BESIDES;
  struct rlimit l;

  if (getrlimit (RLIMIT_NOFILE, &l) == -1 || l.rlim_cur >= need)
    return;
  l.rlim_cur = l.rlim_max < need ? l.rlim_max : need;
  setrlimit (RLIMIT_NOFILE, &l);
  if (l.rlim_cur < need)
    front_log (&p->front, LOG_WARNING, "%llu connections may need %llu "
               "descriptors, and %llu are allowed",
               (unsigned long long) p->settings->max_connections,
               (unsigned long long) need, (unsigned long long) l.rlim_cur);
}

static int
failed (const char *what, const char *why)
{
  char text[SETTINGS_WHY * 2];

  snprintf (text, sizeof text, "%s%s%s", what ? what : "", what ? ": " : "",
            why);
  write_line (LOG_ERR, text);
  return -1;
}

static int
set_up (struct program *p)
{
  struct front *f = &p->front;
  char why[SETTINGS_WHY];
  unsigned nr = inherited_sockets ();
  int status = inherited_status (p, &nr);

  f->settings = p->settings;
  f->connect = connect_backend;
  f->log = log_text;
  TAILQ_INIT (&f->clients);
  LIST_INIT (&f->pulls);
  loop_now (f);
  f->state_dir = open (p->settings->state,
                       O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (f->state_dir == -1)
    return failed (p->settings->state, strerror (errno));
  p->loop = ev_default_loop (EVFLAG_NOSIGMASK);
  if (!p->loop)
    return failed (NULL, "there is no event loop");
  raise_limits (p);
  p->listeners = listeners_new (p->loop, f, FIRST_FD, nr);
  if (!p->listeners)
    return failed (NULL, "no memory");
  if (listeners_configure (p->listeners, p->settings, why, sizeof why) == -1)
    return failed (NULL, why);
  if (p->settings->status) {
    p->report = report_new (p->loop, f, p->settings->status, status);
    if (!p->report)
      return failed (p->settings->status, strerror (errno));
  }
  watch_signals (p);
  return 0;
}

static void
tear_down (struct program *p)
{
  listeners_free (p->listeners);
  if (p->loop)
    loop_drop_all (p->loop, &p->front);
  report_free (p->report);
  if (p->front.state_dir > 0)
    close (p->front.state_dir);
  if (p->loop)
    ev_loop_destroy (p->loop);
  settings_free (p->settings);
}

/* What can be wrong with the options and can be seen without opening a
 * socket. */
static int
check_files (const struct settings *s)
{
  struct tls_context *tls;
  char why[SETTINGS_WHY];
  size_t i;

  for (i = 0; i < s->nr_listen; i++) {
    if (s->listen[i].tls == TLS_OFF)
      continue;
    tls = tls_context_new (s->listen[i].certificates, s->listen[i].psk, why,
                           sizeof why);
    if (!tls)
      return failed (NULL, why);
    tls_context_unref (tls);
  }
  return 0;
}

int
main (int argc, char *argv[])
{
  struct program p = { .argc = argc, .argv = argv };
  char why[SETTINGS_WHY];
  int status = EXIT_SUCCESS;

  setvbuf (stderr, NULL, _IOLBF, 0);
  switch (settings_read (argc, argv, &p.settings, why)) {
  case SETTINGS_EXIT:
    return EXIT_SUCCESS;
  case SETTINGS_BAD:
    failed (NULL, why);
    return 2;
  case SETTINGS_OK:
    break;
  }
  if (p.settings->check) {
    status = check_files (p.settings) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    settings_free (p.settings);
    return status;
  }
  prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  guard_install ();
  if (set_up (&p) == 0)
    ev_run (p.loop, 0);
  else
    status = EXIT_FAILURE;
  tear_down (&p);
  return status;
}
