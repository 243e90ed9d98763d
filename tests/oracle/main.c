/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The oracle test: no byte ever read from a snapshot may be a wrong one. */

/* Real servers, all of them: an nbdkit with the filter over a backend, an
 * nbdkit with the plugin, and this program as the guest (writers), as the
 * daemon (control protocol) and as backup software (slots and roamers, over
 * NBD and through the reader of common/).  It knows what each byte of each
 * snapshot may be, and checks each byte that comes; model.h says how that is
 * known with hundreds of overlapping requests in flight.
 *
 * What makes rare orders of events frequent: a filter of its own below ours
 * (jitter.c), which holds requests before or after they are done, or does
 * them in two parts; places that all writers like at the time; several
 * snapshots of one disk with other cluster sizes; readers that go on while a
 * snapshot ends; servers that are killed.
 *
 * Its value is what it finds: tests/test-oracle-broken.sh runs it against
 * filters and readers with one mechanism broken each, and it must fail there.
 *
 * Without a filter (filter=0) only the live disk is checked: a test of the
 * model alone.
 */

#include <config.h>

#include <inttypes.h>
#include <signal.h>
#include <unistd.h>

#include "oracle.h"

struct crew {
  struct writer *writers;
  struct slot *slots;
  struct roamer *roamers;
};

static void
crew_start (struct oracle *o, struct crew *crew)
{
  uint64_t i;

  crew->writers = xcalloc (o->opt.writers + 1, sizeof *crew->writers);
  crew->slots = xcalloc (o->opt.slots + 1, sizeof *crew->slots);
  crew->roamers = xcalloc (o->opt.readers + 1, sizeof *crew->roamers);
  for (i = 0; i < o->opt.writers; i++) {
    crew->writers[i] = (struct writer) { .o = o, .nr = i };
    thread_start (&crew->writers[i].thread, writer_run, &crew->writers[i]);
  }
  for (i = 0; i < o->opt.slots; i++) {
    crew->slots[i] = (struct slot) { .o = o, .nr = i };
    thread_start (&crew->slots[i].thread, slot_run, &crew->slots[i]);
  }
  for (i = 0; o->opt.slots && i < o->opt.readers; i++) {
    crew->roamers[i] = (struct roamer) { .o = o, .nr = i };
    thread_start (&crew->roamers[i].thread, roamer_run, &crew->roamers[i]);
  }
}

static void
crew_join (struct oracle *o, struct crew *crew)
{
  uint64_t i;

  atomic_store (&o->stop, true);
  for (i = 0; i < o->opt.writers; i++)
    pthread_join (crew->writers[i].thread, NULL);
  for (i = 0; i < o->opt.slots; i++)
    pthread_join (crew->slots[i].thread, NULL);
  for (i = 0; o->opt.slots && i < o->opt.readers; i++)
    pthread_join (crew->roamers[i].thread, NULL);
  free (crew->writers);
  free (crew->slots);
  free (crew->roamers);
}

static void
account (struct oracle *o)
{
  struct tally *t = &o->tally;

  fprintf (stderr, "oracle: guest: %llu requests, %llu MiB, %llu failed"
           " as they may\n", t->requests, t->written >> 20, t->failed);
  fprintf (stderr, "oracle: snapshots: %llu exact, %llu free, %llu frozen,"
           " %llu refused; %llu clusters lost\n",
           t->exact, t->free_, t->frozen, t->timeouts, t->lost);
  fprintf (stderr, "cases: snapshots compared with an oracle: %llu\n"
           "cases: kills: %llu\n", t->exact + t->free_ + t->frozen, t->kills);
  fprintf (stderr, "oracle: requests at an instant: %llu, proven %llu in and"
           " %llu out\n", t->concurrent, t->in, t->out);
  fprintf (stderr, "oracle: read: %llu times, %llu MiB; %llu holes; %llu"
           " denied\n", t->reads, t->bytes_read >> 20, t->holes, t->denied);
  fprintf (stderr, "oracle: %llu settlements, %llu kills, survived by %llu"
           " snapshots\n", t->settled, t->kills, t->survivors);
}

/* All snapshots were ended and their files removed. */
static void
check_no_leftovers (struct oracle *o)
{
  if (rmdir (o->export_dir) == -1)
    die ("%s: %m", o->export_dir);
}

int
main (int argc, char *argv[])
{
  static struct oracle o;       /* threads may outlive main in die */
  struct crew crew;
  struct rng rng;

  signal (SIGPIPE, SIG_IGN);
  options_parse (&o.opt, argc, argv);
  rng = rng_start ();
  o.seed = rng.state;
  options_print (&o.opt);
  o.model = model_new (o.opt.size, o.seed,
                       strcmp (o.opt.trim, "defer") == 0);
  o.current = xcalloc (o.opt.slots + 1, sizeof *o.current);
  pthread_mutex_init (&o.registry, NULL);
  pthread_cond_init (&o.event, NULL);
  pthread_mutex_init (&o.freezer, NULL);
  turn_init (&o.turn);
  atomic_init (&o.slots_left, o.opt.slots);
  at_death (servers_abandon, &o);

  servers_prepare (&o);
  server_start (&o.backend);
  server_start (&o.export);
  server_start (&o.plugin);
  if (o.opt.front)
    server_start (&o.front);
  crew_start (&o, &crew);
  chaos_run (&o, &rng);
  crew_join (&o, &crew);
  settle (&o);
  nbd_close (o.settler);
  servers_finish (&o);
  check_no_leftovers (&o);
  account (&o);
  free (o.current);
  model_free (o.model);
  return EXIT_SUCCESS;
}
