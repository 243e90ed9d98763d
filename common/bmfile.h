/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The bitmap file: one header page and one or more shared bitmaps. */

/* Maps (copied, released, lost of one snapshot), tracking bitmaps (dirty of
 * one checkpoint) and copy bitmaps (what a job has still to deliver) are all
 * files of this format, in the state directory, mapped shared by whoever
 * works with them.  Stores to the mapping survive kill -9 of every process,
 * since the page cache keeps them; they do not survive the host.
 *
 * On disk (all integers in host order; a file of the other order fails the
 * magic check and is refused):
 *
 *   0     struct bmfile_fixed    written once, covered by its checksum
 *   3072  struct bmfile_live     changes while in use, not covered
 *   4096  bitmap 0, padded to 4096; bitmap 1, ...
 *
 * Trust: every size is recomputed from disk_size and cluster_size and then
 * compared with the header and with the size of the file, so no offset that
 * is used was read from the file.  An unknown version is refused (ENOTSUP),
 * anything else that is off is EINVAL; `why' says what.  What does not change
 * is copied before it is judged, so that it does not change for us either.
 *
 * The blocks of the file are allocated when it is made.  A store to a mapping
 * that has no room would kill the process that carries a guest's I/O.
 */

#ifndef NBDFLEECE_BMFILE_H
#define NBDFLEECE_BMFILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bitmap.h"
#include "names.h"

#define BMFILE_MAGIC "FLEECEBM"
#define BMFILE_VERSION 1
#define BMFILE_HEADER_SIZE 4096
#define BMFILE_LIVE_OFFSET 3072
#define BMFILE_BITMAPS_MAX 3
#define BMFILE_LOCATION_MAX 1024
#define BMFILE_REASON_SIZE 256
#define BMFILE_CLUSTER_MIN 4096
#define BMFILE_CLUSTER_MAX (2 * 1024 * 1024) /* of a LOG no limit */
#define BMFILE_DISK_MAX (INT64_C (1) << 60)

enum bmfile_kind {
  BMFILE_MAP = 1,               /* bitmaps: copied, released, lost */
  BMFILE_DIRTY = 2,             /* bitmap: dirty since the checkpoint */
  BMFILE_COPY = 3,              /* bitmap: what a job has to deliver */
  BMFILE_LOG = 4,               /* bitmap: active regions (actlog.h) */
};

/* States of the file as a whole (bmfile_live.state).
 *
 *   PREPARED ──begin──▶ ACTIVE ──end──▶ ENDED          a map
 *   PREPARED ──begin──▶ ACTIVE ──next checkpoint──▶ FROZEN     tracking
 *   ACTIVE, FROZEN ──doubt──▶ INCONSISTENT                     tracking
 *
 * A PREPARED or ENDED file that nobody has open is a leftover. */
enum bmfile_state {
  BMFILE_PREPARED = 0,
  BMFILE_ACTIVE = 1,
  BMFILE_ENDED = 2,
  BMFILE_FROZEN = 3,
  BMFILE_INCONSISTENT = 4,
};

enum bmfile_flags {             /* of a map */
  BMFILE_CLIENTS_RELEASE = 1,   /* clients of the front may release clusters */
  BMFILE_DURABLE = 2,           /* meant to outlast a crash of the host, which
                                 * the filter sees to (filter/durable.c) */
  BMFILE_OUTLASTS = 4,          /* and it does, from when this is on disk */
  BMFILE_GIVEN_UP = 8,          /* and it will not, instead */
};

enum bmfile_clean {
  BMFILE_IN_USE = 0,            /* the host must not stop now */
  BMFILE_CLEAN = 1,             /* let go in order, all of it on disk */
  BMFILE_CLOSING = 2,           /* on the way from one to the other; for who
                                 * crashes, the same as IN_USE; for who
                                 * releases (map_settle_release), as CLEAN */
};

