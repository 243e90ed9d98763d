/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Range iterator and range lists. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "range.h"

bool
range_next (struct range_iter *it, struct range_piece *piece)
{
  uint64_t left = it->end - it->pos;
  uint64_t past = it->pos % it->align;
  uint64_t n;

  if (left == 0)
    return false;
  piece->whole = past == 0 && left >= it->align;
  if (past > 0)
    n = it->align - past;       /* head, up to the next multiple */
  else if (piece->whole) {
    n = left - left % it->align;
    if (n > it->max)
      n = it->max;
  }
  else
    n = left;                   /* tail */
  if (n > left)
    n = left;
  piece->first = it->pos;
  piece->end = it->pos += n;
  return true;
}

static int
reserve (struct range_list *l, size_t nr)
{
  size_t allocated = l->allocated ? l->allocated : 16;
  struct range *p;

  if (nr <= l->allocated)
    return 0;
  while (allocated < nr)
    allocated *= 2;
  p = realloc (l->list, allocated * sizeof *p);
  if (!p)
    return -1;
  l->list = p;
  l->allocated = allocated;
  return 0;
}

int
range_list_add (struct range_list *l, uint64_t first, uint64_t end)
{
  struct range *last = l->nr > 0 ? &l->list[l->nr - 1] : NULL;

  if (last && last->end == first) {
    last->end = end;
    return 0;
  }
  if (last && last->first == end) {
    last->first = first;
    return 0;
  }
  if (reserve (l, l->nr + 1) == -1)
    return -1;
  l->list[l->nr++] = (struct range) { first, end };
  return 0;
}

bool
range_list_take (struct range_list *l, uint64_t max,
                 uint64_t *first, uint64_t *end)
{
  struct range *last;

  if (l->nr == 0)
    return false;
  last = &l->list[l->nr - 1];
  *first = last->first;
  *end = last->end - last->first > max ? last->first + max : last->end;
  last->first = *end;
  if (last->first == last->end)
    l->nr--;
  return true;
}

uint64_t
range_list_total (const struct range_list *l)
{
  uint64_t total = 0;
  size_t i;

  for (i = 0; i < l->nr; i++)
    total += l->list[i].end - l->list[i].first;
  return total;
}

int
range_list_move (struct range_list *to, struct range_list *from)
{
  if (reserve (to, to->nr + from->nr) == -1)
    return -1;
  if (from->nr > 0)
    memcpy (to->list + to->nr, from->list, from->nr * sizeof *from->list);
  to->nr += from->nr;
  from->nr = 0;
  return 0;
}

static int
by_first (const void *a, const void *b)
{
  const struct range *x = a, *y = b;

  return x->first < y->first ? -1 : x->first > y->first;
}

void
range_list_coalesce (struct range_list *l)
{
  size_t i, n = 0;

  if (l->nr == 0)
    return;
  qsort (l->list, l->nr, sizeof *l->list, by_first);
  for (i = 1; i < l->nr; i++)
    if (l->list[i].first > l->list[n].end)
      l->list[++n] = l->list[i];
    else if (l->list[i].end > l->list[n].end)
      l->list[n].end = l->list[i].end;
  l->nr = n + 1;
}

void
range_list_clear (struct range_list *l)
{
  l->nr = 0;
}

void
range_list_free (struct range_list *l)
{
  free (l->list);
  *l = (struct range_list) { 0 };
}
