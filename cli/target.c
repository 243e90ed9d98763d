/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Targets and images: paths made absolute. */

#include <config.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "target.h"

/* scheme://... */
static bool
is_uri (const char *target)
{
  size_t n = 0;

  while (isalnum ((unsigned char) target[n]) || target[n] == '+'
         || target[n] == '-' || target[n] == '.')
    n++;
  return n > 0 && strncmp (target + n, "://", 3) == 0;
}

/* Length of a qcow2: or raw: before the path. */
static size_t
prefix_length (const char *target)
{
  static const char *const prefixes[] = { "qcow2:", "raw:" };
  size_t i;

  for (i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
    if (strncmp (target, prefixes[i], strlen (prefixes[i])) == 0)
      return strlen (prefixes[i]);
  return 0;
}

char *
absolute_target (const char *target)
{
  const size_t n = prefix_length (target);
  const char *path = target + n;
  char *cwd, *absolute;

  if (*path == '/' || *path == '\0' || is_uri (target))
    return strdup (target);
  cwd = getcwd (NULL, 0);
  if (!cwd)
    return NULL;
  if (asprintf (&absolute, "%.*s%s%s%s", (int) n, target, cwd,
                strcmp (cwd, "/") == 0 ? "" : "/", path) == -1)
    absolute = NULL;
  free (cwd);
  return absolute;
}

bool
is_name (const char *target)
{
  return !strchr (target, '/') && prefix_length (target) == 0;
}
