/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Small things that every part of the daemon needs. */

#ifndef NBDFLEECE_UTIL_H
#define NBDFLEECE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "text.h"

/* Memory that is never NULL.  A daemon with no memory left ends at once: that
 * is safe, since the processes that carry I/O go on, and the next daemon
 * adopts them. */
extern void *xcalloc (size_t count, size_t size);
extern void *xrealloc (void *p, size_t count, size_t size);
extern char *xstrdup (const char *s);
extern char *xasprintf (const char *format, ...)
  __attribute__ ((format (printf, 1, 2)));

/* A growing list of strings; v ends with NULL once there is one. */
struct strings {
  char **v;
  size_t nr;
};

extern void strings_add (struct strings *s, const char *format, ...)
  __attribute__ ((format (printf, 2, 3)));
extern void strings_free (struct strings *s);

/* Why something did not work: a code of docs/control-protocol.md and one line
 * for people. */
struct failure {
  const char *code;
  char message[512];
};

extern void failure_set (struct failure *f, const char *code,
                         const char *format, ...)
  __attribute__ ((format (printf, 3, 4)));

/* A new random UUID as text.  0, or -1 with *failure. */
extern int random_uuid (char text[UUID_SIZE], struct failure *failure);

/* Nanoseconds since 1970. */
extern int64_t now_ns (void);

/* The NBD URI of an export on a unix socket, with what is special escaped;
 * the caller frees it. */
extern char *unix_uri (const char *export_name, const char *socket_path);

/* Makes a directory of mode 0700 unless it is there; a symbolic link to one
 * will do only if it may be one.  0, or -1 and errno: ENOTDIR if something else
 * has the name, EPERM if it is somebody else's or others may write there. */
extern int mkdir_private (const char *path, bool may_be_link);

/* That path has its name, or has it no more, also after a crash of the host.
 * 0, or -1 and errno. */
extern int sync_directory_of (const char *path);

/* Replaces the file at path by text, mode 0600, all or nothing; durable:
 * also after a crash of the host.  0, or -1 and errno. */
extern int write_file (const char *path, const char *text, bool durable);

/* The whole of a small file (at most max bytes) with a NUL added; the caller
 * frees it.  NULL and errno. */
extern char *read_file (const char *path, size_t max, size_t *size);

/* A socket listening at path, mode 0600; what was there is removed.  The
 * descriptor is close-on-exec.  -1 and errno. */
extern int unix_listen (const char *path);

/* Connects without ever waiting: EAGAIN if the queue there is full.  type:
 * SOCK_STREAM or SOCK_SEQPACKET.  A non-blocking, close-on-exec descriptor, or
 * -1 and errno. */
extern int unix_connect (const char *path, int type);

/* Deletes path; that it does not exist is fine. */
extern void remove_file (const char *path);

#endif /* NBDFLEECE_UTIL_H */
