/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* What the daemon says about itself, exports and snapshots. */

/* Counters of an export are the filter's to tell, and who reads snapshots is the
 * front's.  A status request asks all of them at once and waits for the
 * slowest, but not for long: what does not answer is shown with what is known
 * without it.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backup.h"
#include "job.h"
#include "jobs.h"
#include "status.h"

#define STATS_TIMEOUT 2.0       /* seconds */

void
json_add_string (struct json_object *o, const char *key, const char *s)
{
  json_object_object_add (o, key, s ? json_object_new_string (s) : NULL);
}

void
json_add_int (struct json_object *o, const char *key, int64_t n)
{
  json_object_object_add (o, key, json_object_new_int64 (n));
}

void
json_add_members (struct json_object *o, struct json_object *more)
{
  json_object_object_foreach (more, key, value)
    json_object_object_add (o, key, json_object_get (value));
}

static void
add_int_or_null (struct json_object *o, const char *key, bool known,
                 uint64_t n)
{
  json_object_object_add (o, key, known ? json_object_new_int64 (n) : NULL);
}

void
json_add_instant (struct json_object *o, const char *key, int64_t ns)
{
  char text[INSTANT_SIZE], key_ns[64];

  snprintf (key_ns, sizeof key_ns, "%s-ns", key);
  if (ns != 0)
    format_instant (ns, text);
  json_add_string (o, key, ns ? text : NULL);
  add_int_or_null (o, key_ns, ns != 0, ns);
}

struct json_object *
snapshot_json (const struct snapshot *s)
{
  struct json_object *o = json_object_new_object ();
  const struct bmfile_live *live = s->map.live;
  char uuid[UUID_SIZE];

  format_uuid (s->map.fixed->uuid, uuid);
  json_add_string (o, "export", s->export->name);
  json_add_string (o, "name", s->name);
  json_add_string (o, "uuid", uuid);
  json_add_string (o, "state", s->state == SNAPSHOT_ENDING ? "ending"
                   : "active");
  json_add_instant (o, "instant", atomic_load (&live->instant_ns));
  json_add_string (o, "since", s->map.fixed->parent[0]
                   ? s->map.fixed->parent : NULL);
  json_add_int (o, "size", s->map.disk_size);
  json_add_int (o, "cluster-size", INT64_C (1) << s->map.cluster_bits);
  json_add_int (o, "clusters", s->map.nr_clusters);
  json_add_int (o, "clusters-copied", atomic_load (&live->copied_clusters));
  json_add_int (o, "clusters-zero", atomic_load (&live->zero_clusters));
  json_add_int (o, "clusters-lost", atomic_load (&live->lost_clusters));
  json_add_string (o, "scratch", s->scratch_path);
  json_add_int (o, "scratch-bytes", atomic_load (&live->scratch_bytes));
  json_object_object_add (o, "release", json_object_new_boolean
                          (atomic_load (&live->flags)
                           & BMFILE_CLIENTS_RELEASE));
  json_object_object_add (o, "durable", json_object_new_boolean
                          (atomic_load (&live->flags) & BMFILE_OUTLASTS));
  json_add_string (o, "job", s->job ? job_id (s->job) : NULL);
  json_object_object_add (o, "uris",
                          backup_uris (s->export->daemon,
                                       s->export->name, s->name));
  return o;
}

static void
add_snapshots (struct json_object *array, const struct export *ex)
{
  const struct snapshot *s;

  TAILQ_FOREACH (s, &ex->snapshots, entry)
    if (s->state != SNAPSHOT_CREATING && !s->beside)
      json_object_array_add (array, snapshot_json (s));
}

struct json_object *
snapshots_json (const struct daemon *d, const struct export *ex)
{
  struct json_object *array = json_object_new_array ();

  if (ex)
    add_snapshots (array, ex);
  else
    TAILQ_FOREACH (ex, &d->exports, entry)
      if (ex->conf)
        add_snapshots (array, ex);
  return array;
}

/* What one filter counted. */
struct counted {
  struct gather *gather;
  char *name;                   /* of the export, which may be gone since */
  bool known;
  struct wire_stats stats;
};

