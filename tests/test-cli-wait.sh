#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleece backup and job wait: progress, interrupts, a daemon that goes.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/cli-functions.sh"

event () { printf '{"event": {"job": %s}}' "$(job "$@")"; }
result () { printf '{"result": {"job": %s}}' "$(job "$@")"; }

# Lines: one for each tenth and each state.
fake_daemon '{
  "backup": ['"$(result created 0)"'],
  "job-wait": ['"$(event created 0), $(event running 3), $(event running 9), \
    $(event running 10), $(event running 15), $(event paused 15), \
    $(event running 47), $(event flushing 100), $(event completed 100), \
    $(result completed 100)"']}'
run 0 backup vda /backup/vda.raw
says err </dev/null
says out <<'END'
job 17: 0% of 10G  created  120M/s  1:30 left
job 17: 3% of 10G  120M/s  1:27 left
job 17: 10% of 10G  120M/s  1:21 left
job 17: 15% of 10G  paused  120M/s  1:16 left
job 17: 47% of 10G  120M/s  0:47 left
job 17: 100% of 10G  flushing  120M/s  0:00 left
job 17 completed: 10G of vda, 2025-01-31 12:00:00, in 1:30 (120M/s) to /backup/vda.raw
read 4G, written 4G, zero 6G, skipped 0, recopied 0, lost 0, offloaded 0 (none)
END
requested job-wait '{"job": "17", "progress": true}'

# One document, and no lines about progress, with --json.
run 0 --json backup vda /backup/vda.raw
[ "$(json out 'd["job"]["state"]')" = completed ] || fail "--json"
says err </dev/null

# A bar on a terminal, cut to its width.
for width in 80 30 12; do
  "$PYTHON" - "$NBDFLEECE" $width >"$tmp/tty" <<'PY'
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ,
                struct.pack("HHHH", 24, int(sys.argv[2]), 0, 0))
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], ["nbdfleece", "job", "wait", "17"])
out = b""
try:
    while chunk := os.read(fd, 4096):
        out += chunk
except OSError:
    pass
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
  tr '\r' '\n' <"$tmp/tty" | sed -n 's/\x1b\[K$//p' | grep . >"$tmp/bars"
  case $width in
    80)
      grep -qFx 'job 17 [                               ]  0% of 10G  created  120M/s  1:30 left' "$tmp/bars"
      grep -qFx 'job 17 [##################                      ] 47% of 10G  120M/s  0:47 left' \
        "$tmp/bars"
      grep -qFx 'job 17 [#############################] 100% of 10G  flushing  120M/s  0:00 left' "$tmp/bars" ;;
    30) grep -qFx 'job 17 47% of 10G  120M/s  0:' "$tmp/bars" ;;
    12) grep -qFx 'job 17 47% ' "$tmp/bars" ;;
  esac || { cat "$tmp/bars" >&2; fail "bar of $width columns"; }
  awk -v w=$width 'length ($0) >= w { print "too long: " $0; exit 1 }' \
      "$tmp/bars" >&2
  # Nothing of the bar stays in front of the last lines.
  grep -qF $'\r\e[Kjob 17 completed' "$tmp/tty" || fail "no last line"
done
stop $pid

# How it may end.
for end in failed:'the target went away' incomplete:'2 clusters were lost' \
           cancelled:
do
  state=${end%%:*} why=${end#*:}
  error=null
  [ -z "$why" ] || error="\"$why\""
  fake_daemon '{"job-wait": ['"$(result "$state" 50 "{\"error\": $error}")"']}'
  run 1 job wait 17
  says out </dev/null
  case $state in
    incomplete) says err <<<"nbdfleece: job 17 is incomplete: $why" ;;
    cancelled) says err <<<"nbdfleece: job 17 cancelled" ;;
    *) says err <<<"nbdfleece: job 17 $state: $why" ;;
  esac
  run 1 --json job wait 17
  [ "$(json out 'd["job"]["state"]')" = "$state" ] || fail "--json"
  stop $pid
done

