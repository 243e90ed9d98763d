/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What is to be run although the daemon was killed. */

/* STATE/hooks-ID is written before the first before-freeze of a set is
 * started and removed after the last after-thaw has ended:
 *
 *   {"version": 1, "hooks": [
 *     {"group": "db", "exports": ["vda"], "snapshots": ["monday"],
 *      "program": ["/usr/bin/virsh", "domfsthaw", "web"],
 *      "timeout-ms": 30000}]}
 *
 * It has the programs themselves, since the next daemon may have another
 * configuration.  A damaged record is kept for people to look at, and said to
 * be so at each start.
 */

#include <config.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "hooks.h"
#include "process.h"

#define PREFIX "hooks-"
#define TEMPORARY ".tmp"        /* write_file's */
#define RECORD_VERSION 1
#define RECORD_MAX (4 * 1024 * 1024)
#define ENVIRON_MAX (256 * 1024)
#define HOOKS_MAX 4096

/* Until the last one that was killed is gone. */
#define KILL_TRIES 50
#define KILL_PAUSE_NS 10000000

/* ------------------------------------------------------------------- writing */

static struct json_object *
texts_json (char *const *v)
{
  struct json_object *array = json_object_new_array ();
  size_t i;

  for (i = 0; v && v[i]; i++)
    json_object_array_add (array, json_object_new_string (v[i]));
  return array;
}

static struct json_object *
record_json (const struct hooks *h)
{
  struct json_object *o = json_object_new_object ();
  struct json_object *array = json_object_new_array ();
  size_t i;

  for (i = 0; i < h->nr; i++) {
    const struct hook *hook = &h->hook[i];
    const struct hook_step *step = &hook->steps[HOOK_AFTER];
    struct json_object *item = json_object_new_object ();

    json_object_object_add (item, "group", hook->group
                            ? json_object_new_string (hook->group) : NULL);
    json_object_object_add (item, "exports", texts_json (hook->exports.v));
    json_object_object_add (item, "snapshots",
                            texts_json (hook->snapshots.v));
    json_object_object_add (item, "program", texts_json (step->argv));
    json_object_object_add (item, "timeout-ms",
                            json_object_new_int64 (step->timeout_ms));
    json_object_array_add (array, item);
  }
  json_object_object_add (o, "version", json_object_new_int (RECORD_VERSION));
  json_object_object_add (o, "hooks", array);
  return o;
}

int
hooks_write_record (struct hooks *h, struct failure *failure)
{
  struct json_object *o = record_json (h);
  char *path = xasprintf ("%s/" PREFIX "%s", h->daemon->config->state_dir,
                          h->id);
  int r = write_file (path, json_object_to_json_string (o), true);

  if (r == 0)
    h->record = path;
  else {
    failure_set (failure, errno == ENOSPC ? "no-space" : "failed", "%s: %s",
                 path, strerror (errno));
    free (path);
  }
  json_object_put (o);
  return r;
}

/* ------------------------------------------------------------------- reading */

/* A list of texts that is a member of o.  0, or -1 if it is none. */
static int
read_texts (struct json_object *o, const char *key, struct strings *texts)
{
  struct json_object *array, *text;
  size_t i;

  if (!json_object_object_get_ex (o, key, &array)
      || !json_object_is_type (array, json_type_array))
    return -1;
  for (i = 0; i < json_object_array_length (array); i++) {
    text = json_object_array_get_idx (array, i);
    if (!json_object_is_type (text, json_type_string))
      return -1;
    strings_add (texts, "%s", json_object_get_string (text));
  }
  return 0;
}

static int
read_hook (struct json_object *o, struct hook *hook)
{
  struct hook_step *step = &hook->steps[HOOK_AFTER];
  struct strings program = { NULL, 0 };
  struct json_object *group, *timeout;
  int r = read_texts (o, "program", &program);

  step->argv = program.v;       /* as far as it has come: freed with it */
  if (r == -1 || read_texts (o, "exports", &hook->exports) == -1
      || read_texts (o, "snapshots", &hook->snapshots) == -1
      || hook->exports.nr == 0
      || !json_object_object_get_ex (o, "timeout-ms", &timeout)
      || json_object_get_int64 (timeout) < 1)
    return -1;
  step->timeout_ms = json_object_get_int64 (timeout);
  if (json_object_object_get_ex (o, "group", &group) && group)
    hook->group = xstrdup (json_object_get_string (group));
  hook->started = true;
  return 0;
}

