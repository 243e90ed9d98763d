/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Ranges: the one way to cut them into pieces, and lists of them. */

#ifndef NBDFLEECE_RANGE_H
#define NBDFLEECE_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* [first, end), in bytes or in clusters as the owner says. */
struct range {
  uint64_t first, end;
};

/* Cuts a range so that everyone who needs head, body and tail gets them from
 * one loop.  Pieces come in order, without gaps; each begins or ends at a
 * multiple of `align' except at the ends of the range:
 *
 *   range    .....[==================================].....
 *   align    |       |       |       |       |       |
 *   pieces        [==]                                        head, not whole
 *                    [===============]                        body, at most
 *                                    [===============]        max, whole
 *                                                    [=]      tail, not whole
 */
struct range_iter {
  uint64_t pos, end;            /* what is left */
  uint64_t align;               /* any number > 0, not only powers of two */
  uint64_t max;                 /* longest body piece; a multiple of align */
};

struct range_piece {
  uint64_t first, end;          /* first < end */
  bool whole;                   /* both ends at multiples of align */
};

/* The next piece; false when there is none. */
extern bool range_next (struct range_iter *it, struct range_piece *piece);

/* A list in no order that grows as needed.  Zeroed is empty. */
struct range_list {
  struct range *list;
  size_t nr, allocated;
};

/* Adds [first, end), joined with the last entry where they touch.  Returns 0,
 * or -1 and errno ENOMEM. */
extern int range_list_add (struct range_list *l, uint64_t first, uint64_t end);

/* Takes [*first, *end) off the list, at most max long.  False if empty. */
extern bool range_list_take (struct range_list *l, uint64_t max,
                             uint64_t *first, uint64_t *end);

/* The sum of the lengths. */
extern uint64_t range_list_total (const struct range_list *l);

/* Moves everything from one list to the end of another, that is: adds all,
 * then empties `from'.  Returns 0, or -1 and errno ENOMEM with both as they
 * were. */
extern int range_list_move (struct range_list *to, struct range_list *from);

/* Sorts the list and joins what touches or overlaps. */
extern void range_list_coalesce (struct range_list *l);

extern void range_list_clear (struct range_list *l);
extern void range_list_free (struct range_list *l);

#endif /* NBDFLEECE_RANGE_H */
