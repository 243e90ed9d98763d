/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The NBD protocol: numbers on the wire, and how to read and write them. */

/* Names and values are those of the protocol specification (doc/proto.md of
 * the NetworkBlockDevice/nbd project), extended headers those of its branch
 * extension-ext-header.  Sections of it are named in comments in "quotes".
 * All integers are big-endian; none is aligned.
 */

#ifndef NBDFLEECE_NBD_H
#define NBDFLEECE_NBD_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* "Newstyle negotiation" */
#define NBD_MAGIC UINT64_C (0x4e42444d41474943)
#define NBD_OPTION_MAGIC UINT64_C (0x49484156454f5054)
#define NBD_OPTION_REPLY_MAGIC UINT64_C (0x0003e889045565a9)

enum {
  NBD_FLAG_FIXED_NEWSTYLE = 1 << 0, /* handshake flags, and client flags */
  NBD_FLAG_NO_ZEROES = 1 << 1,
};

enum {                          /* "Transmission flags" */
  NBD_FLAG_HAS_FLAGS = 1 << 0,
  NBD_FLAG_READ_ONLY = 1 << 1,
  NBD_FLAG_SEND_TRIM = 1 << 5,
  NBD_FLAG_SEND_DF = 1 << 7,
  NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
  NBD_FLAG_SEND_CACHE = 1 << 10,
  NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12,
};

enum {                          /* "Option types" */
  NBD_OPT_EXPORT_NAME = 1,
  NBD_OPT_ABORT = 2,
  NBD_OPT_LIST = 3,
  NBD_OPT_STARTTLS = 5,
  NBD_OPT_INFO = 6,
  NBD_OPT_GO = 7,
  NBD_OPT_STRUCTURED_REPLY = 8,
  NBD_OPT_LIST_META_CONTEXT = 9,
  NBD_OPT_SET_META_CONTEXT = 10,
  NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ERR(n) ((UINT32_C (1) << 31) + (n))

enum {                          /* "Option reply types" */
  NBD_REP_ACK = 1,
  NBD_REP_SERVER = 2,
  NBD_REP_INFO = 3,
  NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERR_UNSUP NBD_REP_ERR (1)
#define NBD_REP_ERR_POLICY NBD_REP_ERR (2)
#define NBD_REP_ERR_INVALID NBD_REP_ERR (3)
#define NBD_REP_ERR_TLS_REQD NBD_REP_ERR (5)
#define NBD_REP_ERR_UNKNOWN NBD_REP_ERR (6)
#define NBD_REP_ERR_SHUTDOWN NBD_REP_ERR (7)
#define NBD_REP_ERR_TOO_BIG NBD_REP_ERR (9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERR (10)

enum {
  NBD_INFO_EXPORT = 0,
  NBD_INFO_NAME = 1,
  NBD_INFO_DESCRIPTION = 2,
  NBD_INFO_BLOCK_SIZE = 3,
};

#define NBD_STRING_MAX 4096     /* bytes, "Conventions" */

#define NBD_REQUEST_MAGIC UINT32_C (0x25609513)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C (0x21e41c71)
#define NBD_SIMPLE_REPLY_MAGIC UINT32_C (0x67446698)
#define NBD_STRUCTURED_REPLY_MAGIC UINT32_C (0x668e33ef)
#define NBD_EXTENDED_REPLY_MAGIC UINT32_C (0x6e8a278c)

enum {                          /* bytes of headers */
  NBD_OPTION_SIZE = 16,
  NBD_OPTION_REPLY_SIZE = 20,
  NBD_REQUEST_SIZE = 28,
  NBD_EXTENDED_REQUEST_SIZE = 32,
  NBD_SIMPLE_REPLY_SIZE = 16,
  NBD_STRUCTURED_REPLY_SIZE = 20,
  NBD_EXTENDED_REPLY_SIZE = 32,
};

enum {                          /* "Command flags" */
  NBD_CMD_FLAG_FUA = 1 << 0,
  NBD_CMD_FLAG_DF = 1 << 2,
  NBD_CMD_FLAG_REQ_ONE = 1 << 3,
  NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

enum {                          /* "Request types" */
  NBD_CMD_READ = 0,
  NBD_CMD_WRITE = 1,
  NBD_CMD_DISC = 2,
  NBD_CMD_FLUSH = 3,
  NBD_CMD_TRIM = 4,
  NBD_CMD_CACHE = 5,
  NBD_CMD_WRITE_ZEROES = 6,
  NBD_CMD_BLOCK_STATUS = 7,
};

enum { NBD_REPLY_FLAG_DONE = 1 << 0 };

enum {                          /* "Structured reply types" */
  NBD_REPLY_TYPE_NONE = 0,
  NBD_REPLY_TYPE_OFFSET_DATA = 1,
  NBD_REPLY_TYPE_BLOCK_STATUS = 5,
  NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6,
  NBD_REPLY_TYPE_ERROR = (1 << 15) + 1,
};
#define NBD_REPLY_TYPE_IS_ERROR(t) ((t) & (1 << 15))

enum { NBD_STATE_HOLE = 1 << 0, NBD_STATE_ZERO = 1 << 1 };
enum { NBD_STATE_DIRTY = 1 << 0 }; /* of qemu:dirty-bitmap: */

enum {                          /* "Error values" */
  NBD_EPERM = 1,
  NBD_EIO = 5,
  NBD_ENOMEM = 12,
  NBD_EINVAL = 22,
  NBD_ENOSPC = 28,
  NBD_EOVERFLOW = 75,
  NBD_ENOTSUP = 95,
  NBD_ESHUTDOWN = 108,
};

/* The put functions return where to go on. */
static inline uint8_t *
put16 (uint8_t *p, uint16_t v)
{
  v = htobe16 (v);
  memcpy (p, &v, sizeof v);
  return p + sizeof v;
}

static inline uint8_t *
put32 (uint8_t *p, uint32_t v)
{
  v = htobe32 (v);
  memcpy (p, &v, sizeof v);
  return p + sizeof v;
}

static inline uint8_t *
put64 (uint8_t *p, uint64_t v)
{
  v = htobe64 (v);
  memcpy (p, &v, sizeof v);
  return p + sizeof v;
}

static inline uint16_t
get16 (const uint8_t *p)
{
  uint16_t v;

  memcpy (&v, p, sizeof v);
  return be16toh (v);
}

static inline uint32_t
get32 (const uint8_t *p)
{
  uint32_t v;

  memcpy (&v, p, sizeof v);
  return be32toh (v);
}

static inline uint64_t
get64 (const uint8_t *p)
{
  uint64_t v;

  memcpy (&v, p, sizeof v);
  return be64toh (v);
}

#endif /* NBDFLEECE_NBD_H */
