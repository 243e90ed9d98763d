/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The servers: three nbdkits (export, plugin, backend) and the front. */

/* Each listens on a socket that the harness made and keeps (as the daemon
 * does), so that clients of a server that was killed wait for the next one in
 * its place.  Only the main thread starts processes: a child dies with the
 * thread that made it. */

#include <config.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oracle.h"

#define ARGS_MAX 40

static void
add (struct server *s, const char *arg)
{
  unsigned n;

  for (n = 0; s->argv[n]; n++)
    ;
  if (n == ARGS_MAX - 1)
    die ("too many arguments");
  s->argv[n] = arg;
}

static const char *
needed (const char *variable)
{
  const char *value = getenv (variable);

  if (!value)
    die ("$%s is not set: use tests/run", variable);
  return value;
}

static void
prepare (struct oracle *o, struct server *s, const char *name)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };

  s->name = name;
  snprintf (s->socket, sizeof s->socket, "%s/%s.sock", o->opt.dir, name);
  snprintf (s->log, sizeof s->log, "%s/%s.log", o->opt.dir, name);
  if (strlen (s->socket) >= sizeof addr.sun_path)
    die ("%s: too long", s->socket);
  strcpy (addr.sun_path, s->socket);
  s->listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (s->listener == -1
      || bind (s->listener, (struct sockaddr *) &addr, sizeof addr) == -1
      || listen (s->listener, 128) == -1)
    die ("%s: %m", s->socket);
  s->argv = xcalloc (ARGS_MAX, sizeof *s->argv);
  /* The shell is there to put its own pid into the environment.  */
  add (s, "/bin/sh");
  add (s, "-c");
  add (s, "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"");
  add (s, "sh");
}

static void
prepare_nbdkit (struct oracle *o, struct server *s, const char *name)
{
  const char *nbdkit = getenv ("NBDKIT");

  prepare (o, s, name);
  add (s, nbdkit ? nbdkit : "nbdkit");
  add (s, "-f");
}

static void
prepare_front (struct oracle *o)
{
  struct server *s = &o->front;

  prepare (o, s, "front");
  add (s, needed ("NBDFLEECE_FRONT"));
  add (s, "--state");
  add (s, o->state);
  add (s, "--backend");
  add (s, o->plugin.socket);
  add (s, "--listen");
  add (s, xprintf ("unix:%s", s->socket));
}

struct server *
pulled_from (struct oracle *o)
{
  return o->opt.front ? &o->front : &o->plugin;
}

static void
add_backend (struct oracle *o, struct server *s, const char *disk)
{
  const struct options *opt = &o->opt;

  if (strcmp (opt->backend, "memory") == 0) {
    add (s, "memory");
    add (s, xprintf ("%llu", (unsigned long long) opt->size));
  }
  else if (strcmp (opt->backend, "nbd") == 0) {
    add (s, "nbd");
    add (s, xprintf ("socket=%s", o->backend.socket));
  }
  else if (strcmp (opt->backend, "file") == 0) {
    add (s, "file");
    add (s, xprintf ("file=%s", disk));
  }
  else
    die ("backend=%s: unknown", opt->backend);
}

static void
add_filters (struct oracle *o, struct server *s)
{
  const struct options *opt = &o->opt;

  if (opt->filter)
    add (s, xprintf ("--filter=%s", needed ("NBDFLEECE_FILTER")));
  if (opt->jitter)
    add (s, xprintf ("--filter=%s", needed ("NBDFLEECE_JITTER")));
  if (opt->delay)
    add (s, "--filter=delay");
}

static void
add_parameters (struct oracle *o, struct server *s)
{
  const struct options *opt = &o->opt;

  if (opt->filter) {
    add (s, "fleece-export=" EXPORT);
    add (s, xprintf ("fleece-state=%s", o->export_dir));
    add (s, xprintf ("fleece-control=%s", o->control));
    add (s, "fleece-id=oracle");
    add (s, xprintf ("fleece-trim=%s", opt->trim));
    add (s, xprintf ("fleece-on-cow-error=%s", opt->on_cow_error));
  }
  if (opt->filter && opt->scratch_limit)
    add (s, xprintf ("fleece-scratch-limit=%llu",
                     (unsigned long long) opt->scratch_limit));
  if (opt->filter && opt->cow_timeout)
    add (s, xprintf ("fleece-cow-timeout=%llums",
                     (unsigned long long) opt->cow_timeout));
  if (opt->jitter) {
    add (s, xprintf ("jitter=%llu", (unsigned long long) opt->jitter));
    add (s, xprintf ("jitter-seed=%llu", (unsigned long long) o->seed >> 16));
  }
  if (opt->delay) {
    add (s, xprintf ("rdelay=%llums", (unsigned long long) opt->delay));
    add (s, xprintf ("wdelay=%llums", (unsigned long long) opt->delay));
  }
}

static void
make_dir (const char *path)
{
  if (mkdir (path, 0700) == -1)
    die ("%s: %m", path);
}

