/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Answering SIGBUS with zeroes. */

/* The handler runs in the thread that has touched the mapping, in the middle of
 * a load or store, and never inside of the functions here, which touch no
 * mapping: so it may take their lock.  A SIGBUS that somebody has sent, which
 * could come anywhere, is told from the others by its code.
 */

#include <config.h>

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "broken.h"
#include "guard.h"

struct guarded {
  char *base;
  size_t size;
  struct guarded *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct guarded *all;     /* under lock */

int
guard_add (void *base, size_t size)
{
  struct guarded *g = malloc (sizeof *g);

  if (!g)
    return -1;
  pthread_mutex_lock (&lock);
  *g = (struct guarded) { base, size, all };
  all = g;
  pthread_mutex_unlock (&lock);
  return 0;
}

void
guard_remove (void *base)
{
  struct guarded **to, *g = NULL;

  pthread_mutex_lock (&lock);
  for (to = &all; *to && (*to)->base != base; to = &(*to)->next)
    ;
  if (*to) {
    g = *to;
    *to = g->next;
  }
  pthread_mutex_unlock (&lock);
  free (g);
}

/* Private, so that what is stored there from now on goes nowhere. */
static int
make_zero (uintptr_t address)
{
  const struct guarded *g;
  int r = -1;

  pthread_mutex_lock (&lock);
  for (g = all; g; g = g->next)
    if (address - (uintptr_t) g->base < g->size) {
      r = mmap (g->base, g->size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0)
        == MAP_FAILED ? -1 : 0;
      break;
    }
  pthread_mutex_unlock (&lock);
  return r;
}

/* Of another mapping, or sent: as without a handler, which comes to the same
 * place again. */
static void
bus_error (int sig, siginfo_t *info, void *context)
{
  (void) context;
  if (info->si_code <= 0 || make_zero ((uintptr_t) info->si_addr) == -1) {
    signal (sig, SIG_DFL);
    if (info->si_code <= 0)
      raise (sig);
  }
}

void
guard_install (void)
{
  struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESTART };

  if (BROKEN (NO_GUARD))
    return;
  action.sa_sigaction = bus_error;
  sigemptyset (&action.sa_mask);
  sigaction (SIGBUS, &action, NULL);
}
