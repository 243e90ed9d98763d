/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The configuration: what a YAML file says, checked and with defaults. */

/* A struct config is complete: every field that the file may leave out has
 * its default (the table in schema.c is the only place that knows it), every
 * value is in range, and whatever can be checked without touching the system
 * has been.  Whether disks and directories exist is the daemon's to find out.
 *
 * Nothing in a struct config changes after it is made, so that a daemon can
 * hold two, the running one and one just read, and compare them.
 */

#ifndef NBDFLEECE_CONF_H
#define NBDFLEECE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Longest file, in bytes, and most errors that are told of one file. */
#define CONFIG_FILE_MAX (1024 * 1024)
#define CONFIG_ERRORS_MAX 20

/* Buffer for an id, with its terminator: CONFIG_ID_SIZE - 1 hex digits. */
#define CONFIG_ID_SIZE 33

enum config_tls { CONFIG_TLS_OFF, CONFIG_TLS_ALLOW, CONFIG_TLS_REQUIRE };

enum config_cow_error { CONFIG_BREAK_SNAPSHOT, CONFIG_BREAK_GUEST_WRITE };

enum config_trim { CONFIG_TRIM_COPY, CONFIG_TRIM_DEFER };

enum config_tracking { CONFIG_TRACKING_NORMAL, CONFIG_TRACKING_DURABLE };

enum config_no_yes { CONFIG_NO, CONFIG_YES };

enum config_disk_kind {
  CONFIG_DISK_RAW,              /* where: absolute path */
  CONFIG_DISK_NBD,              /* where: NBD URI */
  CONFIG_DISK_PLUGIN,           /* where: plugin name or path; options */
  CONFIG_DISK_QCOW2,            /* where: absolute path */
};

/* One key=value for the plugin.  A key with a list of values comes once for
 * each; the order is that of the file. */
struct config_plugin_option {
  char *key;
  char *value;
};

struct config_disk {
  enum config_disk_kind kind;
  char *where;
  struct config_plugin_option *options;
  size_t nr_options;
};

/* Texts; v, NULL if there are none, ends with NULL. */
struct config_strings {
  char **v;
  size_t nr;
};

struct config_scratch {
  char *directory;              /* absolute; NULL: state dir */
  enum config_no_yes durable;   /* snapshots outlast a crash of the host */
};

/* Programs to run before a guest's writes are held for a snapshot, and after
 * that.  Each is an argv, empty if there is none; argv[0] is an absolute
 * path. */
struct config_hooks {
  struct config_strings before_freeze, after_thaw;
  uint64_t before_freeze_timeout_ms, after_thaw_timeout_ms; /* not 0, unless
                                 * there are no hooks at all */
};

/* Most exports of a group, and of one request. */
#define CONFIG_GROUP_MAX 64

/* Exports whose snapshots begin at one instant when the group is named. */
struct config_group {
  char *name;                   /* name_ok, unique, no export's name */
  struct config_strings exports; /* 1 to CONFIG_GROUP_MAX that exist, each
                                 * once */
  struct config_hooks hooks;
};

/* One more address of the backup endpoint, besides the unix socket. */
struct config_listen {
  char *host;                   /* name or address, a v6 one without [] */
  char *port;                   /* decimal, 1 to 65535; for getaddrinfo */
  char *tcp;                    /* both, as in the file: for messages */
  enum config_tls tls;
  char *tls_certificates;       /* absolute path, or NULL */
  char *tls_psk;                /* absolute path, or NULL; one of the two is
                                 * there exactly if tls is not off */
};

/* Who may read snapshots through TCP: whoever has all that is said here.  At
 * least one of them is not NULL. */
struct config_allow {
  char *address;                /* v4 or v6, maybe with /BITS */
  char *certificate;            /* a name of the client's certificate */
  char *psk;                    /* identity of its pre-shared key */
};

struct config_export {
  char *name;                   /* name_ok, unique, no name the daemon uses
                                 * for files of its own in run_dir */
  struct config_disk disk;
  struct config_scratch scratch;
  uint64_t scratch_limit;       /* bytes; 0: none */
  uint64_t cluster_size;        /* bytes, a power of two; 0: auto */
  enum config_cow_error on_cow_error;
  uint64_t cow_timeout_ms;      /* 0: none */
  enum config_trim trim;
  enum config_tracking tracking;
  uint64_t freeze_timeout_ms;   /* 1 to 60000 */
  struct config_hooks hooks;
  struct config_allow *allow;   /* of the snapshots of this export */
  size_t nr_allow;
  unsigned line, column;        /* where in the file, from 1 */
};

struct config {
  char *file;                   /* name of the file, as given */
  char *state_dir;              /* absolute */
  char *run_dir;                /* absolute; short enough for every socket
                                 * path that an export needs */
  char *user, *group;           /* as whom processes run; NULL: the daemon's
                                 * user; that user's group */
  struct config_listen *listen;
  size_t nr_listen;
  struct config_allow *allow;   /* of the snapshots of all exports */
  size_t nr_allow;
  uint64_t max_connections, max_connections_per_client;
  uint64_t max_request;         /* bytes */
  uint64_t handshake_timeout_ms;
  uint64_t idle_timeout_ms;     /* 0: none */
  struct config_export *exports;
  size_t nr_exports;
  struct config_group *groups;
  size_t nr_groups;
};

/* What is wrong with a file, in the order of the file as far as possible.
 * Each text is one line without newline: FILE:LINE:COLUMN: what is wrong, and
 * what was expected; or FILE: why it cannot be read.  To be zeroed before the
 * first use and given to config_errors_free after. */
struct config_errors {
  size_t nr;
  char *text[CONFIG_ERRORS_MAX];
};

extern void config_errors_free (struct config_errors *errors);

/* Reads the file at path.  Returns the configuration, the caller's to
 * config_free; or NULL with at least one error in *errors. */
extern struct config *config_load (const char *path,
                                   struct config_errors *errors);

/* The same from memory; file is the name to use in messages. */
extern struct config *config_parse (const char *file,
                                    const char *text, size_t length,
                                    struct config_errors *errors);

/* Harmless on NULL. */
extern void config_free (struct config *config);

/* The export of that name, or NULL. */
extern const struct config_export *
config_find_export (const struct config *config, const char *name);

/* The group of that name, or NULL. */
extern const struct config_group *
config_find_group (const struct config *config, const char *name);

/* An id of everything that decides how an export's processes are started: its
 * own settings (but its hooks and freeze-timeout, which are only the daemon's
 * business), state-dir, run-dir, user and group.  Two configurations in which the id is
 * the same mean the same for this export; spelling, order of keys and
 * defaults left out do not matter.  Stable across runs, good for
 * fleece-id=. */
extern void config_export_id (const struct config *config,
                              const struct config_export *ex,
                              char id[CONFIG_ID_SIZE]);

/* The same for the processes of the backup endpoint: directories, those for
 * scratches, too, user and group.  All the rest that is said of it can change
 * while they run. */
extern void config_backup_id (const struct config *config,
                              char id[CONFIG_ID_SIZE]);

/* Writes the whole configuration in its canonical form, as YAML that reads
 * back to the same. */
extern void config_dump (const struct config *config, FILE *out);

/* Prints every key with its type, range, default and meaning. */
extern void config_help (FILE *out);

/* The words of the file for the values: "break-snapshot", "defer", ... */
extern const char *config_tls_name (enum config_tls tls);
extern const char *config_cow_error_name (enum config_cow_error action);
extern const char *config_trim_name (enum config_trim trim);
extern const char *config_tracking_name (enum config_tracking tracking);

#endif /* NBDFLEECE_CONF_H */
