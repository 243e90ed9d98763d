/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Processes that outlive the daemon, and finding them again. */

#ifndef NBDFLEECE_PROCESS_H
#define NBDFLEECE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "confine.h"
#include "user.h"
#include "util.h"

/* At most so many descriptors are handed to a process. */
#define SPAWN_FDS_MAX 64

/* Longest id of a process, with its terminator. */
#define PROCESS_ID_SIZE 512

/* A process that is not our child: no status to wait for, but a descriptor
 * that becomes readable when it has ended.  pidfd is -1 if there is none. */
struct process {
  pid_t pid;
  int pidfd;
};

struct spawn {
  struct strings argv;          /* argv[0] is looked for in PATH */
  const char *id;               /* PURPOSE:RUN-DIR:NAME:CONFIGURATION */
  const char *pidfile;          /* written before the program begins */
  int stderr_fd;
  int fds[SPAWN_FDS_MAX];       /* become 3, 4, ... */
  unsigned nr_fds;
  unsigned nr_hidden;           /* of these, the last ones: */
  bool activation;              /* tell it about fds as systemd would, but
                                 * for the hidden ones */
  const struct user *user;      /* whose rights it has; NULL: ours */
  bool is_confined;             /* it can write to no files but these: */
  struct confined confined;
};

/* Starts it.  Returns 0, or -1 with a message. */
extern int process_spawn (const struct spawn *spawn, struct process *process,
                          char *message, size_t size);

/* Looks for a process started with the pidfile and an id that starts with
 * prefix, by this daemon or one before.  Returns 0 with its whole id; or -1
 * and errno, ESRCH if there is none any more.  Waits for the end of one that is
 * ending, 30 seconds at most. */
extern int process_find (const char *pidfile, const char *prefix,
                         struct process *process, char id[PROCESS_ID_SIZE]);

/* True until it has ended. */
extern bool process_alive (const struct process *process);

/* Sends a signal; that it has ended already is fine. */
extern void process_signal (const struct process *process, int signal);

/* A copy of the socket that listens as descriptor fd of the process: what we,
 * or an earlier daemon, gave it at its start.  -1 and errno; the kernel does
 * not allow it everywhere (EPERM). */
extern int process_take_listener (const struct process *process, int fd);

/* Copies of all sockets that it listens at, max at most, into fds.  Their
 * number; 0, too, where the kernel does not allow it. */
extern unsigned process_take_listeners (const struct process *process,
                                        int *fds, unsigned max);

/* Lets go of it; it goes on. */
extern void process_forget (struct process *process);

/* In a child, before its exec: all signals as they are for a new program. */
extern void process_default_signals (void);

/* Runs a program and returns what it prints to stdout (at most 64 KiB; the
 * caller frees it).  NULL with a message if it does not end well within
 * seconds. */
extern char *process_output (char *const *argv, unsigned seconds,
                             char *message, size_t size);

/* Runs a program as the user (NULL: as we are) that has nothing to say if all
 * is well.  0 if it ends well
 * within seconds; or -1 with what it said on stderr, or what else went
 * wrong. */
extern int process_check (char *const *argv, const struct user *user,
                          unsigned seconds, char *message, size_t size);

#endif /* NBDFLEECE_PROCESS_H */
