/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The requests of one client that are under way. */

#include <config.h>

#include "slots.h"

void
queue_init (struct slot_queue *q)
{
  q->head = q->tail = NO_SLOT;
}

void
queue_put (struct slots *s, struct slot_queue *q, uint8_t n)
{
  s->slot[n].next = NO_SLOT;
  if (q->head == NO_SLOT)
    q->head = n;
  else
    s->slot[q->tail].next = n;
  q->tail = n;
}

uint8_t
queue_get (struct slots *s, struct slot_queue *q)
{
  uint8_t n = q->head;

  if (n != NO_SLOT) {
    q->head = s->slot[n].next;
    s->slot[n].next = NO_SLOT;
    if (q->head == NO_SLOT)
      q->tail = NO_SLOT;
  }
  return n;
}

void
queue_remove (struct slots *s, struct slot_queue *q, uint8_t n)
{
  struct slot_queue rest;
  uint8_t i;

  queue_init (&rest);
  while ((i = queue_get (s, q)) != NO_SLOT)
    if (i != n)
      queue_put (s, &rest, i);
  *q = rest;
}

void
slots_init (struct slots *s)
{
  unsigned n;

  s->nr_busy = 0;
  queue_init (&s->free);
  for (n = 0; n < SLOTS; n++)
    queue_put (s, &s->free, n);
}

uint8_t
slots_take (struct slots *s)
{
  uint8_t n = queue_get (s, &s->free);

  if (n != NO_SLOT) {
    s->slot[n] = (struct slot) { .busy = true, .next = NO_SLOT };
    s->nr_busy++;
  }
  return n;
}

void
slots_give (struct slots *s, uint8_t n)
{
  s->slot[n].busy = false;
  s->nr_busy--;
  queue_put (s, &s->free, n);
}

uint64_t
slot_pieces (uint64_t length)
{
  uint64_t n = (length + PIECE_SIZE - 1) / PIECE_SIZE;

  return n >= 64 ? UINT64_MAX : (UINT64_C (1) << n) - 1;
}

uint64_t
piece_length (const struct slot *s, unsigned piece)
{
  uint64_t rest = s->length - piece * PIECE_SIZE;

  return rest < PIECE_SIZE ? rest : PIECE_SIZE;
}
