#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleece: command lines that make no sense, daemons that do not either.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/cli-functions.sh"

# Command lines: status 2, and nobody is asked anything.
fails_with 2 "which command? see --help"
fails_with 2 "unknown command 'frobnicate', see --help" frobnicate
fails_with 2 "unknown command '', see --help" ''
fails_with 2 "snapshot: which command? expected one of create, rearm, list, delete" \
           snapshot
fails_with 2 "job: unknown command 'kill', expected one of list, show, wait, cancel, pause, resume, speed" \
           job kill 1
fails_with 2 "unknown option --frobnicate, see --help" --frobnicate status
fails_with 2 "status: unknown option --frobnicate, see --help" \
           status --frobnicate
fails_with 2 "status: unknown option -x, see --help" status -x
fails_with 2 "unknown option -x, see --help" -xh
fails_with 2 "option -s needs an argument" -s
fails_with 2 "status: option --json=1 takes no argument" status --json=1
fails_with 2 "backup: option --detach=1 takes no argument" \
           backup --detach=1 vda /t
fails_with 2 "status: too many arguments, expected none" status vda
fails_with 2 "snapshot create: too few arguments, expected EXPORT[,EXPORT...] NAME" \
           snapshot create vda
fails_with 2 "snapshot delete: too many arguments, expected EXPORT[,EXPORT...] NAME" \
           snapshot delete a b c
fails_with 2 "backup: --speed '1.5G': expected bytes per second from 1 on, also with K M G T, or none" \
           backup --speed 1.5G vda /t
fails_with 2 "backup: --speed '-1': expected bytes per second from 1 on, also with K M G T, or none" \
           backup --speed -1 vda /t
fails_with 2 "backup: --speed '16777216T': expected bytes per second from 1 on, also with K M G T, or none" \
           backup --speed 16777216T vda /t
fails_with 2 "backup: --max-requests '0': expected a number from 1 to 1024" \
           backup --max-requests 0 vda /t
fails_with 2 "backup: --max-requests '1K': expected a number from 1 to 1024" \
           backup --max-requests 1K vda /t
fails_with 2 "backup: --connections '65': expected a number from 1 to 16" \
           backup --connections 65 vda /t
fails_with 2 "backup: --sync 'part': expected full, top, incremental" \
           backup --sync part vda /t
fails_with 2 "snapshot create: --deadline '2m': expected a time from 1ms to 1m with its unit (ms s m h)" \
           snapshot create --deadline 2m vda x
fails_with 2 "job speed: 'fast': expected bytes per second from 1 on, also with K M G T, or none" \
           job speed 17 fast
for speed in 0 0K -5 nan 1e6 inf ''; do
  fails_with 2 "job speed: '$speed': expected bytes per second from 1 on, also with K M G T, or none" \
             job speed -- 17 "$speed"
  fails_with 2 "backup: --speed '$speed': expected bytes per second from 1 on, also with K M G T, or none" \
             backup --speed "$speed" vda /t
done
fails_with 2 "backup: --on-target-error 'retry': expected report, stop, ignore, enospc" \
           backup --on-target-error retry vda /t
fails_with 2 "backup: --retry '25h': expected a time from 0ms to 24h with its unit (ms s m h)" \
           backup --retry 25h vda /t

run 0 --help
grep -q '^  snapshot create EXPORT' "$tmp/out"
run 0 backup --help
grep -q '^Usage: .* backup EXPORT\[,EXPORT\.\.\.\] TARGET \[OPTIONS\]$' "$tmp/out"
run 0 snapshot --help
run 0 --version
grep -q '^nbdfleece [0-9]' "$tmp/out"

# No daemon.
fails_with 1 "cannot connect to $tmp/control.sock: No such file or directory (is nbdfleeced running?)" \
           status
fails_with 1 "cannot connect to /: Connection refused (is nbdfleeced running?)" \
           -s / status