struct bmfile_fixed {           /* on disk, at 0 */
  char magic[8];
  uint32_t version;
  uint32_t header_size;
  uint32_t kind;
  uint32_t nr_bitmaps;
  uint64_t disk_size;           /* bytes */
  uint64_t cluster_size;        /* bytes, a power of two */
  uint64_t nr_clusters;
  uint64_t file_size;           /* bytes, header and bitmaps */
  uint8_t uuid[16];
  char export_name[72];         /* NUL-terminated, like all text here */
  char name[72];                /* snapshot, checkpoint or job */
  char parent[72];              /* maps: the checkpoint whose changes are the
                                 * scope, or "": all of the disk */
  /* Where the live disk is: file:PATH, or an NBD URI. */
  char live[BMFILE_LOCATION_MAX];
  /* Maps: path of the scratch. */
  char scratch[BMFILE_LOCATION_MAX];
  uint32_t checksum;            /* CRC-32 of all the above */
};

/* What a file or block device looked like when we last let go of it. */
struct bmfile_identity {
  uint64_t dev, ino, size;
  int64_t mtime_ns, ctime_ns;   /* both 0 for a block device */
};

struct bmfile_live {            /* on disk, at BMFILE_LIVE_OFFSET */
  _Atomic uint32_t state;       /* enum bmfile_state */
  _Atomic uint32_t clean;       /* enum bmfile_clean */
  uint8_t boot_id[16];          /* of the host run that last used it */
  /* Of the live disk, if it is a file or block device: dev and ino since the
   * begin, all of it if clean. */
  struct bmfile_identity identity;
  /* Maps: which file the scratch is.  COPY: which the target is, by the
   * copier. */
  uint64_t scratch_dev, scratch_ino;
  _Atomic int64_t instant_ns;   /* CLOCK_REALTIME at the flip */
  /* Counters of a map, kept by the filter, relaxed: for people to read. */
  _Atomic uint64_t copied_clusters;  /* bits of copied set */
  _Atomic uint64_t zero_clusters;    /* of those, the ones kept as holes */
  _Atomic uint64_t lost_clusters;    /* bits of lost set */
  _Atomic uint64_t scratch_bytes;    /* data written to the scratch and not
                                      * yet punched out; against the limit.
                                      * A COPY file: bytes in the job's scope,
                                      * set by the copier's first run */
  char reason[BMFILE_REASON_SIZE]; /* why INCONSISTENT, for people */
  uint8_t prev[16];             /* tracking: uuid of the file whose successor
                                 * this is, set at the flip and again if that
                                 * one is merged away; 0: none */
  _Atomic uint32_t flags;       /* enum bmfile_flags, set before the begin;
                                 * but OUTLASTS and GIVEN_UP by the filter */
  uint8_t log[16];              /* tracking: uuid of the activity log that it
                                 * is bound to (actlog.h); 0: none */
};

/* An open bitmap file.  Set once by bmfile_create or bmfile_open. */
struct bmfile {
  struct bmfile_fixed *fixed;   /* a copy of our own, as it was judged */
  char *base;                   /* mapped */
  struct bmfile_live *live;     /* mapped; writable if opened so */
  bm_word *bits[BMFILE_BITMAPS_MAX]; /* mapped */
  uint64_t disk_size;           /* validated copies of the header's */
  uint64_t nr_clusters;
  unsigned cluster_bits;        /* log2 of the cluster size */
  unsigned nr_bitmaps;
  bool writable;
  uid_t owner;                  /* of the file when it was opened */
  size_t map_size;              /* bytes mapped at base */
};

struct bmfile_params {
  enum bmfile_kind kind;
  uint64_t disk_size;           /* bytes, 1 to BMFILE_DISK_MAX */
  uint64_t cluster_size;        /* bytes, power of two, within the limits */
  const char *export_name;
  const char *name;
  const char *parent;           /* or NULL */
  const char *live;             /* or NULL */
  const char *scratch;          /* or NULL */
  bool durable;                 /* flush the file and its name */
};

/* The cluster size that `cluster-size: auto' stands for: 4 KiB while a bitmap
 * stays within 64 MiB, then doubled as often as needed, at most 2 MiB. */
extern uint64_t bmfile_auto_cluster_size (uint64_t disk_size);

