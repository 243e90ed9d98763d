/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Fuzz target: what the daemon reads of and from its copiers. */

/* The first byte says what the rest is:
 *
 *   0  lines of progress, as they come through the pipe
 *   1  a job's record, STATE/jobs/1.json
 *   2  a copier's result, STATE/jobs/1.result
 *   3  answers of a filter: bytes of struct wire_reply, one packet each
 *
 * job_copier.c is included for what it does not show.  What must hold: a job
 * has one of its states whatever comes; what is shown of it, and written, is
 * JSON; and a record that was written reads back as what it was.
 */

#include <config.h>

#include <sys/socket.h>

#include "../server/job_copier.c"
#include "../server/filter_client.h"
#include "fuzz.h"

#define PACKETS_MAX 8

static struct world {
  char dir[64];
  struct daemon daemon;
  struct jobs jobs;
} world;

static void
remove_world (void)
{
  char *argv[] = { "rm", "-rf", world.dir, NULL }, message[100];

  free (process_output (argv, 20, message, sizeof message));
}

static void
make_world (void)
{
  static struct config config;

  fuzz_make_dir (world.dir);
  atexit (remove_world);
  config.run_dir = config.state_dir = world.dir;
  world.daemon.config = &config;
  world.daemon.loop = ev_loop_new (EVFLAG_AUTO);
  world.daemon.log = (struct log) { .level = -1 };
  world.jobs.daemon = &world.daemon;
  world.jobs.dir = world.dir;
  daemon_init (&world.daemon);
  TAILQ_INIT (&world.jobs.list);
}

static void
put (const char *path, const uint8_t *data, size_t size)
{
  int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

  if (fd == -1 || write (fd, data, size) != (ssize_t) size)
    abort ();
  close (fd);
}

static char *
shown (const struct job *job)
{
  struct json_object *o = job_json (job), *again;
  char *text = xstrdup (json_object_to_json_string_ext
                        (o, JSON_C_TO_STRING_PLAIN));

  again = json_tokener_parse (text);
  if (!again)
    abort ();
  json_object_put (again);
  json_object_put (o);
  return text;
}

static void
check (const struct job *job)
{
  if (!job_state_name (job->state)
      || memchr (job->error, '\0', sizeof job->error) == NULL
      || memchr (job->offload, '\0', sizeof job->offload) == NULL
      || job->line_length >= sizeof job->line)
    abort ();
  free (shown (job));
}

/* A job of this world, as it is after its start. */
static struct job *
running_job (void)
{
  struct job *job = job_new (&world.jobs, "1");

  job->export_name = xstrdup ("vda");
  job->target = xstrdup ("/nowhere");
  job->sync = xstrdup ("full");
  job->on_source_error = xstrdup ("report");
  job->on_target_error = xstrdup ("report");
  job->state = JOB_RUNNING;
  return job;
}

static void
try_progress (const uint8_t *data, size_t size)
{
  struct job *job = running_job ();
  int pipes[2];
  ssize_t n;

  if (pipe2 (pipes, O_CLOEXEC | O_NONBLOCK) == -1)
    abort ();
  job->progress_fd = pipes[0];
  ev_io_init (&job->progress, progress_readable, pipes[0], EV_READ);
  job->progress.data = job;
  ev_io_start (world.daemon.loop, &job->progress);
  while (size > 0) {
    n = write (pipes[1], data, size);
    if (n > 0) {
      data += n;
      size -= n;
    }
    ev_run (world.daemon.loop, EVRUN_NOWAIT);
    check (job);
    if (job_has_ended (job))
      abort ();                 /* that is for the result to tell */
  }
  close (pipes[1]);
  job_free (job);
}

static void
try_result (const uint8_t *data, size_t size)
{
  struct job *job = running_job ();
  enum job_state state;

  put (job->result_path, data, size);
  if (take_result (job, &state) && state < JOB_COMPLETED)
    abort ();
  check (job);
  job_free (job);
}

static void
try_record (const uint8_t *data, size_t size)
{
  char path[96], *first, *second;
  struct job *job;
  const char *why = NULL;

  snprintf (path, sizeof path, "%s/1.json", world.dir);
  put (path, data, size);
  job = job_read_record (&world.jobs, "1", &why);
  if (!job) {
    if (!why)
      abort ();
    return;
  }
  check (job);
  if (job_write_record (job) == -1)
    abort ();
  first = shown (job);
  job_free (job);
  job = job_read_record (&world.jobs, "1", &why);
  if (!job)
    abort ();
  second = shown (job);
  if (strcmp (first, second) != 0) {
    fprintf (stderr, "%s\n%s\n", first, second);
    abort ();
  }
  free (first);
  free (second);
  job_free (job);
}

/* ------------------------------------------------------------ filter's answers */

struct answers { unsigned given; };

static void
answered (void *opaque, int error, const struct wire_reply *reply, int fd)
{
  struct answers *answers = opaque;

  answers->given++;
  if (fd != -1)
    close (fd);
  if ((error == 0) != (reply != NULL))
    abort ();
}

static void
try_answers (const uint8_t *data, size_t size)
{
  struct answers answers = { 0 };
  struct filter_client *c;
  struct wire_request req;
  struct wire_reply reply;
  int listener, fd, files[WIRE_FILES_MAX], i;
  char path[96];

  snprintf (path, sizeof path, "%s/f", world.dir);
  listener = wire_listen (path);
  c = filter_connect (world.daemon.loop, path);
  fd = accept4 (listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (!c || fd == -1)
    abort ();
  for (i = 0; i < WIRE_FILES_MAX; i++)
    files[i] = listener;
  wire_request_init (&req, WIRE_HELLO, 0);
  for (i = 0; i < PACKETS_MAX; i++)
    filter_call (c, &req, NULL, 0, 1000, answered, &answers);
  for (i = 0; i < PACKETS_MAX && size > 1; i++) {
    size_t n = size - 1 < sizeof reply ? size - 1 : sizeof reply;

    reply = (struct wire_reply) {
      .magic = WIRE_MAGIC, .version = WIRE_VERSION, .cookie = i + 1,
    };
    memcpy ((uint8_t *) &reply + data[0] % 32, data + 1,
            n > sizeof reply - 32 ? sizeof reply - 32 : n);
    if (wire_send (fd, &reply, data[0] & 128 ? n : sizeof reply, files,
                   data[0] >> 5 & 3) == -1)
      break;                    /* we have been hung up on */
    ev_run (world.daemon.loop, EVRUN_NOWAIT);
    data += 1 + n;
    size -= 1 + n;
  }
  filter_close (c);
  if (answers.given != PACKETS_MAX)
    abort ();
  close (fd);
  close (listener);
  ev_run (world.daemon.loop, EVRUN_NOWAIT);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  if (!world.dir[0])
    make_world ();
  if (size < 1)
    return 0;
  switch (data[0] % 4) {
  case 0: try_progress (data + 1, size - 1); break;
  case 1: try_record (data + 1, size - 1); break;
  case 2: try_result (data + 1, size - 1); break;
  case 3: try_answers (data + 1, size - 1); break;
  }
  return 0;
}
