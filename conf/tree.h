/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A YAML document as a tree of nodes, each with its place in the file. */

#ifndef NBDFLEECE_TREE_H
#define NBDFLEECE_TREE_H

#include <stdbool.h>
#include <stddef.h>

/* A configuration needs no more than these; a file that has more is refused
 * before it costs memory. */
#define TREE_DEPTH_MAX 16
#define TREE_NODES_MAX 65536

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAPPING };

struct node {
  enum node_kind kind;
  unsigned line, column;        /* where it begins, from 1 */
  bool plain;                   /* scalar: written without quotes */
  char *text;                   /* scalar: NUL-terminated; may hold NULs */
  size_t length;                /* scalar: bytes of text */
  struct node **items;          /* list: its items; mapping: key, value, ... */
  size_t nr;                    /* how many items there are */
};

struct tree_error {
  unsigned line, column;        /* from 1 */
  char text[256];
};

/* Parses one document of UTF-8.  Returns its root, the caller's to tree_free,
 * or NULL with *err filled in (line 0: no memory). */
extern struct node *tree_parse (const char *text, size_t length,
                                struct tree_error *err);

/* Harmless on NULL. */
extern void tree_free (struct node *node);

#endif /* NBDFLEECE_TREE_H */
