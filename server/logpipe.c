/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Repeating the messages of other processes in our log. */

/* A process that carries a guest's I/O must not wait for its log, nor die of
 * it.  Its stderr is a named pipe opened for reading and writing without
 * blocking: with nobody reading, it fills up and further lines are dropped;
 * since the process is a reader of it too, there is never a broken pipe; and
 * the next daemon opens it by name and reads on.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "logpipe.h"

/* One turn of the loop reads no more, however much somebody has to say. */
#define READ_MAX 16384

/* Of every start of an export on an NBD server: nbdkit's nbd plugin asks for
 * the client's export name when our filter opens the disk for itself. */
#define NO_CLIENT "no connection in this thread"

static int
level_of (const char *line)
{
  if (strstr (line, "debug:") || strstr (line, NO_CLIENT))
    return LOG_DEBUG;
  return strcasestr (line, "error") || strcasestr (line, "fail")
    ? LOG_WARNING : LOG_INFO;
}

static void
end_of_line (struct logpipe *lp)
{
  int level;

  lp->line[lp->length] = '\0';
  lp->length = 0;
  if (lp->line[0] == '\0')
    return;
  level = level_of (lp->line);
  if (++lp->lines <= lp->limit || lp->limit == 0)
    log_message (lp->log, level, "%s: %s", lp->label, lp->line);
  if (level == LOG_DEBUG || (level != LOG_WARNING && lp->last_is_error))
    return;
  lp->last_is_error = level == LOG_WARNING;
  strcpy (lp->last, lp->line);
}

static void
take (struct logpipe *lp, const char *text, size_t length)
{
  size_t i;

  for (i = 0; i < length; i++) {
    if (text[i] == '\n' || lp->length == sizeof lp->line - 1)
      end_of_line (lp);
    if (text[i] != '\n')
      lp->line[lp->length++] = text[i];
  }
}

void
logpipe_drain (struct logpipe *lp)
{
  char text[4096];
  size_t total = 0;
  ssize_t r = -1;

  while (lp->fd != -1 && total < READ_MAX
         && (r = read (lp->fd, text, sizeof text)) > 0) {
    take (lp, text, r);
    total += r;
  }
  if (r == 0)                   /* all writers have gone, for good */
    ev_io_stop (lp->loop, &lp->io);
}

static void
readable (struct ev_loop *loop, ev_io *w, int revents)
{
  (void) loop;
  (void) revents;
  logpipe_drain (w->data);
}

static void
start (struct logpipe *lp, struct ev_loop *loop, const struct log *log,
       const char *label, unsigned limit)
{
  lp->loop = loop;
  lp->log = log;
  lp->label = label;
  lp->length = 0;
  lp->lines = 0;
  lp->limit = limit;
  logpipe_reset (lp);
  ev_io_init (&lp->io, readable, lp->fd, EV_READ);
  lp->io.data = lp;
  ev_set_priority (&lp->io, EV_MINPRI);
  ev_io_start (loop, &lp->io);
}

int
logpipe_open (struct logpipe *lp, struct ev_loop *loop, const struct log *log,
              const char *label, const char *path)
{
  struct stat st;

  if (mkfifo (path, 0600) == -1 && errno != EEXIST)
    return -1;
  lp->fd = open (path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
  if (lp->fd == -1)
    return -1;
  if (fstat (lp->fd, &st) == -1 || !S_ISFIFO (st.st_mode)) {
    close (lp->fd);
    lp->fd = -1;
    errno = EEXIST;
    return -1;
  }
  start (lp, loop, log, label, 0);
  return 0;
}

void
logpipe_attach (struct logpipe *lp, struct ev_loop *loop,
                const struct log *log, const char *label, int fd,
                unsigned limit)
{
  lp->fd = fd;
  start (lp, loop, log, label, limit);
}

void
logpipe_finish (struct logpipe *lp)
{
  if (lp->fd == -1)
    return;
  end_of_line (lp);
  if (lp->limit > 0 && lp->lines > lp->limit)
    log_info (lp->log, "%s: %u more lines are not shown", lp->label,
              lp->lines - lp->limit);
}

void
logpipe_reset (struct logpipe *lp)
{
  lp->last[0] = '\0';
  lp->last_is_error = 0;
}

void
logpipe_close (struct logpipe *lp)
{
  if (lp->fd == -1)
    return;
  logpipe_drain (lp);
  ev_io_stop (lp->loop, &lp->io);
  close (lp->fd);
  lp->fd = -1;
}

int
logpipe_writer (const char *path)
{
  return open (path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
}