# in_background ARGUMENTS...: nbdfleece as $cli, with its own signals.
in_background () {
  # A shell's background jobs ignore SIGINT, and so would what they start.
  start "$PYTHON" -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], ["nbdfleece"] + sys.argv[2:])' \
    "$NBDFLEECE" "$@" >"$tmp/out" 2>"$tmp/err"
  cli=$pid
}
ended () {
  wait_for 60 dead "$cli"
  stop "$cli"
  [ "$status" = "$1" ] || { cat "$tmp/err" >&2; fail "status $status"; }
}
asked () { grep -q "\"$1\"" "$requests"; }

# Ctrl-C asks to cancel, says so, and waits for the end.
fake_daemon '{
  "backup": ['"$(result running 0)"'],
  "job-cancel": ['"$(result running 20)"'],
  "job-wait": ['"$(event running 10)"', {"until": "job-cancel"},
    '"$(result cancelled 20)"']}'
daemon=$pid
in_background backup vda /t
wait_for 30 asked job-wait
kill -INT "$cli"
ended 1
says err <<'END'
nbdfleece: asked the daemon to cancel job 17; waiting for its end
nbdfleece: job 17 cancelled
END
stop "$daemon"

# So it does while the job is only about to start.
fake_daemon '{
  "backup": [{"until-file": "'"$tmp/go"'"}, '"$(result running 0)"'],
  "job-cancel": ['"$(result running 0)"'],
  "job-wait": [{"until": "job-cancel"}, '"$(result cancelled 0)"']}'
daemon=$pid
in_background backup vda /t
wait_for 30 asked backup
kill -INT "$cli"
touch "$tmp/go"
ended 1
asked job-cancel || fail "the interrupt was forgotten"
stop "$daemon"

# The second Ctrl-C, or any other signal, leaves the job alone.
fake_daemon '{
  "backup": ['"$(result running 0)"'],
  "job-cancel": ['"$(result running 20)"'],
  "job-wait": [{"until": "never"}]}'
daemon=$pid
in_background backup vda /t
wait_for 30 asked job-wait
kill -INT "$cli"
wait_for 30 grep -q 'asked the daemon' "$tmp/err"
kill -INT "$cli"
ended 1
says err <<'END'
nbdfleece: asked the daemon to cancel job 17; waiting for its end
nbdfleece: job 17 goes on; to wait for it again: nbdfleece job wait 17
END
for signal in INT TERM HUP; do
  : >"$requests"
  case $signal in
    INT) in_background job wait 17 ;;
    *) in_background backup vda /t ;;
  esac
  wait_for 30 asked job-wait
  kill -$signal "$cli"
  ended 1
  says err <<<'nbdfleece: job 17 goes on; to wait for it again: nbdfleece job wait 17'
  ! asked job-cancel || fail "cancelled by SIG$signal"
done
stop "$daemon"

# A daemon that goes away, in the middle of a line, and comes back.
fake_daemon '{
  "backup": ['"$(result running 0)"'],
  "job-wait": ['"$(event running 10)"', {"raw": "{\"event\":{\"job\""},
    {"until-file": "'"$tmp/exit"'"}, {"exit": true}]}'
daemon=$pid
in_background backup vda /t
wait_for 30 grep -q '10%' "$tmp/out"
touch "$tmp/exit"
wait_for 30 dead "$daemon"
stop "$daemon"
wait_for 30 grep -q 'trying to reach' "$tmp/err"
fake_daemon '{"job-wait": ['"$(event running 60), $(result completed 100)"']}'
daemon=$pid
ended 0
says err <<<'nbdfleece: the daemon closed the connection; job 17 goes on; trying to reach the daemon again'
grep -q '^job 17: 60%' "$tmp/out"
grep -q '^job 17 completed' "$tmp/out"
stop "$daemon"

# One that comes back without the job.
fake_daemon '{"job-wait": ['"$(event running 10)"', {"exit": true}]}'
daemon=$pid
in_background job wait 17
wait_for 30 dead "$daemon"
stop "$daemon"
fake_daemon '{"job-wait": [{"error": {"code": "unknown-job",
                                      "message": "there is no job 17"}}]}'
ended 1
tail -n 1 "$tmp/err" | finds -Fx 'nbdfleece: there is no job 17'
