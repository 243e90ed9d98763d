/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A table of text with aligned columns. */

#ifndef NBDFLEECE_TABLE_H
#define NBDFLEECE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct column {
  const char *title;
  bool right;                   /* numbers */
};

struct table {
  const struct column *columns; /* the caller's */
  size_t nr_columns;
  char **cells;                 /* row by row; NULL where memory ran out */
  size_t nr_cells;
};

/* Next cell, from left to right and from top to bottom. */
extern void table_add (struct table *table, const char *text);

/* Prints the titles and all rows, two spaces between columns; and frees the
 * cells.  A row that is not complete is left out. */
extern void table_print (struct table *table, FILE *out);

#endif /* NBDFLEECE_TABLE_H */
