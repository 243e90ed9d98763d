/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the front tells about its clients. */

#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "client.h"
#include "status.h"

#define REGION_BITS_MIN 16
#define WINDOW 2.0              /* seconds that a rate is measured over */

static bool
belongs_to (const struct client *c, const struct pull *p, const char *identity)
{
  return strcmp (p->snapshot, c->view.name) == 0
    && strcmp (p->address, c->peer.address) == 0
    && strcmp (p->identity, identity) == 0
    && p->pid == (c->peer.local ? c->peer.pid : 0)
    && p->disk_size == c->view.map.disk_size;
}

static struct pull *
pull_new (const struct client *c, const char *identity)
{
  struct pull *p = calloc (1, sizeof *p);

  if (!p)
    return NULL;
  strcpy (p->address, c->peer.address);
  strcpy (p->identity, identity);
  strcpy (p->snapshot, c->view.name);
  p->pid = c->peer.local ? c->peer.pid : 0;
  p->disk_size = c->view.map.disk_size;
  p->since = p->active = p->window = c->front->now;
  p->region_bits = REGION_BITS_MIN;
  while ((p->disk_size - 1) >> p->region_bits >= PULL_REGIONS)
    p->region_bits++;
  LIST_INSERT_HEAD (&c->front->pulls, p, entry);
  return p;
}

struct pull *
pull_join (struct client *c)
{
  char identity[sizeof ((struct pull *) 0)->identity];
  struct pull *p;

  peer_identity (&c->peer, identity, sizeof identity);
  LIST_FOREACH (p, &c->front->pulls, entry)
    if (belongs_to (c, p, identity))
      break;
  if (!p)
    p = pull_new (c, identity);
  if (p)
    p->connections++;
  return p;
}

void
pull_leave (struct pull *p, struct client *c)
{
  c->pull = NULL;
  if (--p->connections > 0)
    return;
  LIST_REMOVE (p, entry);
  free (p);
}

static void
turn_window (struct pull *p, double now)
{
  if (now - p->window < WINDOW)
    return;
  p->rate = p->window_bytes / (now - p->window);
  p->window = now;
  p->window_bytes = 0;
}

void
pull_read (struct pull *p, uint64_t offset, uint64_t length, double now)
{
  uint64_t first = offset >> p->region_bits;
  uint64_t last = (offset + length - 1) >> p->region_bits;

  turn_window (p, now);
  p->active = now;
  p->bytes += length;
  p->window_bytes += length;
  for (; first <= last && first < PULL_REGIONS; first++)
    p->regions[first / 64] |= UINT64_C (1) << (first & 63);
}

/* Of the disk, 0 to 1: the regions that a read has touched. */
static double
part_read (const struct pull *p)
{
  uint64_t all = ((p->disk_size - 1) >> p->region_bits) + 1;
  unsigned i, n = 0;

  for (i = 0; i < PULL_REGIONS / 64; i++)
    n += __builtin_popcountll (p->regions[i]);
  return (double) n / all;
}

/* While the first window is not over, it is all there is to go by. */
static double
rate_of (const struct pull *p, double now)
{
  double running = now - p->window;

  if (p->rate > 0 && running < 2 * WINDOW)
    return p->rate;
  return running > 0.1 ? p->window_bytes / running : 0;
}

static void
add_text (struct json_object *o, const char *key, const char *text)
{
  json_object_object_add (o, key,
                          text ? json_object_new_string (text) : NULL);
}

static void
add_int (struct json_object *o, const char *key, uint64_t n)
{
  json_object_object_add (o, key, json_object_new_int64 (n));
}

static bool
has_text (const struct json_object *array, const char *text)
{
  size_t i;

  for (i = 0; i < json_object_array_length (array); i++)
    if (strcmp (json_object_get_string (json_object_array_get_idx (array, i)),
                text) == 0)
      return true;
  return false;
}

/* The contexts of all connections of a pull. */
static struct json_object *
contexts_json (const struct front *front, const struct pull *p)
{
  struct json_object *array = json_object_new_array ();
  char name[CONTEXT_NAME_SIZE];
  const struct client *c;
  unsigned i;

  TAILQ_FOREACH (c, &front->clients, entry)
    for (i = 0; c->pull == p && i < c->contexts.nr; i++) {
      context_name (&c->view, c->contexts.chosen[i], name);
      if (!has_text (array, name))
        json_object_array_add (array, json_object_new_string (name));
    }
  return array;
}

static bool
uses_tls (const struct front *front, const struct pull *p)
{
  const struct client *c;

  TAILQ_FOREACH (c, &front->clients, entry)
    if (c->pull == p && !c->is_tls)
      return false;
  return true;
}

/* With four digits, not with all that a double has. */
static struct json_object *
part_json (double part)
{
  char text[16];

  snprintf (text, sizeof text, "%.4f", part);
  return json_object_new_double_s (part, text);
}

static struct json_object *
pull_json (const struct front *front, const struct pull *p)
{
  struct json_object *o = json_object_new_object ();

  add_text (o, "address", p->address);
  json_object_object_add (o, "pid", p->pid ? json_object_new_int (p->pid)
                          : NULL);
  add_text (o, "identity", p->identity[0] ? p->identity : NULL);
  json_object_object_add (o, "tls",
                          json_object_new_boolean (uses_tls (front, p)));
  add_text (o, "snapshot", p->snapshot);
  json_object_object_add (o, "contexts", contexts_json (front, p));
  add_int (o, "connections", p->connections);
  add_int (o, "bytes", p->bytes);
  add_int (o, "bytes-per-second", rate_of (p, front->now));
  json_object_object_add (o, "part-read", part_json (part_read (p)));
  add_int (o, "connected-seconds", front->now - p->since);
  add_int (o, "idle-seconds", front->now - p->active);
  return o;
}

static struct json_object *
listen_json (const struct settings *s)
{
  struct json_object *array = json_object_new_array (), *o;
  size_t i;

  for (i = 0; i < s->nr_listen; i++) {
    o = json_object_new_object ();
    add_text (o, "address", s->listen[i].text);
    add_text (o, "tls", tls_mode_name (s->listen[i].tls));
    json_object_array_add (array, o);
  }
  return array;
}

char *
status_text (const struct front *front)
{
  struct json_object *o = json_object_new_object ();
  struct json_object *clients = json_object_new_array ();
  const struct pull *p;
  char *text = NULL;

  if (!o || !clients)
    return NULL;
  add_text (o, "version", PACKAGE_VERSION);
  add_int (o, "pid", getpid ());
  add_text (o, "id", front->settings->id);
  add_int (o, "reloads", front->reloads);
  add_text (o, "refusal", front->refusal[0] ? front->refusal : NULL);
  json_object_object_add (o, "stopping",
                          json_object_new_boolean (front->stopping));
  add_int (o, "connections", front->nr_clients);
  add_int (o, "connected", front->connected);
  add_int (o, "refused", front->refused);
  json_object_object_add (o, "listen", listen_json (front->settings));
  LIST_FOREACH (p, &front->pulls, entry)
    json_object_array_add (clients, pull_json (front, p));
  json_object_object_add (o, "clients", clients);
  if (asprintf (&text, "%s\n", json_object_to_json_string_ext
                (o, JSON_C_TO_STRING_PLAIN
                 | JSON_C_TO_STRING_NOSLASHESCAPE)) == -1)
    text = NULL;
  json_object_put (o);
  return text;
}
