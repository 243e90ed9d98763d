/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Memory, text, small files and sockets. */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bmfile.h"
#include "broken.h"
#include "util.h"

/* Guests wait in this queue while an nbdkit is started again. */
#define BACKLOG 128

static void
no_memory (void)
{
  fputs ("nbdfleeced: error: out of memory\n", stderr);
  _exit (1);
}

void *
xcalloc (size_t count, size_t size)
{
  void *p = calloc (count ? count : 1, size);

  if (!p)
    no_memory ();
  return p;
}

void *
xrealloc (void *p, size_t count, size_t size)
{
  p = reallocarray (p, count, size);
  if (!p)
    no_memory ();
  return p;
}

char *
xstrdup (const char *s)
{
  char *copy = strdup (s);

  if (!copy)
    no_memory ();
  return copy;
}

static char *
xvasprintf (const char *format, va_list args)
{
  char *text;

  if (vasprintf (&text, format, args) == -1)
    no_memory ();
  return text;
}

char *
xasprintf (const char *format, ...)
{
  va_list args;
  char *text;

  va_start (args, format);
  text = xvasprintf (format, args);
  va_end (args);
  return text;
}

void
strings_add (struct strings *s, const char *format, ...)
{
  va_list args;

  s->v = xrealloc (s->v, s->nr + 2, sizeof *s->v);
  va_start (args, format);
  s->v[s->nr++] = xvasprintf (format, args);
  va_end (args);
  s->v[s->nr] = NULL;
}

void
strings_free (struct strings *s)
{
  size_t i;

  for (i = 0; i < s->nr; i++)
    free (s->v[i]);
  free (s->v);
  *s = (struct strings) { 0 };
}

void
failure_set (struct failure *f, const char *code, const char *format, ...)
{
  va_list args;

  f->code = code;
  va_start (args, format);
  vsnprintf (f->message, sizeof f->message, format, args);
  va_end (args);
}

int
random_uuid (char text[UUID_SIZE], struct failure *failure)
{
  uint8_t random[16] = { 0 };

  if (getrandom (random, sizeof random, 0) != sizeof random) {
    failure_set (failure, "failed", "no random numbers: %s",
                 strerror (errno));
    return -1;
  }
  format_uuid (random, text);
  return 0;
}

int64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_REALTIME, &ts);
  return ts.tv_sec * INT64_C (1000000000) + ts.tv_nsec;
}

char *
unix_uri (const char *export_name, const char *socket_path)
{
  char *escaped = xcalloc (strlen (socket_path) * 3 + 1, 1), *p = escaped;
  char *uri;

  for (; *socket_path; socket_path++) {
    unsigned char c = *socket_path;

    if (isalnum (c) || strchr ("/-._~", c))
      *p++ = c;
    else
      p += sprintf (p, "%%%02X", c);
  }
  uri = xasprintf ("nbd+unix:///%s?socket=%s", export_name, escaped);
  free (escaped);
  return uri;
}

int
sync_directory_of (const char *path)
{
  return BROKEN (NAMES_NOT_FLUSHED) ? 0 : bmfile_sync_directory (path);
}

/* What it will have in it may have to outlast a crash of the host. */
int
mkdir_private (const char *path, bool may_be_link)
{
  struct stat st;

  if (mkdir (path, 0700) == 0)
    return sync_directory_of (path);
  if (errno != EEXIST
      || fstatat (AT_FDCWD, path, &st,
                  may_be_link ? 0 : AT_SYMLINK_NOFOLLOW) == -1)
    return -1;
  if (S_ISDIR (st.st_mode) && st.st_uid == geteuid ()
      && !(st.st_mode & (S_IWGRP | S_IWOTH)))
    return 0;
  errno = S_ISDIR (st.st_mode) ? EPERM : ENOTDIR;
  return -1;
}

static int
write_all (int fd, const char *text, size_t length)
{
  while (length > 0) {
    ssize_t r = write (fd, text, length);

    if (r == -1 && errno != EINTR)
      return -1;
    if (r > 0) {
      text += r;
      length -= r;
    }
  }
  return 0;
}

int
write_file (const char *path, const char *text, bool durable)
{
  char *temp = xasprintf ("%s.tmp", path);
  int fd, err, r = -1;

  remove_file (temp);           /* of somebody who was killed */
  fd = open (temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd != -1) {
    r = write_all (fd, text, strlen (text));
    if (r == 0 && durable)
      r = fsync (fd);
    close (fd);
    if (r == 0)
      r = rename (temp, path);
    if (r == 0 && durable)
      r = sync_directory_of (path);
  }
  err = errno;
  if (r == -1 && fd != -1)
    unlink (temp);
  free (temp);
  errno = err;
  return r;
}

char *
read_file (const char *path, size_t max, size_t *size)
{
  int fd = open (path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  char *text;
  size_t have = 0;
  ssize_t r;

  if (fd == -1)
    return NULL;
  text = xcalloc (max + 2, 1);
  while ((r = read (fd, text + have, max + 1 - have)) > 0)
    have += r;
  close (fd);
  if (r == -1 || have > max) {
    if (r != -1)
      errno = EFBIG;
    free (text);
    return NULL;
  }
  text[have] = '\0';
  if (size)
    *size = have;
  return text;
}

static int
unix_socket (const char *path, int type, struct sockaddr_un *addr)
{
  *addr = (struct sockaddr_un) { .sun_family = AF_UNIX };
  if (strlen (path) >= sizeof addr->sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy (addr->sun_path, path);
  return socket (AF_UNIX, type | SOCK_CLOEXEC, 0);
}

/* The mode is set between bind and listen: until then nobody can connect.
 * The descriptor blocks: it is for nbdkit, which accepts with it. */
int
unix_listen (const char *path)
{
  struct sockaddr_un addr;
  int sock = unix_socket (path, SOCK_STREAM, &addr), err;

  if (sock == -1)
    return -1;
  if ((unlink (path) == 0 || errno == ENOENT)
      && bind (sock, (struct sockaddr *) &addr, sizeof addr) == 0
      && chmod (path, 0600) == 0 && listen (sock, BACKLOG) == 0)
    return sock;
  err = errno;
  close (sock);
  errno = err;
  return -1;
}

int
unix_connect (const char *path, int type)
{
  struct sockaddr_un addr;
  int sock = unix_socket (path, type | SOCK_NONBLOCK, &addr), err;

  if (sock == -1)
    return -1;
  if (connect (sock, (struct sockaddr *) &addr, sizeof addr) == 0)
    return sock;
  err = errno;
  close (sock);
  errno = err;
  return -1;
}

void
remove_file (const char *path)
{
  int err = errno;

  unlink (path);
  errno = err;
}
