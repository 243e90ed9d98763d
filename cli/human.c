/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* Numbers for people, straight from the members of a reply. */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "human.h"

const char *
member_text (json_object *object, const char *key)
{
  json_object *member;

  if (!json_object_object_get_ex (object, key, &member)
      || !json_object_is_type (member, json_type_string))
    return NULL;
  return json_object_get_string (member);
}

bool
member_int (json_object *object, const char *key, uint64_t *value)
{
  json_object *member;

  if (!json_object_object_get_ex (object, key, &member)
      || !json_object_is_type (member, json_type_int)
      || json_object_get_int64 (member) < 0)
    return false;
  *value = json_object_get_uint64 (member);
  return true;
}

static json_object *
member_of_type (json_object *object, const char *key, enum json_type type)
{
  json_object *member;

  if (!json_object_object_get_ex (object, key, &member)
      || !json_object_is_type (member, type))
    return NULL;
  return member;
}

json_object *
member_array (json_object *object, const char *key)
{
  return member_of_type (object, key, json_type_array);
}

json_object *
member_object (json_object *object, const char *key)
{
  return member_of_type (object, key, json_type_object);
}

/* One digit after the point below 10, none above or if it is a zero. */
static char *
scaled (double value, const char *unit, char buf[HUMAN_SIZE])
{
  char *zero;

  if (value < 9.95)
    snprintf (buf, HUMAN_SIZE, "%.1f%s", value, unit);
  else
    snprintf (buf, HUMAN_SIZE, "%.0f%s", value, unit);
  zero = strstr (buf, ".0");
  if (zero)
    memmove (zero, zero + 2, strlen (zero + 2) + 1);
  return buf;
}

static char *
scaled_size (uint64_t bytes, char buf[HUMAN_SIZE])
{
  static const char *const units[] = { "", "K", "M", "G", "T", "P", "E" };
  double value = bytes;
  unsigned i = 0;

  /* What would be rounded up to 1024 is one of the next unit. */
  for (; value >= 1023.5 && i < sizeof units / sizeof units[0] - 1; i++)
    value /= 1024;
  return scaled (value, units[i], buf);
}

const char *
human_size (uint64_t bytes, char buf[HUMAN_SIZE])
{
  return scaled_size (bytes, buf);
}

const char *
human_seconds (uint64_t seconds, char buf[HUMAN_SIZE])
{
  const uint64_t s = seconds % 60, m = seconds / 60 % 60;
  const uint64_t h = seconds / 3600, d = h / 24;

  if (d > 0)
    snprintf (buf, HUMAN_SIZE, "%" PRIu64 "d %02" PRIu64 ":%02" PRIu64,
              d, h % 24, m);
  else if (h > 0)
    snprintf (buf, HUMAN_SIZE, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
              h, m, s);
  else
    snprintf (buf, HUMAN_SIZE, "%" PRIu64 ":%02" PRIu64, m, s);
  return buf;
}

const char *
human_us (uint64_t us, char buf[HUMAN_SIZE])
{
  if (us < 1000)
    return scaled (us, "us", buf);
  if (us < 999500)
    return scaled (us / 1e3, "ms", buf);
  return scaled (us / 1e6, "s", buf);
}

const char *
human_instant (uint64_t ns, char buf[HUMAN_SIZE])
{
  const time_t t = ns / 1000000000;
  struct tm tm;

  if (!localtime_r (&t, &tm)
      || strftime (buf, HUMAN_SIZE, "%Y-%m-%d %H:%M:%S", &tm) == 0)
    strcpy (buf, "-");
  return buf;
}

const char *
member_text_or_dash (json_object *object, const char *key)
{
  const char *text = member_text (object, key);

  return text ? text : "-";
}

/* A dash: an older daemon does not say. */
const char *
member_yes_or_no (json_object *object, const char *key)
{
  json_object *value;

  if (!json_object_object_get_ex (object, key, &value)
      || !json_object_is_type (value, json_type_boolean))
    return "-";
  return json_object_get_boolean (value) ? "yes" : "no";
}

static const char *
dash (char buf[HUMAN_SIZE])
{
  return strcpy (buf, "-");
}

const char *
member_number (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  uint64_t n;

  if (!member_int (object, key, &n))
    return dash (buf);
  snprintf (buf, HUMAN_SIZE, "%" PRIu64, n);
  return buf;
}

const char *
member_size (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  uint64_t n;

  return member_int (object, key, &n) ? human_size (n, buf) : dash (buf);
}

const char *
member_rate (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  uint64_t n;

  return member_int (object, key, &n) ? strcat (scaled_size (n, buf), "/s")
    : dash (buf);
}

const char *
member_seconds (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  uint64_t n;

  return member_int (object, key, &n) ? human_seconds (n, buf) : dash (buf);
}

const char *
member_us (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  uint64_t n;

  return member_int (object, key, &n) ? human_us (n, buf) : dash (buf);
}

const char *
member_instant (json_object *object, const char *key, char buf[HUMAN_SIZE])
{
  uint64_t n;

  return member_int (object, key, &n) ? human_instant (n, buf) : dash (buf);
}

int
job_done_percent (json_object *job)
{
  uint64_t total, done;

  if (!member_int (job, "bytes-total", &total)
      || !member_int (job, "bytes-done", &done))
    return -1;
  if (done >= total)
    return 100;
  return 100.0 * (double) done / (double) total;
}

const char *
job_percent (json_object *job, char buf[HUMAN_SIZE])
{
  const int percent = job_done_percent (job);

  if (percent == -1)
    return dash (buf);
  snprintf (buf, HUMAN_SIZE, "%d%%", percent);
  return buf;
}
