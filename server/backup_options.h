/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The configuration of the backup endpoint, as options of nbdfleece-front. */

#ifndef NBDFLEECE_BACKUP_OPTIONS_H
#define NBDFLEECE_BACKUP_OPTIONS_H

#include "conf.h"
#include "util.h"

/* Files of it in the run directory; the caller frees them. */
extern char *backup_file (const struct config *config, const char *suffix);

#define BACKUP_SOCKET ".sock"           /* for clients */
#define BACKUP_DATA_SOCKET ".data.sock" /* of the snapshot server */
#define BACKUP_STATUS ".ctl"            /* of the front */
#define BACKUP_OPTIONS ".conf"          /* of the front */

/* Adds to a command line what cannot change while the front runs, and what
 * can. */
extern void backup_options_fixed (const struct config *config,
                                  struct strings *argv);
extern void backup_options_argv (const struct config *config,
                                 struct strings *argv);

/* What can change, as the text of a file, with an id for it.  The caller frees
 * it. */
extern char *backup_options_text (const struct config *config,
                                  const char *id);

#endif /* NBDFLEECE_BACKUP_OPTIONS_H */