struct gather {
  struct request *request;
  struct json_object *front;    /* what the front said, or NULL */
  size_t nr, waiting;
  struct counted counted[];
};

static struct json_object *
latency_json (const struct wire_stats *st)
{
  struct json_object *o = json_object_new_object ();

  json_add_int (o, "p50", wire_quantile (st->histogram, 0.5));
  json_add_int (o, "p99", wire_quantile (st->histogram, 0.99));
  json_add_int (o, "p999", wire_quantile (st->histogram, 0.999));
  json_add_int (o, "max", st->cow_max_us);
  return o;
}

static void
add_stats (struct json_object *o, const struct wire_stats *st)
{
  const struct wire_stats zero = { 0 }, *v = st ? st : &zero;

  add_int_or_null (o, "writes", st, v->writes);
  add_int_or_null (o, "written-bytes", st, v->written_bytes);
  add_int_or_null (o, "zeroes", st, v->zeroes);
  add_int_or_null (o, "trims", st, v->trims);
  add_int_or_null (o, "cow-requests", st, v->cow_requests);
  add_int_or_null (o, "held-requests", st, v->held_requests);
  add_int_or_null (o, "failed-requests", st, v->failed_requests);
  add_int_or_null (o, "clusters-copied", st, v->copied_clusters);
  add_int_or_null (o, "clusters-zero", st, v->zero_clusters);
  add_int_or_null (o, "clusters-lost", st, v->lost_clusters);
  add_int_or_null (o, "clients", st, v->clients);
  json_object_object_add (o, "cow-latency-us", st ? latency_json (st) : NULL);
}

static const char *
export_state (const struct export *ex)
{
  if (ex->intent != EXPORT_RUN)
    return ex->intent == EXPORT_RESTART ? "restarting" : "stopping";
  if (ex->qemu.state == SERVICE_RESTARTING)
    return "restarting";
  if (ex->nbdkit.state == SERVICE_STOPPED)
    return "starting";
  return service_state_name (ex->nbdkit.state);
}

/* Without arguments, which may have secrets in them. */
static void
add_hooks (struct json_object *o, const struct config_hooks *hooks)
{
  json_add_string (o, "before-freeze", hooks->before_freeze.nr > 0
                   ? hooks->before_freeze.v[0] : NULL);
  json_add_string (o, "after-thaw", hooks->after_thaw.nr > 0
                   ? hooks->after_thaw.v[0] : NULL);
}

static struct json_object *
export_json (const struct export *ex, const struct wire_stats *st)
{
  struct json_object *o = json_object_new_object (), *array;
  char *disk = export_disk_text (&ex->conf->disk);
  char *restoring = job_that_keeps_out (ex);
  const char *reason = ex->qemu.state == SERVICE_RESTARTING ? ex->qemu.reason
    : ex->nbdkit.reason;

  json_add_string (o, "name", ex->name);
  json_add_string (o, "state", export_state (ex));
  json_add_string (o, "reason", reason[0] ? reason : NULL);
  add_int_or_null (o, "pid", ex->nbdkit.process.pidfd != -1,
                   ex->nbdkit.process.pid);
  json_add_int (o, "restarts", ex->nbdkit.restarts);
  json_add_string (o, "disk", disk);
  json_add_string (o, "disk-kind", export_disk_kind (&ex->conf->disk));
  json_add_string (o, "uri", ex->uri);
  json_add_string (o, "restoring", restoring);
  json_add_int (o, "freeze-timeout-ms", ex->conf->freeze_timeout_ms);
  add_hooks (o, &ex->conf->hooks);
  add_int_or_null (o, "size", ex->hello_known, ex->hello.disk_size);
  add_int_or_null (o, "cluster-size", ex->hello_known,
                   ex->hello.cluster_size);
  add_stats (o, st);
  array = json_object_new_array ();
  add_snapshots (array, ex);
  json_object_object_add (o, "snapshots", array);
  free (restoring);
  free (disk);
  return o;
}