long=/$(printf '%0200d' 0)
fails_with 1 "cannot connect to $long: the path is longer than 107 bytes" \
           -s "$long" status
fails_with 1 "cannot connect to $tmp/control.sock: No such file or directory (is nbdfleeced running?)" \
           backup vda /t
run 1 --json status
[ "$(json out 'd["error"]["code"]')" = connect ] || fail "--json"

# Replies.  Each command gets another kind.
fake_daemon '{
  "status": [{"error": {"code": "failed", "message": "it is\nall \u001b[1mwrong"}}],
  "snapshot-list": [{"raw": "{\"id\":@ID@,\"result\":{\"snap"}, {"close": true}],
  "snapshot-create": [{"close": true}],
  "snapshot-delete": [{"raw": "hello\n"}],
  "job-list": [{"raw": "{\"id\":@ID@}\n"}],
  "job-show": [{"raw": "{\"id\":4711,\"result\":{}}\n"}],
  "job-cancel": [{"raw": "[]\n"}],
  "job-pause": [{"raw": "{\"id\":@ID@,\"result\":{}} x\n"}],
  "job-resume": [{"raw": "{\"id\":@ID@,\"result\":17}\n"}],
  "job-speed": [{"raw": "{\"id\":@ID@,\"error\":\"bad\"}\n"}],
  "job-wait": [{"result": {}}],
  "reload": [{"event": {}}],
  "backup": [{"result": {"job": {"id": null}}}]
}'
fails_with 1 "it is all ?[1mwrong" status
run 1 status --json
[ "$(json out 'd["error"]["code"]')" = failed ] || fail "--json"
[ "$(json out 'd["error"]["message"]')" = $'it is\nall \e[1mwrong' ] ||
  fail "--json"
fails_with 1 "the daemon closed the connection in the middle of a reply" \
           snapshot list
fails_with 1 "the daemon closed the connection without a reply" \
           snapshot create vda x
fails_with 1 "the daemon's reply is no JSON object" snapshot delete vda x
fails_with 1 "the daemon's reply has neither result nor error" job list
fails_with 1 "the daemon's reply is to something else" job show 1
fails_with 1 "the daemon's reply is no JSON object" job cancel 1
fails_with 1 "the daemon's reply is no JSON object" job pause 1
fails_with 1 "the daemon's reply has neither result nor error" job resume 1
fails_with 1 "the daemon's reply is an error without code or message" \
           job speed 1 1
fails_with 1 "the daemon's reply has no job" job wait 1
fails_with 1 "the daemon's reply is an event" reload
fails_with 1 "the daemon's reply has no job" backup vda /t
fails_with 1 "the daemon's reply has no job" backup --detach vda /t
stop $pid

# Refused before anything was asked, as a daemon with too many clients does.
fake_daemon '{"accept": [
  {"raw": "{\"error\":{\"code\":\"busy\",\"message\":\"too many clients\"}}\n"},
  {"close": true}]}'
fails_with 1 "too many clients" status
fails_with 1 "too many clients" backup vda /t
stop $pid

# Replies of another shape than expected are no reason to crash.
for reply in '{}' '{"exports": {}}' '{"exports": [1, null, "x", {}, []]}' \
             '{"jobs": [1], "daemon": [], "backup": {"endpoints": [1, {}]}}' \
             '{"snapshots": [null, {"uris": [1, null]}], "job": {}}' \
             '{"exports": [{"snapshots": [[], {"size": -1}]}]}' \
             '{"daemon": {"started-ns": 9223372036854775807, "pid": "x"}}'
do
  fake_daemon '{"status": [{"result": '"$reply"'}],
    "snapshot-create": [{"result": '"$reply"'}],
    "snapshot-list": [{"result": '"$reply"'}],
    "job-list": [{"result": '"$reply"'}], "reload": [{"result": '"$reply"'}]}'
  run 0 status
  run 0 snapshot create vda x
  run 0 snapshot list
  run 0 job list
  run 0 reload
  stop $pid
done
