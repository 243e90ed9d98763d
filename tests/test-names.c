/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Names: the rule, its edges, and splitting EXPORT@SNAPSHOT. */

#include <config.h>

#include "names.h"
#include "testing.h"

static void
test_rule (void)
{
  static const char *good[] = {
    "a", "Z", "0", "vda", "a.b", "a..b", "a-b_c.d", "9-", "x."
  };
  static const char *bad[] = {
    "", ".", "..", ".a", "-a", "_a", "a/b", "/", "a b", " ", "a@b", "a\n",
    "\xc3\xa4", "a\xff", "a:b", "a%", "../../etc/passwd"
  };
  char longest[NAME_LENGTH_MAX + 2];
  size_t i;

  for (i = 0; i < sizeof good / sizeof good[0]; i++)
    CHECK (name_ok (good[i]));
  for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
    CHECK (!name_ok (bad[i]));
  memset (longest, 'a', sizeof longest);
  longest[NAME_LENGTH_MAX] = '\0';
  CHECK (name_ok (longest));
  longest[NAME_LENGTH_MAX] = 'a';
  longest[NAME_LENGTH_MAX + 1] = '\0';
  CHECK (!name_ok (longest));
}

static void
test_every_byte (void)
{
  static const char alnum[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  int c;

  for (c = 1; c < 256; c++) {
    char first[] = { (char) c, '\0' }, second[] = { 'a', (char) c, '\0' };

    CHECK (name_ok (first) == (strchr (alnum, c) != NULL));
    CHECK (name_ok (second)
           == (strchr (alnum, c) != NULL || strchr ("._-", c) != NULL));
  }
}

static void
test_split (void)
{
  static const char *bad[] = {
    "", "@", "a@", "@b", "a", "a@b@c", "a@.b", "../a@b", "a/b@c", "a@b/c"
  };
  char e[NAME_LENGTH_MAX + 1], s[NAME_LENGTH_MAX + 1];
  char full[2 * NAME_LENGTH_MAX + 3];
  size_t i;

  CHECK (name_split ("vda@monday", e, s) == 0);
  CHECK (strcmp (e, "vda") == 0 && strcmp (s, "monday") == 0);
  for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    errno = 0;
    CHECK (name_split (bad[i], e, s) == -1 && errno == EINVAL);
  }

  /* Both parts as long as they may be, then one byte more in each. */
  memset (full, 'x', sizeof full);
  full[NAME_LENGTH_MAX] = '@';
  full[2 * NAME_LENGTH_MAX + 1] = '\0';
  CHECK (name_split (full, e, s) == 0);
  CHECK (strlen (e) == NAME_LENGTH_MAX && strlen (s) == NAME_LENGTH_MAX);
  full[2 * NAME_LENGTH_MAX + 1] = 'x';
  full[2 * NAME_LENGTH_MAX + 2] = '\0';
  CHECK (name_split (full, e, s) == -1);
  full[NAME_LENGTH_MAX] = 'x';
  full[NAME_LENGTH_MAX + 1] = '@';
  CHECK (name_split (full, e, s) == -1);
}

int
main (void)
{
  test_rule ();
  test_every_byte ();
  test_split ();
  return EXIT_SUCCESS;
}
