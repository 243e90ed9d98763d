/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Which exports a request is about, by their names or those of groups. */

#include <config.h>

#include <string.h>

#include "export.h"
#include "job_commands.h"

struct export *
choose_export (struct request *request, const char *name)
{
  struct export *ex = export_find (request->daemon, name);

  if (ex && ex->conf)
    return ex;
  if (config_find_group (request->daemon->config, name))
    request_error (request, "unknown-export", "%s is a group, expected an "
                   "export", name);
  else
    request_error (request, "unknown-export", "there is no export %s", name);
  return NULL;
}

/* group: that it is named by, or NULL. */
static bool
add_export (struct request *request, struct chosen *chosen, const char *name,
            const struct config_group *group)
{
  struct export *ex = choose_export (request, name);
  size_t i;

  if (!ex)
    return false;
  for (i = 0; i < chosen->nr; i++)
    if (chosen->exports[i] == ex) {
      request_error (request, "bad-request", "exports: %s is there twice%s%s",
                     name, group ? ", once in group " : "",
                     group ? group->name : "");
      return false;
    }
  if (chosen->nr == EXPORTS_MAX) {
    request_error (request, "bad-request", "exports: more than %d",
                   EXPORTS_MAX);
    return false;
  }
  chosen->exports[chosen->nr++] = ex;
  return true;
}

/* A group's name is no export's, the configuration sees to that; but an export
 * that is being removed may still have it. */
static bool
add_name (struct request *request, struct chosen *chosen, const char *name)
{
  const struct config_group *group
    = config_find_group (request->daemon->config, name);
  size_t i;

  if (!group && !export_find (request->daemon, name)) {
    request_error (request, "unknown-export", "there is no export %s%s", name,
                   request->daemon->config->nr_groups > 0
                   ? ", nor a group" : "");
    return false;
  }
  if (!group)
    return add_export (request, chosen, name, NULL);
  for (i = 0; i < group->exports.nr; i++)
    if (!add_export (request, chosen, group->exports.v[i], group))
      return false;
  chosen->groups[chosen->nr_groups++] = group;
  return true;
}

bool
choose_exports (struct request *request, struct json_object *args,
                struct chosen *chosen)
{
  const char *name = member_string (args, "export");
  struct json_object *names = NULL;
  size_t nr, i;

  *chosen = (struct chosen) { .nr = 0 };
  json_object_object_get_ex (args, "exports", &names);
  if (!name == !names) {
    request_error (request, "bad-request", "expected either export or "
                   "exports");
    return false;
  }
  if (name)
    return add_name (request, chosen, name);
  nr = json_object_array_length (names);
  if (nr == 0 || nr > EXPORTS_MAX) {
    request_error (request, "bad-request", "exports: expected 1 to %d names",
                   EXPORTS_MAX);
    return false;
  }
  for (i = 0; i < nr; i++)
    if (!add_name (request, chosen, json_object_get_string
                   (json_object_array_get_idx (names, i))))
      return false;
  return true;
}
