/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Writes to the scratch that are given up after cow-timeout. */

#ifndef NBDFLEECE_TIMED_H
#define NBDFLEECE_TIMED_H

#include <stdint.h>

struct timed;

/* Starts the writer threads.  Returns NULL and errno on error. */
extern struct timed *timed_new (uint64_t timeout_ns);

/* Ends them, if they can be ended: a thread that hangs in a write is left to
 * the end of the process. */
extern void timed_free (struct timed *t);

/* Like full_pwrite, but fails with ETIMEDOUT after the time-out; the write
 * may then still happen at any time, so its range of the file must never be
 * relied on.  While such a write hangs, further ones fail at once: the guest
 * does not wait the time-out again and again. */
extern int timed_pwrite (struct timed *t, int fd, const void *buf,
                         uint64_t count, uint64_t offset);

/* Like fdatasync, in the same way. */
extern int timed_fdatasync (struct timed *t, int fd);

#endif /* NBDFLEECE_TIMED_H */
