/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* From YAML text to a tree of nodes, through libyaml's events. */

/* This is the one file that knows libyaml.  It reads events and not the
 * library's own document tree, because that one resolves aliases silently
 * (and searches its anchors linearly), knows no limit on the number of nodes
 * and drops a second document without a word.
 *
 * What is refused here, with its place in the file:
 *
 *   anchors and aliases   without merge keys, which libyaml does not have,
 *                         they are of little use, and where an error is, in
 *                         the anchor or at the alias, is anybody's guess
 *   tags                  every scalar is text; the key says what it means
 *   a second document, an empty file, more than TREE_DEPTH_MAX levels or
 *   TREE_NODES_MAX nodes, encodings other than UTF-8
 *
 * Duplicate keys are left to the caller, which knows what a key is.
 */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "tree.h"

struct builder {
  yaml_parser_t yaml;
  const char *text;
  struct tree_error *err;
  unsigned nr_nodes;
};

/* Returns -1, for the caller's convenience. */
static int __attribute__ ((format (printf, 4, 5)))
fail (struct builder *b, size_t line, size_t column, const char *fmt, ...)
{
  va_list args;

  b->err->line = line + 1;
  b->err->column = column + 1;
  va_start (args, fmt);
  vsnprintf (b->err->text, sizeof b->err->text, fmt, args);
  va_end (args);
  return -1;
}

static int
no_memory (struct builder *b)
{
  b->err->line = b->err->column = 0;
  snprintf (b->err->text, sizeof b->err->text, "out of memory");
  return -1;
}

/* Errors of the reader come with an offset in bytes and no mark. */
static int
fail_at_offset (struct builder *b, size_t offset, const char *problem)
{
  size_t line = 0, column = 0, i;

  for (i = 0; i < offset; i++) {
    if (b->text[i] == '\n') {
      line++;
      column = 0;
    }
    else if ((b->text[i] & 0xc0) != 0x80) /* not inside a UTF-8 sequence */
      column++;
  }
  return fail (b, line, column, "not YAML: %s, expected printable UTF-8",
               problem);
}

static int
yaml_failed (struct builder *b)
{
  const yaml_parser_t *y = &b->yaml;
  const char *problem = y->problem ? y->problem : "unknown error";

  if (y->error == YAML_MEMORY_ERROR)
    return no_memory (b);
  if (y->error == YAML_READER_ERROR)
    return fail_at_offset (b, y->problem_offset, problem);
  if (y->context && y->context_mark.line != y->problem_mark.line)
    return fail (b, y->problem_mark.line, y->problem_mark.column,
                 "not YAML: %s (%s from line %zu)",
                 problem, y->context, y->context_mark.line + 1);
  return fail (b, y->problem_mark.line, y->problem_mark.column,
               "not YAML: %s", problem);
}

static int
next_event (struct builder *b, yaml_event_t *event)
{
  return yaml_parser_parse (&b->yaml, event) ? 0 : yaml_failed (b);
}

void
tree_free (struct node *node)
{
  size_t i;

  if (!node)
    return;
  for (i = 0; i < node->nr; i++)
    tree_free (node->items[i]);
  free (node->items);
  free (node->text);
  free (node);
}

static struct node *
new_node (struct builder *b, enum node_kind kind, const yaml_event_t *event)
{
  struct node *node;

  if (++b->nr_nodes > TREE_NODES_MAX) {
    fail (b, event->start_mark.line, event->start_mark.column,
          "more than %d values, expected a shorter file", TREE_NODES_MAX);
    return NULL;
  }
  node = calloc (1, sizeof *node);
  if (!node) {
    no_memory (b);
    return NULL;
  }
  node->kind = kind;
  node->line = event->start_mark.line + 1;
  node->column = event->start_mark.column + 1;
  return node;
}

static struct node *build_node (struct builder *b, const yaml_event_t *event,
                                unsigned depth);

static int
append (struct builder *b, struct node *node, struct node *item)
{
  struct node **items;

  if ((node->nr & (node->nr + 1)) == 0) { /* 0, 1, 3, 7, ...: full */
    items = realloc (node->items, (2 * node->nr + 1) * sizeof *items);
    if (!items)
      return no_memory (b);
    node->items = items;
  }
  node->items[node->nr++] = item;
  return 0;
}

/* Reads items until the event that ends the list or mapping. */
static int
fill (struct builder *b, struct node *node, unsigned depth)
{
  const yaml_event_type_t end = node->kind == NODE_LIST
    ? YAML_SEQUENCE_END_EVENT : YAML_MAPPING_END_EVENT;
  struct node *item;
  yaml_event_t event;
  int done;

  for (;;) {
    if (next_event (b, &event) == -1)
      return -1;
    done = event.type == end;
    item = done ? NULL : build_node (b, &event, depth + 1);
    yaml_event_delete (&event);
    if (done)
      return 0;
    if (!item)
      return -1;
    if (append (b, node, item) == -1) {
      tree_free (item);
      return -1;
    }
  }
}

