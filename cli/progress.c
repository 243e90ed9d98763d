/* SPDX-FileCopyrightText: The nbdfleece authors
 * SPDX-License-Identifier: BSD-3-Clause */

/* The progress bar, and what stands for it where there is no terminal. */

/* A terminal gets one line that is overwritten:
 *
 *   job 17 [########          ] 42% of 10G  120M/s  0:46 left
 *
 * cut to its width, with the state in front of the rate if that is not
 * "running".  Anything else gets a line whenever the state changes and
 * whenever another tenth is done, so that a log of a backup has a dozen lines
 * however long it takes.  How a job ended is for the caller to say.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli.h"
#include "human.h"
#include "progress.h"

#define BAR_MIN 10
#define BAR_MAX 40
#define LINE_MAX_COLUMNS 512

static bool
is_terminal (FILE *out)
{
  const char *term = getenv ("TERM");

  return isatty (fileno (out)) && term && *term && strcmp (term, "dumb") != 0;
}

void
progress_start (struct progress *p, bool json)
{
  *p = (struct progress) { .out = stdout, .tenth = -1 };
  if (json)
    p->out = is_terminal (stderr) ? stderr : NULL;
  p->bar = p->out && is_terminal (p->out);
}

static unsigned
columns (FILE *out)
{
  struct winsize size;

  if (ioctl (fileno (out), TIOCGWINSZ, &size) == -1 || size.ws_col == 0)
    return 80;
  return size.ws_col < LINE_MAX_COLUMNS ? size.ws_col : LINE_MAX_COLUMNS;
}

/* Everything that comes after the bar. */
static void
describe (json_object *job, char *buf, size_t size)
{
  const char *state = member_text_or_dash (job, "state");
  const bool running = strcmp (state, "running") == 0;
  char percent[HUMAN_SIZE], total[HUMAN_SIZE], rate[HUMAN_SIZE];
  char left[HUMAN_SIZE];
  uint64_t n;

  snprintf (buf, size, "%3s of %s  %s%s%s%s%s", job_percent (job, percent),
            member_size (job, "bytes-total", total),
            running ? "" : state, running ? "" : "  ",
            member_rate (job, "bytes-per-second", rate),
            member_int (job, "eta-seconds", &n) ? "  " : "",
            member_int (job, "eta-seconds", &n) ? human_seconds (n, left)
            : "");
  if (member_int (job, "eta-seconds", &n) && strlen (buf) + 6 < size)
    strcat (buf, " left");
}

static void
show_bar (struct progress *p, json_object *job)
{
  const unsigned width = columns (p->out) - 1;
  const int percent = job_done_percent (job);
  char lead[HUMAN_SIZE], text[256], bar[BAR_MAX + 8] = "";
  unsigned size, full, i;
  int room;

  snprintf (lead, sizeof lead, "job %.20s ", member_text_or_dash (job, "id"));
  describe (job, text, sizeof text);
  room = (int) width - (int) (strlen (lead) + strlen (text) + strlen ("[] "));
  if (room >= BAR_MIN) {
    size = room < BAR_MAX ? room : BAR_MAX;
    full = percent < 0 ? 0 : percent * size / 100;
    bar[0] = '[';
    for (i = 0; i < size; i++)
      bar[1 + i] = i < full ? '#' : ' ';
    strcpy (bar + 1 + size, "] ");
  }
  fputc ('\r', p->out);
  print (p->out, "%s%s%.*s", lead, bar,
         (int) (width > strlen (lead) + strlen (bar)
                ? width - strlen (lead) - strlen (bar) : 0), text);
  fputs ("\033[K", p->out);     /* erase the rest of the line */
  p->shown = true;
}

static void
show_line (struct progress *p, json_object *job)
{
  const char *error = member_text (job, "error");
  char text[256];

  describe (job, text, sizeof text);
  print (p->out, "job %s: %s%s%s\n", member_text_or_dash (job, "id"),
         text + strspn (text, " "), error ? ": " : "", error ? error : "");
}

void
progress_show (struct progress *p, json_object *job)
{
  const char *state = member_text_or_dash (job, "state");
  const int tenth = job_done_percent (job) / 10;

  if (!p->out || !json_object_is_type (json_object_object_get (job, "ended"),
                                       json_type_null))
    return;
  if (p->bar)
    show_bar (p, job);
  else if (strncmp (state, p->state, sizeof p->state - 1) != 0
           || tenth > p->tenth)
    show_line (p, job);
  fflush (p->out);
  if (tenth > p->tenth)
    p->tenth = tenth;
  snprintf (p->state, sizeof p->state, "%s", state);
}

void
progress_clear (struct progress *p)
{
  if (p->shown) {
    fputs ("\r\033[K", p->out);
    fflush (p->out);
  }
  p->shown = false;
}