void
servers_prepare (struct oracle *o)
{
  const char *dir = o->opt.dir, *disk = xprintf ("%s/disk", dir);
  int fd = open (disk, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

  if (fd == -1 || ftruncate (fd, o->opt.size) == -1)
    die ("%s: %m", disk);
  close (fd);
  snprintf (o->state, sizeof o->state, "%s/state", dir);
  snprintf (o->export_dir, sizeof o->export_dir, "%s/exports/%s", o->state,
            EXPORT);
  snprintf (o->control, sizeof o->control, "%s/export.ctl", dir);
  make_dir (o->state);
  make_dir (xprintf ("%s/exports", o->state));
  make_dir (o->export_dir);

  prepare_nbdkit (o, &o->backend, "backend");
  add (&o->backend, "file");
  add (&o->backend, xprintf ("file=%s", disk));

  prepare_nbdkit (o, &o->export, "export");
  add_filters (o, &o->export);
  add_backend (o, &o->export, disk);
  add_parameters (o, &o->export);
  if (strcmp (o->opt.backend, "file") == 0)
    snprintf (o->live, sizeof o->live, "file:%s", disk);
  else
    snprintf (o->live, sizeof o->live, "nbd+unix:///" EXPORT "?socket=%s",
              o->export.socket);

  prepare_nbdkit (o, &o->plugin, "plugin");
  add (&o->plugin, "-r");
  add (&o->plugin, needed ("NBDFLEECE_PLUGIN"));
  add (&o->plugin, xprintf ("dir=%s", o->state));
  if (o->opt.front)
    prepare_front (o);
}

void
server_start (struct server *s)
{
  pid_t parent = getpid ();
  int log;

  s->pid = fork ();
  if (s->pid == -1)
    die ("fork: %m");
  if (s->pid > 0)
    return;
  log = open (s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log == -1 || dup2 (log, 1) == -1 || dup2 (log, 2) == -1
      || dup2 (s->listener, 3) == -1 || fcntl (3, F_SETFD, 0) == -1)
    _exit (126);
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (getppid () != parent)
    _exit (126);
  execv (s->argv[0], (char **) s->argv);
  _exit (127);
}

static bool
log_has (const struct server *s, const char *text, char *line, int size)
{
  FILE *f = fopen (s->log, "r");
  bool found = false;

  while (f && !found && fgets (line, size, f))
    found = strstr (line, text) != NULL;
  if (f)
    fclose (f);
  return found;
}

/* nbdkit before 1.33.10 aborts when a client dies with several requests in
 * flight, as the export does to the backend and the front to the plugin. */
static bool
known_abort (const struct server *s, int status)
{
  char line[1000];

  return WIFSIGNALED (status) && WTERMSIG (status) == SIGABRT
    && strcmp (s->name, "export") != 0
    && log_has (s, "raw_send_socket: Assertion", line, sizeof line);
}

/* SIGKILL is meant to be seen; after SIGTERM it must end by itself. */
void
server_kill (struct server *s, int sig)
{
  int status;

  if (s->pid == 0)
    return;
  atomic_fetch_add (&s->generation, 1);
  kill (s->pid, sig);
  if (waitpid (s->pid, &status, 0) != s->pid)
    die ("waitpid: %m");
  s->pid = 0;
  atomic_fetch_add (&s->generation, 1);
  if (sig == SIGKILL && WIFSIGNALED (status) && WTERMSIG (status) == SIGKILL)
    return;
  if (known_abort (s, status))
    return;
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 0)
    die ("%s ended with status %#x", s->name, status);
}

static void
show_log (struct server *s)
{
  char line[1000];
  FILE *f = fopen (s->log, "r");

  if (!f)
    return;
  fprintf (stderr, "--- %s\n", s->log);
  if (fseek (f, -6000, SEEK_END) == 0 && !fgets (line, sizeof line, f))
    line[0] = '\0';
  while (fgets (line, sizeof line, f))
    fputs (line, stderr);
  fclose (f);
}

static void
check_log (struct server *s)
{
  char line[1000];

  if (log_has (s, "Sanitizer", line, sizeof line)
      || log_has (s, "runtime error:", line, sizeof line))
    die ("%s: %s", s->name, line);
}

void
servers_abandon (void *opaque)
{
  struct oracle *o = opaque;
  struct server *all[] = { &o->export, &o->plugin, &o->front, &o->backend };
  unsigned i;

  for (i = 0; i < 4; i++) {
    if (all[i]->pid)
      kill (all[i]->pid, SIGKILL);
    show_log (all[i]);
  }
}

void
servers_finish (struct oracle *o)
{
  struct server *all[] = { &o->front, &o->plugin, &o->export, &o->backend };
  unsigned i, n;

  for (i = 0; i < 4; i++) {
    if (!all[i]->argv)
      continue;
    server_kill (all[i], SIGTERM);
    check_log (all[i]);
    close (all[i]->listener);
    for (n = 0; all[i]->argv[n]; n++)
      ;                         /* the words are let go with the process */
    free (all[i]->argv);
  }
}

struct nbd_handle *
server_connect (struct server *s, const char *export_name)
{
  struct nbd_handle *nbd = nbd_create ();

  if (!nbd)
    die ("nbd_create: %s", nbd_get_error ());
  nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION);
  nbd_set_export_name (nbd, export_name);
  if (nbd_connect_unix (nbd, s->socket) == 0)
    return nbd;
  nbd_close (nbd);
  return NULL;
}
