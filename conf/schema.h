/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The table of all keys, and what can be done with a value of each type. */

/* A section is a mapping in the file and a struct in memory; an option is a
 * key of it and a field of that struct.  Parsing, defaults, --help, the
 * canonical form, the ids and freeing all walk the one table in schema.c.  To
 * add a key: a field in conf.h, a row in schema.c, a paragraph in the manual.
 */

#ifndef NBDFLEECE_SCHEMA_H
#define NBDFLEECE_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "conf.h"
#include "tree.h"

struct parse;
struct option;

/* What a type of value can do. */
struct option_type {
  const char *name;             /* as --help and the manual say it: SIZE */

  /* What was expected, for messages: writes at most size bytes to buf. */
  void (*expected) (const struct option *opt, char *buf, size_t size);

  /* Stores the value in field.  Returns 0, or -1 after parse_error. */
  int (*set) (struct parse *p, const struct option *opt,
              const struct node *value, void *field);

  /* Writes the value in canonical form, as YAML, from after the colon of the
   * key to the end of the line; or on lines of its own, indented by more than
   * indent. */
  void (*show) (const struct option *opt, const void *field,
                unsigned indent, FILE *out);

  /* True if the field was left out and stays so: NULL.  Never if NULL. */
  bool (*unset) (const void *field);

  /* Frees what the field owns and zeroes it.  NULL if it owns nothing. */
  void (*clear) (const struct option *opt, void *field);
};

struct option {
  const char *key;
  const struct option_type *type;
  size_t offset;                /* of the field in the section's struct; a
                                 * list's number of items comes after it */
  bool required;
  bool zero_is_none;            /* number: 0 is allowed, below min */
  bool unstarted;               /* no process is started with it: not part of
                                 * ids */
  const char *preset;           /* default, as one would write it, or NULL */
  uint64_t min, max;            /* numbers: range; text: min, max bytes */
  const char *const *words;     /* one of these, by index; NULL-terminated */
  const struct section *section; /* of a mapping, or of a list's items */
  const char *help;             /* one or two sentences */
};

struct section {
  const char *what;             /* for messages: "an export" */
  const char *path;             /* where it is in the file: "exports[]" */
  size_t size;                  /* of its struct */
  const struct option *options;
  size_t nr_options;            /* at most SECTION_OPTIONS_MAX */
};

#define SECTION_OPTIONS_MAX 32

/* types.c */
extern const struct option_type type_path, type_name, type_text, type_number,
  type_size, type_cluster_size, type_duration, type_word, type_plugin_name;
/* listen.c, disk.c */
extern const struct option_type type_tcp, type_cidr, type_disk,
  type_plugin_options;
/* scratch_option.c */
extern const struct option_type type_scratch;
/* groups.c */
extern const struct option_type type_names, type_command, type_hooks;
/* section.c */
extern const struct option_type type_section, type_list;

/* schema.c */
extern const struct section section_config, section_backup, section_listen,
  section_allow, section_export, section_export_allow, section_disk,
  section_scratch, section_hooks, section_group;

/* What a disk given as a mapping is read into. */
struct disk_parameters {
  struct config_plugin_option *options;
  size_t nr;
};

struct disk_mapping {
  char *plugin;
  char *qcow2;
  struct disk_parameters parameters;
};

/* parse.c: one reading of one file. */

/* Where a field got its value, so that checks of several fields together can
 * point there. */
struct mark {
  const void *field;
  unsigned line, column;
};

struct parse {
  const char *file;
  struct config_errors *errors;
  unsigned nr_failures;         /* errors found, told or not */
  struct mark *marks;
  size_t nr_marks;
};

/* Notes that the field's value stands at node. */
extern void note_mark (struct parse *p, const void *field,
                       const struct node *node);

/* The line where field was set, or 1. */
extern unsigned mark_line (const struct parse *p, const void *field);

/* Notes an error.  Returns -1. */
extern int parse_error (struct parse *p, unsigned line, unsigned column,
                        const char *fmt, ...)
  __attribute__ ((format (printf, 4, 5)));
extern int parse_no_memory (struct parse *p);

/* "KEY: what, expected ...". */
extern int parse_error_value (struct parse *p, const struct option *opt,
                              const struct node *value, const char *what);

/* The same at the place where field was set (or at 1:1). */
extern int parse_error_field (struct parse *p, const void *field,
                              const char *fmt, ...)
  __attribute__ ((format (printf, 3, 4)));

/* True for nothing at all, ~ and null, without quotes. */
extern bool node_is_null (const struct node *node);

/* The text of a scalar that is not null and has no control characters; NULL
 * after parse_error. */
extern const char *parse_text (struct parse *p, const struct option *opt,
                               const struct node *value);

/* text for a message, in quotes, cut and without control characters. */
#define QUOTE_SIZE 96
extern const char *quote (const char *text, char buf[QUOTE_SIZE]);

/* section.c: fills the struct at base from a mapping; defaults included. */
extern int section_parse (struct parse *p, const struct section *section,
                          const struct node *mapping, void *base);
extern void section_clear (const struct section *section, void *base);

/* Writes the keys in canonical form, each on a line indented by indent; lead
 * ("" or "- ") is what the indentation of the first one ends with. */
extern void section_show (const struct section *section, const void *base,
                          unsigned indent, const char *lead, FILE *out);

/* The same, for ids: without options that are unstarted. */
extern void section_show_started (const struct section *section,
                                  const void *base, FILE *out);

/* dump.c: text as a double-quoted YAML scalar. */
extern void show_quoted (const char *text, FILE *out);

/* check.c: everything that takes more than one field. */
extern void check_config (struct parse *p, const struct config *config);

/* suggest.c: the key of the section that text was probably meant to be, or
 * NULL. */
extern const char *suggest_key (const struct section *section,
                                const char *text);

#endif /* NBDFLEECE_SCHEMA_H */
