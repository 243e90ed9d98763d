/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Manifests as files. */

/* One JSON document, with each extent on a line of its own.  Its last member is
 * the digest of all extents together, so that a manifest which was cut or
 * edited is no proof of anything.  For that digest each extent is a row of
 * fixed length: offset and length as big-endian numbers of 64 bits, a byte for
 * the kind (1 data, 2 zero, 3 lost), and the digest, zero if there is none. */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <json-c/json.h>

#include "manifest.h"
#include "replace.h"
#include "scratch.h"

#define MANIFEST_VERSION 1
#define VERSION_KEY "nbdfleece-manifest"
#define HEX_SIZE (2 * DIGEST_SIZE + 1)
#define ROW_SIZE (8 + 8 + 1 + DIGEST_SIZE)

int
manifest_list_add (struct manifest_list *l, const struct manifest_extent *e)
{
  if (l->nr == l->allocated) {
    size_t n = l->allocated ? l->allocated * 2 : 64;
    struct manifest_extent *p = realloc (l->list, n * sizeof *p);

    if (!p)
      return -1;
    l->list = p;
    l->allocated = n;
  }
  l->list[l->nr++] = *e;
  return 0;
}

void
manifest_list_free (struct manifest_list *l)
{
  free (l->list);
  *l = (struct manifest_list) { 0 };
}

void
manifest_free (struct manifest *m)
{
  manifest_list_free (&m->extents);
}

int
manifest_digest (const void *buf, size_t count, struct manifest_extent *e)
{
  e->kind = is_zero (buf, count) ? EXTENT_ZERO : EXTENT_DATA;
  if (e->kind == EXTENT_ZERO)
    return 0;
  if (gnutls_hash_fast (GNUTLS_DIG_SHA256, buf, count, e->digest) == 0)
    return 0;
  errno = EIO;
  return -1;
}

static const char *
to_hex (const uint8_t digest[DIGEST_SIZE], char text[HEX_SIZE])
{
  unsigned i;

  for (i = 0; i < DIGEST_SIZE; i++)
    sprintf (text + 2 * i, "%02x", digest[i]);
  return text;
}

static int
from_hex (const char *text, uint8_t digest[DIGEST_SIZE])
{
  unsigned i, byte;

  if (strlen (text) != HEX_SIZE - 1
      || strspn (text, "0123456789abcdef") != HEX_SIZE - 1)
    return -1;
  for (i = 0; i < DIGEST_SIZE; i++) {
    sscanf (text + 2 * i, "%2x", &byte);
    digest[i] = byte;
  }
  return 0;
}

/* The digest of all extents. */
static int
digest_all (const struct manifest_list *l, uint8_t digest[DIGEST_SIZE])
{
  gnutls_hash_hd_t hash;
  uint8_t row[ROW_SIZE];
  uint64_t n;
  size_t i;

  if (gnutls_hash_init (&hash, GNUTLS_DIG_SHA256) != 0) {
    errno = EIO;
    return -1;
  }
  for (i = 0; i < l->nr; i++) {
    const struct manifest_extent *e = &l->list[i];

    memset (row, 0, sizeof row);
    n = htobe64 (e->offset);
    memcpy (row, &n, 8);
    n = htobe64 (e->length);
    memcpy (row + 8, &n, 8);
    row[16] = 1 + e->kind;
    if (e->kind == EXTENT_DATA)
      memcpy (row + 17, e->digest, DIGEST_SIZE);
    gnutls_hash (hash, row, sizeof row);
  }
  gnutls_hash_deinit (hash, digest);
  return 0;
}

/* ----------------------------------------------------------------- writing */

