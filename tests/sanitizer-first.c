/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Starts a preloaded sanitizer before any other library is initialised. */

/* The runtime starts itself at the first call of malloc.  In nbdkit that is
 * one inside newlocale, in a constructor of a library: libc's locale lock is
 * held, the runtime's start takes it again, to translate an error message,
 * and leaves it broken; nbdkit then hangs when it exits after an error.  This
 * is linked with -z initfirst, so that its malloc comes before that.
 */

#include <stdlib.h>

static void __attribute__ ((constructor))
start_sanitizer (void)
{
  void *volatile p = malloc (1);

  free (p);
}
