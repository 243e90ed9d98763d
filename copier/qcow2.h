/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the header of a qcow2 image says. */

#ifndef NBDFLEECE_QCOW2_H
#define NBDFLEECE_QCOW2_H

#include <stdbool.h>
#include <stdint.h>

#include "message.h"

/* qcow2's size is in sectors. */
#define QCOW2_SECTOR 512

/* The format's limit. */
#define QCOW2_BACKING_MAX 1023

struct qcow2_header {
  uint64_t size;                /* bytes that a guest sees */
  uint64_t cluster_size;        /* bytes */
  bool corrupt;                 /* QEMU has found it so */
  char backing[QCOW2_BACKING_MAX + 1]; /* as it is written there, or "" */
};

/* Reads it.  The image is not locked, so what is in use can be looked at.  0,
 * or -1 with errno and why: EINVAL if it is no qcow2 image. */
extern int qcow2_read_header (const char *path, struct qcow2_header *h,
                              struct message *why);

/* A disk's size as a qcow2 image has it. */
extern uint64_t qcow2_size (uint64_t disk_size);

#endif /* NBDFLEECE_QCOW2_H */