static struct node *
build_scalar (struct builder *b, const yaml_event_t *event)
{
  struct node *node = new_node (b, NODE_SCALAR, event);

  if (!node)
    return NULL;
  node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
  node->length = event->data.scalar.length;
  node->text = malloc (node->length + 1);
  if (!node->text) {
    no_memory (b);
    tree_free (node);
    return NULL;
  }
  memcpy (node->text, event->data.scalar.value, node->length);
  node->text[node->length] = '\0';
  return node;
}

static struct node *
build_collection (struct builder *b, const yaml_event_t *event,
                  enum node_kind kind, unsigned depth)
{
  struct node *node;

  if (depth >= TREE_DEPTH_MAX) {
    fail (b, event->start_mark.line, event->start_mark.column,
          "nested too deeply, expected at most %d levels", TREE_DEPTH_MAX);
    return NULL;
  }
  node = new_node (b, kind, event);
  if (node && fill (b, node, depth) == -1) {
    tree_free (node);
    return NULL;
  }
  return node;
}

static struct node *
build_node (struct builder *b, const yaml_event_t *event, unsigned depth)
{
  const size_t line = event->start_mark.line;
  const size_t column = event->start_mark.column;
  const yaml_char_t *anchor = NULL, *tag = NULL;
  enum node_kind kind = NODE_SCALAR;

  switch (event->type) {
  case YAML_SCALAR_EVENT:
    anchor = event->data.scalar.anchor;
    tag = event->data.scalar.tag;
    break;
  case YAML_SEQUENCE_START_EVENT:
    anchor = event->data.sequence_start.anchor;
    tag = event->data.sequence_start.tag;
    kind = NODE_LIST;
    break;
  case YAML_MAPPING_START_EVENT:
    anchor = event->data.mapping_start.anchor;
    tag = event->data.mapping_start.tag;
    kind = NODE_MAPPING;
    break;
  case YAML_ALIAS_EVENT:
    fail (b, line, column,
          "alias '*%.64s', expected the value itself (aliases are not "
          "supported)", (const char *) event->data.alias.anchor);
    return NULL;
  default:                      /* libyaml gives no other events here */
    fail (b, line, column, "not YAML: unexpected event");
    return NULL;
  }

  if (anchor) {
    fail (b, line, column, "anchor '&%.64s', expected a value without one "
          "(aliases are not supported)", (const char *) anchor);
    return NULL;
  }
  if (tag) {
    fail (b, line, column, "tag '%.64s', expected a value without one",
          (const char *) tag);
    return NULL;
  }
  return kind == NODE_SCALAR ? build_scalar (b, event)
    : build_collection (b, event, kind, depth);
}

/* After the root only the end of document and stream may come. */
static int
expect_end (struct builder *b)
{
  yaml_event_t event;
  int r = 0;

  for (;;) {
    if (next_event (b, &event) == -1)
      return -1;
    if (event.type == YAML_DOCUMENT_START_EVENT)
      r = fail (b, event.start_mark.line, event.start_mark.column,
                "a second document, expected only one in a file");
    if (r == -1 || event.type == YAML_STREAM_END_EVENT) {
      yaml_event_delete (&event);
      return r;
    }
    yaml_event_delete (&event);
  }
}

static struct node *
build_document (struct builder *b)
{
  struct node *root = NULL;
  yaml_event_t event;
  bool end, begun;

  for (;;) {
    if (next_event (b, &event) == -1)
      return NULL;
    end = event.type == YAML_STREAM_END_EVENT;
    begun = event.type == YAML_STREAM_START_EVENT
      || event.type == YAML_DOCUMENT_START_EVENT;
    if (end)
      fail (b, 0, 0, "an empty file, expected a mapping");
    else if (!begun)
      root = build_node (b, &event, 0);
    yaml_event_delete (&event);
    if (end || !begun)
      break;
  }
  if (root && expect_end (b) == -1) {
    tree_free (root);
    return NULL;
  }
  return root;
}

struct node *
tree_parse (const char *text, size_t length, struct tree_error *err)
{
  struct builder b = { .text = text, .err = err };
  struct node *root;

  if (length >= 3 && memcmp (text, "\xef\xbb\xbf", 3) == 0) {
    b.text = text += 3;         /* a byte order mark */
    length -= 3;
  }
  if (!yaml_parser_initialize (&b.yaml)) {
    no_memory (&b);
    return NULL;
  }
  yaml_parser_set_encoding (&b.yaml, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string (&b.yaml, (const unsigned char *) text, length);
  root = build_document (&b);
  yaml_parser_delete (&b.yaml);
  return root;
}
