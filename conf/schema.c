/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The table of keys: the one place that knows them all. */

#include <config.h>

#include <assert.h>
#include <string.h>

#include "bmfile.h"
#include "schema.h"

/* A list's length comes straight after its pointer (section.c). */
#define ASSERT_LIST(type, ptr, nr)                                      \
  static_assert (offsetof (type, nr)                                    \
                 == offsetof (type, ptr) + sizeof (void *), #nr)
ASSERT_LIST (struct config, listen, nr_listen);
ASSERT_LIST (struct config, allow, nr_allow);
ASSERT_LIST (struct config_export, allow, nr_allow);
ASSERT_LIST (struct config, exports, nr_exports);
ASSERT_LIST (struct config, groups, nr_groups);

/* Words are stored as unsigned (types.c). */
static_assert (sizeof (enum config_tls) == sizeof (unsigned), "enum");
static_assert (sizeof (enum config_cow_error) == sizeof (unsigned), "enum");
static_assert (sizeof (enum config_trim) == sizeof (unsigned), "enum");
static_assert (sizeof (enum config_tracking) == sizeof (unsigned), "enum");
static_assert (sizeof (enum config_no_yes) == sizeof (unsigned), "enum");

/* The map records file:PATH of the live disk and the path of the scratch,
 * DIR/EXPORT@SNAPSHOT.scratch; the state directory adds /exports/EXPORT. */
#define DISK_PATH_MAX (BMFILE_LOCATION_MAX - sizeof "file:")
#define SCRATCH_DIR_MAX                                                 \
  (BMFILE_LOCATION_MAX - sizeof "/@.scratch" - 2 * NAME_LENGTH_MAX)
#define STATE_DIR_MAX                                                   \
  (SCRATCH_DIR_MAX - NAME_LENGTH_MAX - (sizeof "/exports/" - 1))

/* What the filter takes; what an administrator who waits may still take for
 * an answer. */
#define FREEZE_TIMEOUT_MAX (60 * 1000)
#define HOOK_TIMEOUT_MAX (600 * 1000)
#define ARGUMENTS_MAX 63

/* Common and alternative names of certificates, and names of keys. */
#define CLIENT_NAME_MAX 253
#define USER_NAME_MAX 32

/* Sockets are in the run directory, /backup.data.sock being the longest name
 * of the daemon's own; check.c counts those of exports in, too. */
#define RUN_DIR_MAX 90

static const char *const tls_words[] = { "off", "allow", "require", NULL };
static const char *const cow_error_words[] = {
  "break-snapshot", "break-guest-write", NULL
};
static const char *const trim_words[] = { "copy", "defer", NULL };
static const char *const no_yes_words[] = { "false", "true", NULL };
static const char *const tracking_words[] = { "normal", "durable", NULL };

static const struct option listen_options[] = {
  { .key = "tcp", .type = &type_tcp, .required = true,
    .offset = 0,                /* fills tcp, host and port */
    .help = "Address to listen on." },
  { .key = "tls", .type = &type_word, .words = tls_words, .preset = "off",
    .offset = offsetof (struct config_listen, tls),
    .help = "Whether clients may or must use TLS." },
  { .key = "tls-certificates", .type = &type_path, .max = DISK_PATH_MAX,
    .offset = offsetof (struct config_listen, tls_certificates),
    .help = "Directory of the certificates and the key.  This or tls-psk is "
            "needed unless tls is off." },
  { .key = "tls-psk", .type = &type_path, .max = DISK_PATH_MAX,
    .offset = offsetof (struct config_listen, tls_psk),
    .help = "File of pre-shared keys, lines NAME:HEX-KEY." },
};

const struct section section_listen = {
  "an address to listen on", "backup.listen[]", sizeof (struct config_listen),
  listen_options, sizeof listen_options / sizeof listen_options[0]
};

static const struct option allow_options[] = {
  { .key = "address", .type = &type_cidr,
    .offset = offsetof (struct config_allow, address),
    .help = "Clients with this address, or one of these." },
  { .key = "certificate", .type = &type_text, .max = CLIENT_NAME_MAX,
    .offset = offsetof (struct config_allow, certificate),
    .help = "Clients with a certificate that is good and has this name." },
  { .key = "psk", .type = &type_text, .max = CLIENT_NAME_MAX,
    .offset = offsetof (struct config_allow, psk),
    .help = "Clients that have the pre-shared key of this name." },
};

const struct section section_allow = {
  "a rule", "backup.allow[]", sizeof (struct config_allow),
  allow_options, sizeof allow_options / sizeof allow_options[0]
};

const struct section section_export_allow = {
  "a rule", "exports[].allow[]", sizeof (struct config_allow),
  allow_options, sizeof allow_options / sizeof allow_options[0]
};

static const struct option backup_options[] = {
  { .key = "listen", .type = &type_list, .section = &section_listen,
    .offset = offsetof (struct config, listen),
    .help = "TCP addresses for backup software.  The unix socket backup.sock "
            "in the run directory is always there." },
  { .key = "allow", .type = &type_list, .section = &section_allow,
    .offset = offsetof (struct config, allow),
    .help = "Who may read the snapshots of all exports through TCP, besides "
            "those whom an export names itself." },
  { .key = "max-connections", .type = &type_number, .preset = "256",
    .min = 1, .max = 10000,
    .offset = offsetof (struct config, max_connections),
    .help = "Connections of backup software at a time." },
  { .key = "max-connections-per-client", .type = &type_number,
    .preset = "32", .min = 1, .max = 10000,
    .offset = offsetof (struct config, max_connections_per_client),
    .help = "Connections at a time from one address or local process." },
  { .key = "max-request", .type = &type_size, .preset = "64M",
    .min = 2 << 20, .max = 64 << 20,
    .offset = offsetof (struct config, max_request),
    .help = "Longest read of backup software." },
  { .key = "handshake-timeout", .type = &type_duration, .preset = "30s",
    .min = 1000, .max = 3600 * 1000,
    .offset = offsetof (struct config, handshake_timeout_ms),
    .help = "How long a client may take from connecting to choosing a "
            "snapshot." },
  { .key = "idle-timeout", .type = &type_duration, .preset = "1h",
    .min = 1000, .max = 7 * 24 * 3600 * 1000, .zero_is_none = true,
    .offset = offsetof (struct config, idle_timeout_ms),
    .help = "How long a client may neither send nor receive anything." },
};

const struct section section_backup = {
  "'backup'", "backup", sizeof (struct config),
  backup_options, sizeof backup_options / sizeof backup_options[0]
};

static const struct option disk_options[] = {
  { .key = "plugin", .type = &type_plugin_name,
    .offset = offsetof (struct disk_mapping, plugin),
    .help = "The disk is what this nbdkit plugin serves." },
  { .key = "options", .type = &type_plugin_options,
    .offset = offsetof (struct disk_mapping, parameters),
    .help = "Parameters of the plugin, passed on as KEY=VALUE." },
  { .key = "qcow2", .type = &type_path, .max = DISK_PATH_MAX,
    .offset = offsetof (struct disk_mapping, qcow2),
    .help = "The disk is this qcow2 image, opened through qemu-nbd." },
};

const struct section section_disk = {
  "a disk", "exports[].disk", sizeof (struct disk_mapping),
  disk_options, sizeof disk_options / sizeof disk_options[0]
};

static const struct option scratch_options[] = {
  { .key = "directory", .type = &type_path, .max = SCRATCH_DIR_MAX,
    .offset = offsetof (struct config_scratch, directory),
    .help = "Directory for the scratch files of snapshots, as if it stood "
            "alone." },
  { .key = "durable", .type = &type_word, .words = no_yes_words,
    .preset = "false", .offset = offsetof (struct config_scratch, durable),
    .help = "Whether snapshots outlast a crash of the host or a power cut "
            "(true), or are discarded then." },
};

const struct section section_scratch = {
  "a scratch", "exports[].scratch", sizeof (struct config_scratch),
  scratch_options, sizeof scratch_options / sizeof scratch_options[0]
};

static const struct option hooks_options[] = {
  { .key = "before-freeze", .type = &type_command, .max = ARGUMENTS_MAX,
    .offset = offsetof (struct config_hooks, before_freeze),
    .help = "Run before guests' writes are held for a snapshot.  If it fails, "
            "there is no snapshot." },
  { .key = "before-freeze-timeout", .type = &type_duration, .preset = "30s",
    .min = 1, .max = HOOK_TIMEOUT_MAX,
    .offset = offsetof (struct config_hooks, before_freeze_timeout_ms),
    .help = "How long before-freeze may take." },
  { .key = "after-thaw", .type = &type_command, .max = ARGUMENTS_MAX,
    .offset = offsetof (struct config_hooks, after_thaw),
    .help = "Run when guests' writes go on, whether there is a snapshot or "
            "not; always if before-freeze has been started." },
  { .key = "after-thaw-timeout", .type = &type_duration, .preset = "30s",
    .min = 1, .max = HOOK_TIMEOUT_MAX,
    .offset = offsetof (struct config_hooks, after_thaw_timeout_ms),
    .help = "How long after-thaw may take." },
};

const struct section section_hooks = {
  "hooks", "exports[].hooks", sizeof (struct config_hooks),
  hooks_options, sizeof hooks_options / sizeof hooks_options[0]
};

static const struct option export_options[] = {
  { .key = "name", .type = &type_name, .required = true,
    .offset = offsetof (struct config_export, name),
    .help = "Name of the export, unique in the file." },
  { .key = "disk", .type = &type_disk, .required = true,
    .offset = offsetof (struct config_export, disk),
    .section = &section_disk, .max = DISK_PATH_MAX,
    .help = "The live disk: path of a raw file or block device, NBD URI of "
            "any server, or a mapping with plugin or qcow2." },
  { .key = "scratch", .type = &type_scratch, .max = SCRATCH_DIR_MAX,
    .section = &section_scratch,
    .offset = offsetof (struct config_export, scratch),
    .help = "Directory for the scratch files of snapshots.  They are in the "
            "state directory if this is left out." },
  { .key = "scratch-limit", .type = &type_size, .preset = "0",
    .min = 1 << 20, .max = BMFILE_DISK_MAX, .zero_is_none = true,
    .offset = offsetof (struct config_export, scratch_limit),
    .help = "Most data that the scratch of one snapshot may hold." },
  { .key = "cluster-size", .type = &type_cluster_size, .preset = "auto",
    .min = BMFILE_CLUSTER_MIN, .max = BMFILE_CLUSTER_MAX,
    .offset = offsetof (struct config_export, cluster_size),
    .help = "Unit of copy-before-write.  auto is 4K for disks up to 2T, then "
            "larger." },
  { .key = "on-cow-error", .type = &type_word, .words = cow_error_words,
    .preset = "break-snapshot",
    .offset = offsetof (struct config_export, on_cow_error),
    .help = "What suffers when old content cannot be kept: the snapshot, "
            "which loses that content, or the guest's write, which fails." },
  { .key = "cow-timeout", .type = &type_duration, .preset = "0",
    .min = 1, .max = 3600 * 1000, .zero_is_none = true,
    .offset = offsetof (struct config_export, cow_timeout_ms),
    .help = "How long a guest's write may wait for old content to be kept "
            "before on-cow-error applies." },
  { .key = "trim", .type = &type_word, .words = trim_words, .preset = "copy",
    .offset = offsetof (struct config_export, trim),
    .help = "What a guest's trim of content that a snapshot needs does: keep "
            "that first, or come into effect when it is no longer needed." },
  { .key = "tracking", .type = &type_word, .words = tracking_words,
    .preset = "normal", .offset = offsetof (struct config_export, tracking),
    .help = "Whether checkpoints outlast a crash of the host or a power cut "
            "(durable), or are inconsistent then." },
  { .key = "freeze-timeout", .type = &type_duration, .preset = "5s",
    .min = 1, .max = FREEZE_TIMEOUT_MAX, .unstarted = true,
    .offset = offsetof (struct config_export, freeze_timeout_ms),
    .help = "How long the guest's writes may be held for a snapshot." },
  { .key = "hooks", .type = &type_hooks, .section = &section_hooks,
    .offset = offsetof (struct config_export, hooks), .unstarted = true,
    .help = "Programs to run around the instant of each snapshot of this "
            "export." },
  { .key = "allow", .type = &type_list, .section = &section_export_allow,
    .unstarted = true,
    .offset = offsetof (struct config_export, allow),
    .help = "Who may read the snapshots of this export through TCP." },
};

const struct section section_export = {
  "an export", "exports[]", sizeof (struct config_export),
  export_options, sizeof export_options / sizeof export_options[0]
};

static const struct option group_options[] = {
  { .key = "name", .type = &type_name, .required = true,
    .offset = offsetof (struct config_group, name),
    .help = "Name of the group, unique among groups and exports." },
  { .key = "exports", .type = &type_names, .required = true,
    .max = CONFIG_GROUP_MAX,
    .offset = offsetof (struct config_group, exports),
    .help = "The exports of the group." },
  { .key = "hooks", .type = &type_hooks, .section = &section_hooks,
    .offset = offsetof (struct config_group, hooks),
    .help = "Programs to run around the instant of each snapshot of this "
            "group, as for an export." },
};

const struct section section_group = {
  "a group", "groups[]", sizeof (struct config_group),
  group_options, sizeof group_options / sizeof group_options[0]
};

static const struct option config_options[] = {
  { .key = "state-dir", .type = &type_path, .preset = "/var/lib/nbdfleece",
    .max = STATE_DIR_MAX, .offset = offsetof (struct config, state_dir),
    .help = "Directory for what has to outlive the daemon: maps, scratch "
            "files that have no other place, records of jobs." },
  { .key = "run-dir", .type = &type_path, .preset = "/run/nbdfleece",
    .max = RUN_DIR_MAX, .offset = offsetof (struct config, run_dir),
    .help = "Directory for sockets: control.sock, backup.sock and one for "
            "each export." },
  { .key = "user", .type = &type_text, .max = USER_NAME_MAX,
    .offset = offsetof (struct config, user),
    .help = "User as whom everything runs that carries a guest's I/O or talks "
            "to backup software.  Disks, and certificates for TLS, have to be "
            "accessible to this user.  Left out: the daemon's own." },
  { .key = "group", .type = &type_text, .max = USER_NAME_MAX,
    .offset = offsetof (struct config, group),
    .help = "Group of these processes, in place of the user's own." },
  { .key = "backup", .type = &type_section, .section = &section_backup,
    .offset = 0,                /* its fields are in struct config itself */
    .help = "Where backup software reads snapshots." },
  { .key = "exports", .type = &type_list, .section = &section_export,
    .required = true, .offset = offsetof (struct config, exports),
    .help = "The disks, in any number." },
  { .key = "groups", .type = &type_list, .section = &section_group,
    .offset = offsetof (struct config, groups),
    .help = "Names for several exports whose snapshots begin at one "
            "instant." },
};

const struct section section_config = {
  "the file", "", sizeof (struct config),
  config_options, sizeof config_options / sizeof config_options[0]
};

const char *
config_tls_name (enum config_tls tls)
{
  return tls_words[tls];
}

const char *
config_cow_error_name (enum config_cow_error action)
{
  return cow_error_words[action];
}

const char *
config_trim_name (enum config_trim trim)
{
  return trim_words[trim];
}

const char *
config_tracking_name (enum config_tracking tracking)
{
  return tracking_words[tracking];
}

/* Words in indented lines of at most 76 columns. */
static void
print_wrapped (const char *text, FILE *out)
{
  size_t column = 0, len;

  while (*text) {
    len = strcspn (text, " ");
    if (column > 0 && column + 1 + len > 76) {
      fputc ('\n', out);
      column = 0;
    }
    column += fprintf (out, column == 0 ? "    %.*s" : " %.*s",
                       (int) len, text);
    text += len;
    text += strspn (text, " ");
  }
  fputc ('\n', out);
}

static void
section_help (const struct section *section, FILE *out)
{
  const struct option *opt;
  char value[256] = "Value: ";
  const size_t lead = strlen (value);
  size_t i;

  for (i = 0; i < section->nr_options; i++) {
    opt = &section->options[i];
    fprintf (out, "%s%s%s: %s\n", section->path, section->path[0] ? "." : "",
             opt->key, opt->type->name);
    print_wrapped (opt->help, out);
    opt->type->expected (opt, value + lead, sizeof value - lead);
    print_wrapped (value, out);
    if (opt->required)
      fprintf (out, "    Required\n");
    else if (opt->preset)
      fprintf (out, "    Default: %s\n", opt->preset);
    /* Hooks have two places and are described at their first. */
    if (opt->section && strncmp (opt->section->path, section->path,
                                 strlen (section->path)) == 0)
      section_help (opt->section, out);
  }
}

void
config_help (FILE *out)
{
  section_help (&section_config, out);
}
