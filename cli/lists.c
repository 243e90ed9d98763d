/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Tables of snapshots, checkpoints and jobs. */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>

#include "cli.h"
#include "human.h"
#include "lists.h"
#include "table.h"

#define NR(array) (sizeof array / sizeof array[0])

static void
add_snapshot (struct table *table, json_object *snapshot)
{
  char buf[HUMAN_SIZE];

  table_add (table, member_text_or_dash (snapshot, "export"));
  table_add (table, member_text_or_dash (snapshot, "name"));
  table_add (table, member_text_or_dash (snapshot, "state"));
  table_add (table, member_yes_or_no (snapshot, "durable"));
  table_add (table, member_instant (snapshot, "instant-ns", buf));
  table_add (table, member_size (snapshot, "size", buf));
  table_add (table, member_size (snapshot, "cluster-size", buf));
  table_add (table, member_number (snapshot, "clusters-copied", buf));
  table_add (table, member_number (snapshot, "clusters-lost", buf));
  table_add (table, member_size (snapshot, "scratch-bytes", buf));
  table_add (table, member_text_or_dash (snapshot, "job"));
}

void
print_snapshots (json_object *const *arrays, size_t nr_arrays)
{
  static const struct column columns[] = {
    { "EXPORT", false }, { "SNAPSHOT", false }, { "STATE", false },
    { "DURABLE", false }, { "INSTANT", false }, { "SIZE", true }, { "CLUSTER", true },
    { "COPIED", true }, { "LOST", true }, { "SCRATCH", true },
    { "JOB", false },
  };
  struct table table = { .columns = columns, .nr_columns = NR (columns) };
  size_t i, j;

  for (i = 0; i < nr_arrays; i++)
    for (j = 0; arrays[i] && j < json_object_array_length (arrays[i]); j++)
      add_snapshot (&table, json_object_array_get_idx (arrays[i], j));
  if (table.nr_cells == 0)
    print (stdout, "no snapshots\n");
  else
    table_print (&table, stdout);
}

/* "vda@monday", and so on; what is missing is a dash. */
static void
add_reader (struct table *table, json_object *c)
{
  json_object *contexts = member_array (c, "contexts"), *part;
  char buf[HUMAN_SIZE], text[512];
  uint64_t pid;
  size_t i, n;

  snprintf (text, sizeof text, "%s@%s", member_text_or_dash (c, "export"),
            member_text_or_dash (c, "snapshot"));
  table_add (table, text);
  if (member_int (c, "pid", &pid))
    snprintf (text, sizeof text, "%s %" PRIu64,
              member_text_or_dash (c, "address"), pid);
  else
    snprintf (text, sizeof text, "%s", member_text_or_dash (c, "address"));
  table_add (table, text);
  table_add (table, member_text_or_dash (c, "identity"));
  table_add (table, member_number (c, "connections", buf));
  snprintf (text, sizeof text, "-");
  if (json_object_object_get_ex (c, "part-read", &part))
    snprintf (text, sizeof text, "%d%%",
              (int) (json_object_get_double (part) * 100));
  table_add (table, text);
  table_add (table, member_size (c, "bytes", buf));
  table_add (table, member_rate (c, "bytes-per-second", buf));
  n = snprintf (text, sizeof text, "%s", "");
  for (i = 0; contexts && i < json_object_array_length (contexts)
         && n < sizeof text; i++)
    n += snprintf (text + n, sizeof text - n, "%s%s", i == 0 ? "" : " ",
                   json_object_get_string
                   (json_object_array_get_idx (contexts, i)));
  table_add (table, text[0] ? text : "-");
}

void
print_readers (json_object *clients)
{
  static const struct column columns[] = {
    { "READS", false }, { "CLIENT", false }, { "IDENTITY", false },
    { "CONNECTIONS", true }, { "DONE", true }, { "BYTES", true },
    { "RATE", true }, { "CONTEXTS", false },
  };
  struct table table = { .columns = columns, .nr_columns = NR (columns) };
  size_t i;

  for (i = 0; clients && i < json_object_array_length (clients); i++)
    add_reader (&table, json_object_array_get_idx (clients, i));
  if (table.nr_cells == 0)
    return;
  print (stdout, "\n");
  table_print (&table, stdout);
}

static void
add_checkpoint (struct table *table, json_object *checkpoint)
{
  char buf[HUMAN_SIZE];

  table_add (table, member_text_or_dash (checkpoint, "name"));
  table_add (table, member_instant (checkpoint, "instant-ns", buf));
  table_add (table, member_size (checkpoint, "changed-bytes", buf));
  table_add (table, member_text_or_dash (checkpoint, "job"));
  table_add (table, member_text_or_dash (checkpoint, "state"));
  table_add (table, member_text_or_dash (checkpoint, "reason"));
}

void
print_checkpoints (json_object *checkpoints)
{
  static const struct column columns[] = {
    { "CHECKPOINT", false }, { "INSTANT", false }, { "CHANGED", true },
    { "JOB", false }, { "STATE", false }, { "REASON", false },
  };
  struct table table = { .columns = columns, .nr_columns = NR (columns) };
  size_t i;

  for (i = 0; checkpoints && i < json_object_array_length (checkpoints); i++)
    add_checkpoint (&table, json_object_array_get_idx (checkpoints, i));
  if (table.nr_cells == 0)
    print (stdout, "no checkpoints\n");
  else
    table_print (&table, stdout);
}

static void
add_job (struct table *table, json_object *job)
{
  char buf[HUMAN_SIZE];

  table_add (table, member_text_or_dash (job, "id"));
  table_add (table, member_text_or_dash (job, "export"));
  table_add (table, member_text_or_dash (job, "state"));
  table_add (table, member_instant (job, "instant-ns", buf));
  table_add (table, job_percent (job, buf));
  table_add (table, member_size (job, "bytes-total", buf));
  table_add (table, member_rate (job, "bytes-per-second", buf));
  table_add (table, member_seconds (job, "eta-seconds", buf));
  table_add (table, member_text_or_dash (job, "target"));
}

void
print_jobs (json_object *jobs)
{
  static const struct column columns[] = {
    { "JOB", false }, { "EXPORT", false }, { "STATE", false },
    { "INSTANT", false }, { "DONE", true }, { "SIZE", true },
    { "RATE", true }, { "LEFT", true }, { "TARGET", false },
  };
  struct table table = { .columns = columns, .nr_columns = NR (columns) };
  size_t i;

  for (i = 0; jobs && i < json_object_array_length (jobs); i++)
    add_job (&table, json_object_array_get_idx (jobs, i));
  if (table.nr_cells == 0)
    print (stdout, "no jobs\n");
  else
    table_print (&table, stdout);
}
