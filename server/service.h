/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A process that is kept running. */

#ifndef NBDFLEECE_SERVICE_H
#define NBDFLEECE_SERVICE_H

#include <ev.h>

#include "logpipe.h"
#include "process.h"

enum service_state {
  SERVICE_STOPPED,
  SERVICE_STARTING,             /* it runs; whether it works is being found
                                 * out */
  SERVICE_RUNNING,
  SERVICE_RESTARTING,           /* it died; waiting before the next try */
  SERVICE_STOPPING,             /* told to end */
};

struct service;

struct service_ops {
  /* Fills in what to start: argv and descriptors.  0, or -1 with a reason
   * (service_because). */
  int (*prepare) (struct service *service, struct spawn *spawn);

  /* STARTING: called again and again.  Calls service_ready once it works. */
  void (*probe) (struct service *service);

  /* It has ended by itself.  True if that is as it should be: the service is
   * STOPPED then.  May be NULL: never. */
  bool (*exited) (struct service *service);

  /* What it says while it starts may be why it dies later: keep it. */
  bool keeps_messages;

  /* After a change of state.  May call service_start and service_stop. */
  void (*changed) (struct service *service, enum service_state before);
};

struct service {
  /* Set once. */
  struct ev_loop *loop;
  const struct log *log;
  const struct service_ops *ops;
  void *owner;
  char *label;                  /* for messages: "vda", "vda (qemu-nbd)" */
  char *id_prefix;              /* PURPOSE:RUN-DIR:NAME: */
  char *pidfile, *logfile;
  unsigned grace;               /* seconds from SIGTERM to SIGKILL */

  enum service_state state;
  struct process process;       /* there is one if STARTING, RUNNING or
                                 * STOPPING */
  char id[PROCESS_ID_SIZE];     /* of the process */
  char config_id[64];           /* what the next one is to have as the end of
                                 * its id */
  bool adopted;                 /* the last process was an earlier daemon's */
  unsigned restarts;
  char reason[512];             /* why it is not running or last died, or "" */

  /* Internal. */
  struct logpipe messages;
  ev_io exited;                 /* the pidfd */
  ev_timer timer;               /* next probe, next try, or SIGKILL */
  ev_tstamp since;              /* when it was started or adopted */
  double delay;                 /* before the next try, seconds */
  int probe_fd;                 /* for greeting.c, or -1 */
};

/* PURPOSE and NAME are the parts of the id; NAME is that of the files
 * RUN/NAME.pid and .log too. */
extern void service_init (struct service *s, struct ev_loop *loop,
                          const struct log *log,
                          const struct service_ops *ops, void *owner,
                          const char *purpose, const char *run_dir,
                          const char *name, const char *label);

/* STOPPED or RESTARTING: starts it now.  If that fails, the state is
 * RESTARTING and reason says why. */
extern void service_start (struct service *s);

/* STOPPED: looks for a process of an earlier daemon and takes it over: true,
 * STARTING, service->id says with which configuration it was started. */
extern bool service_adopt (struct service *s);

/* STARTING becomes RUNNING. */
extern void service_ready (struct service *s);

/* Ends it, in order if it can; STOPPED at once if there is no process. */
extern void service_stop (struct service *s);

/* The same without asking: nothing that it could still do is wanted. */
extern void service_kill (struct service *s);

/* True if the process was started with the configuration that the next one
 * would have. */
extern bool service_is_current (const struct service *s);

extern void service_because (struct service *s, const char *format, ...)
  __attribute__ ((format (printf, 2, 3)));

/* Lets go of the process, if any, without ending it. */
extern void service_forget (struct service *s);

/* Frees what service_init and the rest allocated.  Removes pidfile and log
 * pipe if there is no process. */
extern void service_free (struct service *s);

extern const char *service_state_name (enum service_state state);

#endif /* NBDFLEECE_SERVICE_H */