static int
by_offset (const void *pa, const void *pb)
{
  const struct manifest_extent *a = pa, *b = pb;

  return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* In order, zeroes and losses in as few extents as can be. */
static void
tidy (struct manifest_list *l)
{
  struct manifest_extent *last = NULL;
  size_t i, nr = 0;

  if (l->nr > 0)
    qsort (l->list, l->nr, sizeof l->list[0], by_offset);
  for (i = 0; i < l->nr; i++) {
    const struct manifest_extent *e = &l->list[i];

    if (e->kind == EXTENT_LEFT_OUT)
      continue;
    if (last && last->kind == e->kind && e->kind != EXTENT_DATA
        && last->offset + last->length == e->offset)
      last->length += e->length;
    else {
      l->list[nr] = *e;
      last = &l->list[nr++];
    }
  }
  l->nr = nr;
}

static uint64_t
bytes_of (const struct manifest_list *l, enum extent_kind kind)
{
  uint64_t n = 0;
  size_t i;

  for (i = 0; i < l->nr; i++)
    if (l->list[i].kind == kind)
      n += l->list[i].length;
  return n;
}

static void
print_head (FILE *f, const struct manifest *m)
{
  struct json_object *o = json_object_new_object ();
  const char *s;

  json_object_object_add (o, VERSION_KEY, json_object_new_int (MANIFEST_VERSION));
  json_object_object_add (o, "state", json_object_new_string
                          (m->incomplete ? "incomplete" : "completed"));
  identity_to_json (&m->id, o);
  json_object_object_add (o, "digest", json_object_new_string ("sha256"));
  json_object_object_add (o, "bytes-data", json_object_new_int64
                          (bytes_of (&m->extents, EXTENT_DATA)));
  json_object_object_add (o, "bytes-zero", json_object_new_int64
                          (bytes_of (&m->extents, EXTENT_ZERO)));
  json_object_object_add (o, "bytes-lost", json_object_new_int64
                          (bytes_of (&m->extents, EXTENT_LOST)));
  s = json_object_to_json_string_ext (o, JSON_C_TO_STRING_PRETTY
                                      | JSON_C_TO_STRING_NOSLASHESCAPE);
  /* Without the brace at the end, and the new line before it. */
  fprintf (f, "%.*s", (int) strlen (s) - 2, s);
  json_object_put (o);
}

static void
print_extent (FILE *f, const struct manifest_extent *e)
{
  char hex[HEX_SIZE];

  fprintf (f, "    {\"offset\":%" PRIu64 ",\"length\":%" PRIu64 ",",
           e->offset, e->length);
  if (e->kind == EXTENT_DATA)
    fprintf (f, "\"sha256\":\"%s\"}", to_hex (e->digest, hex));
  else
    fprintf (f, "\"%s\":true}", e->kind == EXTENT_ZERO ? "zero" : "lost");
}

int
manifest_write (const char *path, struct manifest *m, struct message *why)
{
  const struct manifest_list *l = &m->extents;
  uint8_t all[DIGEST_SIZE];
  char hex[HEX_SIZE];
  struct replace r;
  size_t i;

  tidy (&m->extents);
  if (digest_all (l, all) == -1 || replace_begin (&r, path) == -1)
    return message_set (why, "%s: manifest: %s", path, strerror (errno));
  print_head (r.f, m);
  fputs (",\n  \"extents\":[\n", r.f);
  for (i = 0; i < l->nr; i++) {
    print_extent (r.f, &l->list[i]);
    fputs (i + 1 < l->nr ? ",\n" : "\n", r.f);
  }
  fprintf (r.f, "  ],\n  \"extents-sha256\":\"%s\"\n}\n", to_hex (all, hex));
  if (replace_end (&r) == -1)
    return message_set (why, "%s: manifest: %s", path, strerror (errno));
  return 0;
}

/* ----------------------------------------------------------------- reading */

static bool
is_true (struct json_object *o, const char *key)
{
  struct json_object *v;

  return json_object_object_get_ex (o, key, &v)
    && json_object_is_type (v, json_type_boolean)
    && json_object_get_boolean (v);
}

static int
read_extent (const struct manifest *m, struct json_object *o, uint64_t after,
             struct manifest_extent *e)
{
  uint64_t cluster = m->id.cluster_size, end;
  char hex[HEX_SIZE];

  if (!json_object_is_type (o, json_type_object)
      || json_get_number (o, "offset", &e->offset) == -1
      || json_get_number (o, "length", &e->length) == -1
      || __builtin_add_overflow (e->offset, e->length, &end)
      || e->offset < after || e->length == 0 || end > m->id.size
      || e->offset % cluster != 0
      || (end % cluster != 0 && end != m->id.size))
    return -1;
  if (is_true (o, "zero"))
    e->kind = EXTENT_ZERO;
  else if (is_true (o, "lost"))
    e->kind = EXTENT_LOST;
  else {
    e->kind = EXTENT_DATA;
    if (e->length > MANIFEST_DATA_MAX
        || json_get_text (o, "sha256", hex, sizeof hex) == -1
        || from_hex (hex, e->digest) == -1)
      return -1;
  }
  return 0;
}

static int
read_extents (struct manifest *m, struct json_object *array)
{
  size_t i, nr = json_object_array_length (array);
  uint64_t after = 0;

  for (i = 0; i < nr; i++) {
    struct manifest_extent e = { 0 };

    if (read_extent (m, json_object_array_get_idx (array, i), after, &e) == -1
        || manifest_list_add (&m->extents, &e) == -1)
      return -1;
    after = e.offset + e.length;
  }
  return 0;
}

static int
from_json (struct manifest *m, struct json_object *o)
{
  uint8_t all[DIGEST_SIZE], said[DIGEST_SIZE];
  struct json_object *array;
  char text[HEX_SIZE];
  uint64_t version;

  if (!json_object_is_type (o, json_type_object)
      || json_get_number (o, VERSION_KEY, &version) == -1
      || version != MANIFEST_VERSION
      || json_get_text (o, "digest", text, sizeof text) == -1
      || strcmp (text, "sha256") != 0
      || json_get_text (o, "state", text, sizeof text) == -1)
    return -1;
  m->incomplete = strcmp (text, "completed") != 0;
  if (identity_from_json (&m->id, o) == -1
      || m->id.cluster_size < BMFILE_CLUSTER_MIN
      || m->id.cluster_size > BMFILE_CLUSTER_MAX
      || (m->id.cluster_size & (m->id.cluster_size - 1)) != 0
      || !json_object_object_get_ex (o, "extents", &array)
      || !json_object_is_type (array, json_type_array)
      || read_extents (m, array) == -1
      || json_get_text (o, "extents-sha256", text, sizeof text) == -1
      || from_hex (text, said) == -1)
    return -1;
  return digest_all (&m->extents, all) == -1
    || memcmp (all, said, sizeof all) != 0 ? -1 : 0;
}

int
manifest_read (const char *path, struct manifest *m, struct message *why)
{
  struct json_object *o;
  struct stat st;
  int r;

  memset (m, 0, sizeof *m);
  if (stat (path, &st) == -1)
    return message_set (why, "%s: manifest: %s", path, strerror (errno));
  o = S_ISREG (st.st_mode) ? json_object_from_file (path) : NULL;
  r = from_json (m, o);
  json_object_put (o);
  if (r == 0)
    return 0;
  manifest_free (m);
  errno = EINVAL;
  return message_set (why, "%s: not a manifest of a backup, or damaged", path);
}

const struct manifest_extent *
manifest_find (const struct manifest *m, uint64_t offset)
{
  size_t low = 0, high = m->extents.nr;

  while (low < high) {
    size_t mid = (low + high) / 2;
    const struct manifest_extent *e = &m->extents.list[mid];

    if (offset < e->offset)
      high = mid;
    else if (offset >= e->offset + e->length)
      low = mid + 1;
    else
      return e;
  }
  return NULL;
}