/* Creates path (mode 0600, must not exist), state PREPARED, all bits clear,
 * blocks allocated, a fresh UUID; and opens it read-write.  On error nothing
 * is left behind.  Returns 0, or -1 and errno (EEXIST, ENOSPC, EINVAL, ...). */
extern int bmfile_create (const char *path, const struct bmfile_params *params,
                          struct bmfile *bf);

/* The same in a file that is there, at path, whatever is in it, and durable:
 * for who may write to the file but not make one.  A crash in between leaves
 * one that is no bitmap file. */
extern int bmfile_create_in (const char *path,
                             const struct bmfile_params *params,
                             struct bmfile *bf);

/* Flushes the file, device or directory at path.  0, or -1 and errno. */
extern int bmfile_sync_path (const char *path);

/* Flushes the directory that path is in.  0, or -1 and errno. */
extern int bmfile_sync_directory (const char *path);

/* Maps the file open as fd, which stays the caller's.  kind is what it must
 * be.  Returns 0, or -1 and errno, with *why a static English phrase. */
extern int bmfile_open_fd (int fd, bool writable, enum bmfile_kind kind,
                           struct bmfile *bf, const char **why);

/* The same by path; never follows a symbolic link. */
extern int bmfile_open (const char *path, bool writable, enum bmfile_kind kind,
                        struct bmfile *bf, const char **why);

/* Unmaps.  Harmless on a zeroed struct. */
extern void bmfile_close (struct bmfile *bf);

/* False once the file has lost a part that was looked at (guard.h): then all
 * bits read as zeroes, and so may some that were read before. */
extern bool bmfile_is_whole (const struct bmfile *bf);

/* Why it is INCONSISTENT or ENDED, as printable ASCII, whatever is in the
 * file. */
extern void bmfile_reason (const struct bmfile *bf,
                           char reason[BMFILE_REASON_SIZE]);

/* Flushes header and bitmaps, or the header only, to disk.  Returns 0, or -1
 * and errno. */
extern int bmfile_sync (const struct bmfile *bf);
extern int bmfile_sync_header (const struct bmfile *bf);

/* Flushes the part of a bitmap that has [first, end), first < end. */
extern int bmfile_sync_bits (const struct bmfile *bf, unsigned bitmap,
                             uint64_t first, uint64_t end);

/* For a file that does not change any more (FROZEN): flushes it and marks it
 * clean.  bmfile_is_settled says of a file found later whether it is whole:
 * it was settled, or the host has not stopped since it was used. */
extern int bmfile_settle (struct bmfile *bf);
extern bool bmfile_is_settled (const struct bmfile *bf);

/* The id of this run of the host, from the kernel.  0, or -1 and errno. */
extern int bmfile_boot_id (uint8_t id[16]);

/* The identity of the file or block device at path.  0, or -1 and errno. */
extern int bmfile_identify (const char *path, struct bmfile_identity *id);

/* True if the host has stopped since the file was used and not let go. */
extern bool bmfile_has_crashed (const struct bmfile *bf);

/* Claims an ACTIVE or FROZEN file for this run of the host, after a restart
 * of the process that owned it.  0; or -1 with errno ESTALE and *why if what
 * it says cannot be trusted any more: the host crashed (another boot id and
 * not clean), or the live disk at live_path (NULL: not a local file) changed
 * between the clean stop and now.
 *
 * recovered: the caller has made good what the crash may have taken.  Then only
 * the disk can be doubted: another file, or, of a regular file, written to
 * after this run of the host began, when nobody of us was in front of it. */
extern int bmfile_claim (struct bmfile *bf, const char *live_path,
                         bool recovered, const char **why);

/* The opposite, for a clean stop: records the identity of the live disk,
 * flushes, marks clean.  Returns 0, or -1 and errno. */
extern int bmfile_release (struct bmfile *bf, const char *live_path);

/* Records which file the live disk is and, if scratch_fd is not -1, the
 * scratch.  0, or -1 and errno. */
extern int bmfile_record_files (struct bmfile *bf, int scratch_fd);

/* live_path for the calls above: the path in fixed->live if it is file:PATH,
 * else NULL. */
extern const char *bmfile_live_path (const struct bmfile *bf);

#endif /* NBDFLEECE_BMFILE_H */
