/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What is told of the instant of snapshots: gates and hooks. */

#include <config.h>

#include <string.h>

#include "cli.h"
#include "human.h"
#include "instant.h"

json_object *
split_names (const char *names)
{
  json_object *array = json_object_new_array ();
  size_t len;

  for (;;) {
    len = strcspn (names, ",");
    json_object_array_add (array, json_object_new_string_len (names, len));
    if (names[len] == '\0')
      return array;
    names += len + 1;
  }
}

void
print_instant (json_object *result)
{
  json_object *gates = member_array (result, "gates"), *gate;
  const size_t nr = gates ? json_object_array_length (gates) : 0;
  char buf[HUMAN_SIZE];
  uint64_t us;
  size_t i;

  if (!member_int (result, "gate-closed-us", &us))
    return;
  print (stdout, "guests' writes were held for %s", human_us (us, buf));
  for (i = 0; nr > 1 && i < nr; i++) {
    gate = json_object_array_get_idx (gates, i);
    print (stdout, "%s%s %s", i == 0 ? " in all: " : ", ",
           member_text_or_dash (gate, "export"),
           member_us (gate, "closed-us", buf));
  }
  print (stdout, "\n");
}

static void
warn_of_hook (json_object *hook)
{
  const char *error = member_text (hook, "error");
  const char *group = member_text (hook, "group");
  json_object *exports = member_array (hook, "exports");

  if (!error)
    return;
  print (stderr, "nbdfleece: warning: hook %s of %s %s failed: %s: %s\n",
         member_text_or_dash (hook, "hook"), group ? "group" : "export",
         group ? group : exports && json_object_array_length (exports) > 0
         ? json_object_get_string (json_object_array_get_idx (exports, 0))
         : "-", member_text_or_dash (hook, "program"), error);
}

void
warn_of_hooks (json_object *result)
{
  json_object *hooks = member_array (result, "hooks");
  size_t i;

  for (i = 0; hooks && i < json_object_array_length (hooks); i++)
    warn_of_hook (json_object_array_get_idx (hooks, i));
}