/* The set of a record, or NULL. */
static struct hooks *
read_record (struct daemon *d, const char *id, const char *text)
{
  struct json_object *o = json_tokener_parse (text), *array = NULL, *version;
  struct hooks *h = NULL;
  size_t i, nr = 0;
  bool ok = false;

  if (json_object_is_type (o, json_type_object)
      && json_object_object_get_ex (o, "version", &version)
      && json_object_get_int (version) == RECORD_VERSION
      && json_object_object_get_ex (o, "hooks", &array)
      && json_object_is_type (array, json_type_array)) {
    nr = json_object_array_length (array);
    ok = nr > 0 && nr <= HOOKS_MAX;
  }
  if (ok)
    h = hooks_alloc (d, nr, id);
  for (i = 0; ok && i < nr; i++) {
    h->hook[i].hooks = h;
    h->nr = i + 1;
    ok = read_hook (json_object_array_get_idx (array, i), &h->hook[i]) == 0;
  }
  json_object_put (o);
  if (ok)
    return h;
  hooks_free (h);
  return NULL;
}

/* ------------------------------------------------------------------ remainder */

/* True if the process has the variable, "NAME=value", in its environment. */
static bool
has_variable (pid_t pid, const char *variable)
{
  char path[64], *environment, *p;
  size_t size = 0;
  bool found = false;

  snprintf (path, sizeof path, "/proc/%d/environ", (int) pid);
  environment = read_file (path, ENVIRON_MAX, &size);
  for (p = environment; p && p < environment + size && !found;
       p += strlen (p) + 1)
    found = strcmp (p, variable) == 0;
  free (environment);
  return found;
}

/* The pidfd is opened before the look: what is killed is what was seen. */
static bool
kill_if_marked (pid_t pid, const char *variable)
{
  int pidfd = pidfd_open (pid, 0);
  bool marked = pidfd != -1 && has_variable (pid, variable);

  if (marked)
    pidfd_send_signal (pidfd, SIGKILL, NULL, 0);
  if (pidfd != -1)
    close (pidfd);
  return marked;
}

/* How many there were. */
static unsigned
kill_all_marked (const char *variable)
{
  DIR *dir = opendir ("/proc");
  struct dirent *e;
  unsigned nr = 0;

  while (dir && (e = readdir (dir)))
    if (isdigit ((unsigned char) e->d_name[0]) && atoi (e->d_name) > 1
        && atoi (e->d_name) != getpid ())
      nr += kill_if_marked (atoi (e->d_name), variable);
  if (dir)
    closedir (dir);
  return nr;
}

/* One that is being killed may fork a last time, hence until there is none
 * (whose environment can be read: that of a zombie is empty). */
static void
kill_remainder (const struct daemon *d, const char *id)
{
  const struct timespec pause = { .tv_nsec = KILL_PAUSE_NS };
  char *variable = xasprintf ("NBDFLEECE_HOOK_ID=%s", id);
  unsigned tries, nr = 1;

  for (tries = 0; tries < KILL_TRIES && nr > 0; tries++) {
    if (tries > 0)
      nanosleep (&pause, NULL);
    nr = kill_all_marked (variable);
    if (nr > 0 && tries == 0)
      log_warning (&d->log, "hooks of a daemon that was killed are still "
                   "running: killing them");
  }
  if (nr > 0)
    log_error (&d->log, "processes of hooks cannot be killed");
  free (variable);
}

static void
recovered (void *opaque, const struct failure *failure)
{
  struct hooks *h = opaque;
  struct daemon *d = h->daemon;

  (void) failure;               /* is in the log */
  hooks_free (h);
  snapshots_go_on (d);
}

static void
recover (struct daemon *d, const char *id)
{
  char *path = xasprintf ("%s/" PREFIX "%s", d->config->state_dir, id);
  char *text = read_file (path, RECORD_MAX, NULL);
  struct hooks *h = text ? read_record (d, id, text) : NULL;

  kill_remainder (d, id);
  if (h) {
    log_warning (&d->log, "a daemon was killed while hooks were under way: "
                 "running after-thaw");
    h->record = path;
    h->recovering = true;
    hooks_after (h, "unknown", recovered, h);
  }
  else {
    log_error (&d->log, "%s: not a record of hooks that were under way; if a "
               "guest is still frozen, it has to be thawed by hand", path);
    free (path);
  }
  free (text);
}

void
hooks_recover (struct daemon *d)
{
  DIR *dir = opendir (d->config->state_dir);
  struct dirent *e;
  char *path;

  while (dir && (e = readdir (dir))) {
    if (strncmp (e->d_name, PREFIX, strlen (PREFIX)) != 0)
      continue;
    if (strlen (e->d_name) == strlen (PREFIX) + UUID_SIZE - 1) {
      recover (d, e->d_name + strlen (PREFIX));
      continue;
    }
    path = xasprintf ("%s/%s", d->config->state_dir, e->d_name);
    if (strstr (e->d_name, TEMPORARY))
      remove_file (path);
    free (path);
  }
  if (dir)
    closedir (dir);
}

bool
hooks_are_recovering (const struct daemon *d)
{
  const struct hooks *h;

  TAILQ_FOREACH (h, &d->hooks, entry)
    if (h->recovering)
      return true;
  return false;
}
