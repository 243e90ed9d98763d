/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* A token bucket: the job's speed limit. */

/* Tokens are bytes.  They come in at the rate and are kept up to a tenth of a
 * second's worth.  Who takes more than there are leaves a debt that is paid
 * before the next one may take.  So with requests of at most a tenth of a
 * second's worth (bucket_largest), no second ever sees more than the rate
 * times 1.2, and every longer time comes nearer to the rate itself.
 *
 * Time is the caller's, in seconds of any clock that does not go back.
 */

#ifndef NBDFLEECE_BUCKET_H
#define NBDFLEECE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
  uint64_t rate;                /* bytes per second; 0: no limit */
  double tokens;                /* < 0: debt */
  double then;                  /* when tokens was right */
};

/* Sets or changes the rate.  A debt is forgotten, as it was made under the
 * old one. */
extern void bucket_set_rate (struct bucket *b, uint64_t rate, double now);

/* Takes `bytes' tokens if it may; false if it has to wait. */
extern bool bucket_take (struct bucket *b, uint64_t bytes, double now);

/* Gives back what was taken and not used. */
extern void bucket_return (struct bucket *b, uint64_t bytes);

/* Seconds until the next take can succeed, 0 if it can now. */
extern double bucket_wait (const struct bucket *b, double now);

/* The largest request that keeps the limit even: a tenth of a second's worth,
 * UINT64_MAX without a limit. */
extern uint64_t bucket_largest (const struct bucket *b);

#endif /* NBDFLEECE_BUCKET_H */
