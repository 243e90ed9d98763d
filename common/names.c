/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Validation of names. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "names.h"

static bool
is_alnum (char c)             /* isalnum depends on the locale */
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
    || (c >= '0' && c <= '9');
}

bool
name_ok (const char *name)
{
  size_t i;

  if (!is_alnum (name[0]))
    return false;
  for (i = 1; name[i]; i++)
    if (i >= NAME_LENGTH_MAX || (!is_alnum (name[i]) && name[i] != '.'
                                 && name[i] != '_' && name[i] != '-'))
      return false;
  return true;
}

int
name_split (const char *full, char *export_name, char *snapshot)
{
  const char *at = strchr (full, '@');
  size_t len = at ? (size_t) (at - full) : 0;

  if (!at || len > NAME_LENGTH_MAX || strlen (at + 1) > NAME_LENGTH_MAX)
    goto bad;
  memcpy (export_name, full, len);
  export_name[len] = '\0';
  strcpy (snapshot, at + 1);
  if (name_ok (export_name) && name_ok (snapshot))
    return 0;
 bad:
  errno = EINVAL;
  return -1;
}
