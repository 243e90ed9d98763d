/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* nbdfleeced: the command line, and going to the background. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"

enum { EXIT_USAGE = 2 };

#define DEFAULT_CONFIG SYSCONFDIR "/nbdfleece/nbdfleece.yaml"

struct options {
  bool foreground, check_only;
  int verbose;
  const char *config_path;
};

static void
usage (FILE *out)
{
  fprintf (out,
           "usage: nbdfleeced [-f] [-n] [-v] [-c FILE]\n"
           "  -c, --config FILE   configuration (default " DEFAULT_CONFIG ")\n"
           "  -f, --foreground    do not go to the background\n"
           "  -n, --check         check the configuration and end\n"
           "  -v, --verbose       say more; twice: nbdkit, too\n"
           "  -V, --version       print the version and end\n"
           "      --help          print this and end\n"
           "      --help-config   describe the configuration and end\n");
}

/* Returns -1, or the status to end with. */
static int
parse_options (int argc, char *argv[], struct options *o)
{
  enum { HELP = 256, HELP_CONFIG };
  static const struct option longs[] = {
    { "config", required_argument, NULL, 'c' },
    { "foreground", no_argument, NULL, 'f' },
    { "check", no_argument, NULL, 'n' },
    { "verbose", no_argument, NULL, 'v' },
    { "version", no_argument, NULL, 'V' },
    { "help", no_argument, NULL, HELP },
    { "help-config", no_argument, NULL, HELP_CONFIG },
    { 0 },
  };
  int c;

  *o = (struct options) { .config_path = DEFAULT_CONFIG };
  while ((c = getopt_long (argc, argv, "c:fnvV", longs, NULL)) != -1) {
    switch (c) {
    case 'c': o->config_path = optarg; break;
    case 'f': o->foreground = true; break;
    case 'n': o->check_only = true; break;
    case 'v': o->verbose++; break;
    case 'V': puts (PACKAGE_STRING); return 0;
    case HELP: usage (stdout); return 0;
    case HELP_CONFIG: config_help (stdout); return 0;
    default: usage (stderr); return EXIT_USAGE;
    }
  }
  if (optind == argc)
    return -1;
  fprintf (stderr, "nbdfleeced: unexpected argument: %s\n", argv[optind]);
  usage (stderr);
  return EXIT_USAGE;
}

/* Reads the file and checks it and the system.  0, or the status to end
 * with. */
static int
load (struct daemon *d)
{
  struct config_errors errors = { 0 };
  struct failure failure;
  size_t i;

  d->config = config_load (d->config_path, &errors);
  for (i = 0; !d->config && i < errors.nr; i++)
    fprintf (stderr, "nbdfleeced: %s\n", errors.text[i]);
  config_errors_free (&errors);
  if (!d->config)
    return 1;
  if (user_find (d->config, &d->user, &failure) == 0
      && setup_check (d->config, &d->user, &failure) == 0
      && programs_find (&d->programs, d->config, &failure) == 0
      && setup_check_backup (d->config, &d->programs, &d->user,
                             &failure) == 0)
    return 0;
  log_error (&d->log, "%s", failure.message);
  return 1;
}

/* The end of the first process: waits until the daemon is up or has failed,
 * which it has said on our stderr. */
static void
wait_for_daemon (int pipe)
{
  char status = 1;

  while (read (pipe, &status, 1) == -1 && errno == EINTR)
    ;
  _exit (status);
}

/* Splits off a daemon, in which this returns.  Until it is up it has our
 * stderr for its errors. */
static int
go_to_background (struct daemon *d)
{
  int pipes[2], null;
  pid_t pid;

  if (pipe2 (pipes, O_CLOEXEC) == -1)
    return -1;
  pid = fork ();
  if (pid == -1)
    return -1;
  if (pid > 0) {
    close (pipes[1]);
    wait_for_daemon (pipes[0]);
  }
  close (pipes[0]);
  d->caller = pipes[1];
  if (setsid () == -1)
    return -1;
  null = open ("/dev/null", O_RDWR | O_CLOEXEC);
  if (null == -1 || dup2 (null, STDIN_FILENO) == -1
      || dup2 (null, STDOUT_FILENO) == -1)
    return -1;
  close (null);
  log_be_discreet (&d->log);
  return 0;
}

/* Many exports and clients need many descriptors. */
static void
raise_limits (void)
{
  struct rlimit limit;

  if (getrlimit (RLIMIT_NOFILE, &limit) == -1)
    return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit (RLIMIT_NOFILE, &limit);
}

static int
run (struct daemon *d, const struct options *o)
{
  struct failure failure;
  int status;

  if (run_lock_take (&d->lock, d->config, &failure) == -1) {
    log_error (&d->log, "%s", failure.message);
    return 1;
  }
  if (!o->foreground && go_to_background (d) == -1) {
    log_error (&d->log, "cannot go to the background: %m");
    return 1;
  }
  raise_limits ();
  status = daemon_run (d);
  run_lock_release (&d->lock);
  return status;
}

int
main (int argc, char *argv[])
{
  struct daemon d = { .caller = -1 };
  struct options o;
  int status = parse_options (argc, argv, &o);

  if (status != -1)
    return status;
  umask (077);
  log_open (&d.log, o.verbose ? LOG_DEBUG : LOG_INFO);
  d.verbose = o.verbose;
  /* A reload reads it again, wherever we are then. */
  d.config_path = o.config_path;
  status = load (&d);
  if (status == 0 && !o.check_only)
    status = run (&d, &o);
  config_free (d.config);
  return status;
}
