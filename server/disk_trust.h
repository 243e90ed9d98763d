/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Whether snapshots may still be believed after nobody was in front of the
 * disk. */

#ifndef NBDFLEECE_DISK_TRUST_H
#define NBDFLEECE_DISK_TRUST_H

#include "export.h"

/* The export's nbdkit is about to serve the disk of its configuration: writes
 * down which one that is. */
extern void disk_record (const struct export *ex);

/* False if the export's snapshots are of another disk than its configuration
 * says now. */
extern bool disk_is_recorded (const struct export *ex);

/* Removes what disk_record wrote. */
extern void disk_forget (const struct export *ex);

/* The export's processes have ended in order: makes its snapshots last beyond
 * a restart of the host, or ends those that could not be believed then. */
extern void disk_release (struct export *ex);

/* The export's processes did not run: ends the snapshots whose disk may have
 * changed.  Those of raw disks are left to the filter. */
extern void disk_distrust (struct export *ex);

#endif /* NBDFLEECE_DISK_TRUST_H */
