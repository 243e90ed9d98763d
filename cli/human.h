/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Members of replies, and numbers as people like them. */

#ifndef NBDFLEECE_HUMAN_H
#define NBDFLEECE_HUMAN_H

#include <stdbool.h>
#include <stdint.h>

#include <json.h>

/* Room for any number that the functions below write. */
#define HUMAN_SIZE 48

/* A member that is a string, else NULL; one that is an integer, stored in
 * *value if it is not negative, else false. */
extern const char *member_text (json_object *object, const char *key);
extern bool member_int (json_object *object, const char *key, uint64_t *value);

/* A member that is an array or an object, else NULL.  Owned by object. */
extern json_object *member_array (json_object *object, const char *key);
extern json_object *member_object (json_object *object, const char *key);

/* "12K", "1.5G"; about two digits, at least. */
extern const char *human_size (uint64_t bytes, char buf[HUMAN_SIZE]);

/* "0:07", "1:02:03", "3d 04:05". */
extern const char *human_seconds (uint64_t seconds, char buf[HUMAN_SIZE]);

/* "25us", "1.2ms", "3.4s". */
extern const char *human_us (uint64_t us, char buf[HUMAN_SIZE]);

/* "2025-01-31 12:00:00" in local time. */
extern const char *human_instant (uint64_t ns, char buf[HUMAN_SIZE]);

/* The same for a member; "-" if it is null or missing. */
extern const char *member_text_or_dash (json_object *object, const char *key);
extern const char *member_yes_or_no (json_object *object, const char *key);
extern const char *member_number (json_object *object, const char *key,
                                  char buf[HUMAN_SIZE]);
extern const char *member_size (json_object *object, const char *key,
                                char buf[HUMAN_SIZE]);
extern const char *member_rate (json_object *object, const char *key,
                                char buf[HUMAN_SIZE]);
extern const char *member_seconds (json_object *object, const char *key,
                                   char buf[HUMAN_SIZE]);
extern const char *member_us (json_object *object, const char *key,
                              char buf[HUMAN_SIZE]);
extern const char *member_instant (json_object *object, const char *key,
                                   char buf[HUMAN_SIZE]);

/* How much of a job is done, rounded down, 0 to 100; -1 if nobody knows yet.
 * And as "45%" or "-". */
extern int job_done_percent (json_object *job);
extern const char *job_percent (json_object *job, char buf[HUMAN_SIZE]);

#endif /* NBDFLEECE_HUMAN_H */
