/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Tables: as wide as what is in them. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "table.h"

void
table_add (struct table *table, const char *text)
{
  char **cells, *copy, *s;

  cells = realloc (table->cells, (table->nr_cells + 1) * sizeof *cells);
  if (!cells)
    return;
  table->cells = cells;
  copy = strdup (text);
  for (s = copy; s && *s; s++)
    if (*s == '\n')
      *s = ' ';
  table->cells[table->nr_cells++] = copy;
}

/* Columns on a terminal: characters of UTF-8, taken as one wide each. */
static size_t
width (const char *text)
{
  size_t n = 0;

  for (; *text; text++)
    n += (*text & 0xc0) != 0x80;
  return n;
}

static const char *
cell (const struct table *table, size_t n)
{
  return table->cells[n] ? table->cells[n] : "?";
}

static size_t
column_width (const struct table *table, size_t column)
{
  size_t w = width (table->columns[column].title), i;

  for (i = column; i < table->nr_cells; i += table->nr_columns)
    if (width (cell (table, i)) > w)
      w = width (cell (table, i));
  return w;
}

static void
print_cell (const struct table *table, size_t column, const char *text,
            FILE *out)
{
  const int pad = column_width (table, column) - width (text);
  const bool last = column == table->nr_columns - 1;

  print (out, "%s", column == 0 ? "" : "  ");
  if (table->columns[column].right)
    print (out, "%*s%s", pad, "", text);
  else
    print (out, "%s%*s", text, last ? 0 : pad, "");
  if (last)
    print (out, "\n");
}

void
table_print (struct table *table, FILE *out)
{
  const size_t nr_rows = table->nr_cells / table->nr_columns;
  size_t row, column;

  for (column = 0; column < table->nr_columns; column++)
    print_cell (table, column, table->columns[column].title, out);
  for (row = 0; row < nr_rows; row++)
    for (column = 0; column < table->nr_columns; column++)
      print_cell (table, column,
                  cell (table, row * table->nr_columns + column), out);
  for (column = 0; column < table->nr_cells; column++)
    free (table->cells[column]);
  free (table->cells);
  table->cells = NULL;
  table->nr_cells = 0;
}