static struct json_object *
daemon_json (const struct daemon *d)
{
  struct json_object *o = json_object_new_object ();

  json_add_string (o, "version", PACKAGE_VERSION);
  json_add_int (o, "protocol", CONTROL_PROTOCOL);
  json_add_int (o, "pid", getpid ());
  json_add_instant (o, "started", d->started_ns);
  json_add_string (o, "nbdkit-version", d->programs.nbdkit_version);
  json_add_string (o, "config", d->config_path);
  json_add_string (o, "state-dir", d->config->state_dir);
  json_add_string (o, "run-dir", d->config->run_dir);
  return o;
}

static struct json_object *
groups_json (const struct config *config)
{
  struct json_object *array = json_object_new_array (), *o, *exports;
  const struct config_group *group;
  size_t i, j;

  for (i = 0; i < config->nr_groups; i++) {
    group = &config->groups[i];
    o = json_object_new_object ();
    exports = json_object_new_array ();
    for (j = 0; j < group->exports.nr; j++)
      json_object_array_add (exports,
                             json_object_new_string (group->exports.v[j]));
    json_add_string (o, "name", group->name);
    json_object_object_add (o, "exports", exports);
    add_hooks (o, &group->hooks);
    json_object_array_add (array, o);
  }
  return array;
}

static const struct wire_stats *
find_stats (const struct gather *g, const char *name)
{
  size_t i;

  for (i = 0; i < g->nr; i++)
    if (strcmp (g->counted[i].name, name) == 0)
      return g->counted[i].known ? &g->counted[i].stats : NULL;
  return NULL;
}

static void
report (struct gather *g)
{
  const struct daemon *d = g->request->daemon;
  struct json_object *o = json_object_new_object ();
  struct json_object *array = json_object_new_array ();
  const struct export *ex;
  size_t i;

  TAILQ_FOREACH (ex, &d->exports, entry)
    if (ex->conf)
      json_object_array_add (array, export_json (ex, find_stats (g,
                                                                 ex->name)));
  json_object_object_add (o, "daemon", daemon_json (d));
  json_object_object_add (o, "backup", backup_json (d->backup, g->front));
  json_object_object_add (o, "exports", array);
  json_object_object_add (o, "groups", groups_json (d->config));
  json_object_object_add (o, "jobs", jobs_json (d->jobs, false));
  request_result (g->request, o);
  for (i = 0; i < g->nr; i++)
    free (g->counted[i].name);
  json_object_put (g->front);
  free (g);
}

static void
front_told (void *opaque, struct json_object *status)
{
  struct gather *g = opaque;

  g->front = json_object_get (status);
  if (--g->waiting == 0)
    report (g);
}

static void
stats_answered (void *opaque, int error, const struct wire_reply *reply,
                int fd)
{
  struct counted *counted = opaque;

  if (fd != -1)
    close (fd);
  if (error == 0) {
    counted->known = true;
    counted->stats = reply->u.stats;
  }
  if (--counted->gather->waiting == 0)
    report (counted->gather);
}

void
status_request (struct request *request)
{
  struct daemon *d = request->daemon;
  struct wire_request wire;
  struct gather *g;
  struct export *ex;
  size_t nr = 0;

  TAILQ_FOREACH (ex, &d->exports, entry)
    nr++;
  g = xcalloc (1, sizeof *g + nr * sizeof g->counted[0]);
  g->request = request;
  g->waiting = 1;
  if (backup_front_runs (d->backup)) {
    g->waiting++;
    backup_ask (d->backup, front_told, g);
  }
  wire_request_init (&wire, WIRE_STATS, 0);
  TAILQ_FOREACH (ex, &d->exports, entry) {
    struct counted *counted = &g->counted[g->nr++];
    struct filter_client *client = export_is_up (ex) ? export_client (ex)
      : NULL;

    counted->gather = g;
    counted->name = xstrdup (ex->name);
    if (!client)
      continue;
    g->waiting++;
    filter_call (client, &wire, NULL, 0, STATS_TIMEOUT, stats_answered,
                 counted);
  }
  if (--g->waiting == 0)
    report (g);
}
