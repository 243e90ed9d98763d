/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Copier: the ledger against a model, with losses and restarts. */

/* Random transitions; after each round the ledger is closed without a word, as
 * kill -9 would, and opened again: what it then wants must be what the model
 * has not seen flushed. */

#include <config.h>

#include <stdbool.h>
#include <unistd.h>

#include "ledger.h"
#include "testing.h"

#define CLUSTER 4096
#define CLUSTERS 300
#define DISK (CLUSTERS * CLUSTER - 1000)

enum where { OUT, WANTED, TAKEN, DRAINED, FLUSHING, DELIVERED };

static enum where model[CLUSTERS];
static char path[] = "/tmp/nbdfleece-ledger.XXXXXX";

static uint64_t
bytes_of (uint64_t first, uint64_t end)
{
  return (end == CLUSTERS ? DISK : end * CLUSTER) - first * CLUSTER;
}

/* Moves everything from one state to another; returns the bytes. */
static uint64_t
move_all (enum where from, enum where to)
{
  uint64_t c, bytes = 0;

  for (c = 0; c < CLUSTERS; c++)
    if (model[c] == from) {
      model[c] = to;
      bytes += bytes_of (c, c + 1);
    }
  return bytes;
}

static void
check_wanted (struct ledger *l)
{
  uint64_t c = ledger_first (l), end, i = 0;

  while (c < CLUSTERS) {
    end = ledger_run_end (l, NULL, c, CLUSTERS);
    for (; i < c; i++)
      CHECK (model[i] != WANTED);
    for (; i < end; i++)
      CHECK (model[i] == WANTED);
    c = ledger_find (l, NULL, end, CLUSTERS);
  }
  CHECK (c == CLUSTERS);
  for (; i < CLUSTERS; i++)
    CHECK (model[i] != WANTED);
}

/* A run of clusters that are in state s, or false. */
static bool
pick (struct rng *rng, enum where s, uint64_t *first, uint64_t *end)
{
  uint64_t c, start = rng_below (rng, CLUSTERS), max = 1 + rng_below (rng, 30);

  for (c = start; c < CLUSTERS && model[c] != s; c++)
    ;
  if (c == CLUSTERS)
    return false;
  *first = c;
  while (c < CLUSTERS && model[c] == s && c - *first < max)
    c++;
  *end = c;
  return true;
}

static void
set_model (uint64_t first, uint64_t end, enum where to)
{
  for (; first < end; first++)
    model[first] = to;
}

static void
step (struct rng *rng, struct ledger *l, uint64_t *delivered)
{
  struct range_list done = { 0 };
  uint64_t first, end, lost;

  switch (rng_below (rng, 12)) {
  case 0: case 1: case 2: case 3:
    if (pick (rng, WANTED, &first, &end)) {
      ledger_take (l, first, end);
      set_model (first, end, TAKEN);
    }
    break;
  case 4: case 5: case 6:
    if (pick (rng, TAKEN, &first, &end)) {
      CHECK (ledger_drained (l, first, end) == 0);
      set_model (first, end, DRAINED);
    }
    break;
  case 7:
    if (pick (rng, TAKEN, &first, &end)) {
      ledger_give_back (l, first, end);
      set_model (first, end, WANTED);
    }
    break;
  case 8: case 9:
    if (l->flushing.nr == 0) {
      ledger_flush_begin (l);
      move_all (DRAINED, FLUSHING);
      CHECK (l->drained_bytes == 0);
    }
    break;
  case 10:
    ledger_flushed (l, &done);
    lost = move_all (FLUSHING, DELIVERED);
    *delivered += lost;
    range_list_free (&done);
    break;
  case 11:
    if (rng_below (rng, 10) == 0) {
      lost = move_all (FLUSHING, WANTED) + move_all (DRAINED, WANTED);
      CHECK (ledger_lost (l) == lost);
    }
  }
}

static void
make_bitmap (struct rng *rng)
{
  struct bmfile_params p = {
    .kind = BMFILE_COPY, .disk_size = DISK, .cluster_size = CLUSTER,
    .export_name = "vda", .name = "job-1",
  };
  struct bmfile bf;
  uint64_t c;

  unlink (path);
  CHECK (bmfile_create (path, &p, &bf) == 0);
  for (c = 0; c < CLUSTERS; c++) {
    model[c] = rng_below (rng, 3) ? WANTED : OUT;
    if (model[c] == WANTED)
      bm_set_range (bf.bits[0], c, c + 1);
  }
  bmfile_close (&bf);
}

static void
job (struct rng *rng)
{
  struct ledger l, second;
  struct message why;
  uint64_t scope, delivered = 0;
  int i, run;

  make_bitmap (rng);
  scope = move_all (WANTED, WANTED);
  for (run = 0; run < 6; run++) {
    CHECK (ledger_open (&l, path, DISK, 65536, 0, &why) == 0);
    CHECK (l.scope == scope && l.delivered == delivered);
    check_wanted (&l);
    CHECK (ledger_open (&second, path, DISK, 65536, 0, &why) == -1);
    CHECK (strstr (why.text, "another copier"));
    for (i = 0; i < 100; i++) {
      step (rng, &l, &delivered);
      CHECK (l.delivered == delivered);
      check_wanted (&l);
    }
    ledger_close (&l);
    move_all (TAKEN, WANTED);
    move_all (DRAINED, WANTED);
    move_all (FLUSHING, WANTED);
  }
}

static void
no_bitmap (struct rng *rng)
{
  struct ledger l;
  struct message why;
  uint64_t delivered = 0;
  int i;

  CHECK (ledger_open (&l, NULL, DISK, CLUSTER, 0, &why) == 0);
  CHECK (l.scope == DISK && l.delivered == 0);
  set_model (0, CLUSTERS, WANTED);
  for (i = 0; i < 2000; i++) {
    step (rng, &l, &delivered);
    check_wanted (&l);
  }
  ledger_close (&l);
}

int
main (void)
{
  struct rng rng = rng_start ();
  struct ledger l;
  struct message why;
  int i;

  CHECK (mkstemp (path) != -1);
  for (i = 0; i < 100; i++)
    job (&rng);
  CHECK (ledger_open (&l, path, DISK + 1, CLUSTER, 0, &why) == -1);
  CHECK (strstr (why.text, "bytes"));
  unlink (path);
  CHECK (ledger_open (&l, path, DISK, CLUSTER, 0, &why) == -1);
  no_bitmap (&rng);
  return 0;
}
