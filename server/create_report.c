/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* How long guests' writes were held for snapshots, and by whom else. */

#include <config.h>

#include "create.h"
#include "status.h"

uint64_t
create_gates_ns (const struct create *c)
{
  uint64_t first = UINT64_MAX, last = 0, longest = 0;
  const struct part *p;
  size_t i;

  for (i = 0; i < c->nr; i++) {
    p = &c->parts[i];
    if (p->closed_ns > longest)
      longest = p->closed_ns;
    if (p->closed_at_ns < first)
      first = p->closed_at_ns;
    if (p->closed_at_ns + p->closed_ns > last)
      last = p->closed_at_ns + p->closed_ns;
  }
  /* A filter that was started by an older daemon does not say when. */
  return first == 0 ? longest : last - first;
}

struct json_object *
create_report (const struct create *c)
{
  struct json_object *o = json_object_new_object ();
  struct json_object *gates = json_object_new_array (), *gate;
  size_t i;

  for (i = 0; i < c->nr; i++) {
    gate = json_object_new_object ();
    json_add_string (gate, "export", c->parts[i].export->name);
    json_add_int (gate, "closed-us", c->parts[i].closed_ns / 1000);
    json_object_array_add (gates, gate);
  }
  json_add_int (o, "gate-closed-us", create_gates_ns (c) / 1000);
  json_object_object_add (o, "gates", gates);
  json_object_object_add (o, "hooks", hooks_json (c->hooks));
  return o;
}
