#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Hooks: their order, what they are told, and what becomes of those that fail,
# hang, are missing or talk without end.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/hooks.sh"
requires_python_nbd

for i in 1 2 3 4; do truncate -s 1M "$tmp/$i.img"; done
write_config <<X
exports:
  - name: v1
    disk: $tmp/1.img
    freeze-timeout: 1m
    hooks: {before-freeze: [$hook, a, "b  c", ""], after-thaw: $hook,
            before-freeze-timeout: 60s}
  - name: v2
    disk: $tmp/2.img
    freeze-timeout: 1m
    hooks: {before-freeze: $hook, after-thaw: $hook}
  - {name: v3, disk: $tmp/3.img, freeze-timeout: 1m}
  - name: v4
    disk: $tmp/4.img
    hooks: {before-freeze: $hook, after-thaw: $hook, before-freeze-timeout: 10s}
groups:
  - name: all
    exports: [v1, v2, v3]
    hooks: {before-freeze: [$hook, of-all], after-thaw: $hook}
  - {name: plain, exports: [v3]}
  - name: late
    exports: [v3]
    hooks: {after-thaw: $hook}
X
start_daemon
snapshots () { nf --json snapshot list | json "len(d['snapshots'])"; }
deleted () { for e in "$@"; do nf snapshot delete "$e" s; done; }

say "order and environment, of a group and its exports"
nf --json snapshot create all s >"$tmp/answer"
calls_are <<'X'
before-freeze|all|v1 v2 v3|s||of-all|
{
before-freeze||v1|s||a|b  c||
before-freeze||v2|s||
}
{
after-thaw||v1|s|begun|
after-thaw||v2|s|begun|
}
after-thaw|all|v1 v2 v3|s|begun|
X
[ "$(json "[h['error'] for h in d['hooks']]" <"$tmp/answer")" = \
  "[None, None, None, None, None, None]" ]
[ "$(json "[s['export'] for s in d['snapshots']]" <"$tmp/answer")" = "['v1', 'v2', 'v3']" ]
[ "$(json "[g['export'] for g in d['gates']]" <"$tmp/answer")" = "['v1', 'v2', 'v3']" ]
[ "$(json "d['gate-closed-us'] >= max(g['closed-us'] for g in d['gates']) > 0" <"$tmp/answer")" = True ]
[ "$(json "max(h['took-us'] for h in d['hooks']) < 60e6" <"$tmp/answer")" = True ]
no_hook_records
deleted v1 v2 v3

say "the exports of a group are not the group; a group without hooks"
hooks_do_nothing
nf snapshot create v3,v1 s >/dev/null
[ "$(called all)" = 0 ] && [ "$(called '|v1|s|')" = 2 ] && [ "$(called .)" = 2 ]
deleted v1 v3
hooks_do_nothing
nf snapshot create plain s >"$tmp/human"
[ "$(called .)" = 0 ]
grep -q "^guests' writes were held for" "$tmp/human"
deleted v3
nf snapshot create late s >/dev/null
calls_are <<<'after-thaw|late|v3|s|begun|'
deleted v3

say "stdin, directory, process group, descriptors"
hooks_do_nothing
hook_does before-freeze v1 <<'X'
cat >/dev/null || exit 1
{ pwd; ps -o pid=,pgid=,sid= -p $$; ls -l /proc/$$/fd | sed -n 's/.* \([0-9]*\) -> /\1 /p'; } >"$tmp/seen"
X
nf snapshot create v1 s >/dev/null
deleted v1
[ "$(sed -n 1p "$tmp/seen")" = / ]
[ "$(sed -n 2p "$tmp/seen" | tr -s ' ' '\n' | sort -u | grep -c .)" = 1 ]
grep -q '^0 /dev/null' "$tmp/seen"
! sed 1,2d "$tmp/seen" | finds -Ev '^(0 /dev/null|1 .*/seen|[12] pipe:|255 .*/hook|[0-9]* /proc|[0-9]* pipe:)' ||
  { cat "$tmp/seen" >&2; fail "more descriptors"; }

say "a guest's writes go on while hooks run"
hooks_do_nothing
hook_does before-freeze v1 <<'X'
echo >"$tmp/in-hook"
until [ -e "$tmp/go" ]; do sleep 0.02; done
X
nf snapshot create all s >/dev/null &
first=$!
wait_for 20 test -e "$tmp/in-hook"
"$PYTHON" - "$(guest_uri v1)" <<'PY'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(50):
    h.pwrite(b"x" * 4096, 4096 * i)
    h.flush()
PY

say "a second request for the same export waits for its turn, hooks included"
nf snapshot create v1 t >/dev/null &
second=$!
nf snapshot create v3 meanwhile 2>"$tmp/err" >/dev/null &
third=$!
nf snapshot list >"$tmp/list"         # the daemon is there for others
[ "$(called '|t|')" = 0 ]
rm "$tmp/do.before-freeze.v1"
: >"$tmp/go"
wait $first; wait $second; wait $third
"$PYTHON" - "$calls" <<'PY'
import sys
of_v1 = [l.split("|") for l in open(sys.argv[1]) if l.split("|")[2] == "v1"]
assert [(l[0], l[3]) for l in of_v1] == [
    ("before-freeze", "s"), ("after-thaw", "s"),
    ("before-freeze", "t"), ("after-thaw", "t")], of_v1
PY
deleted v1 v2 v3
nf snapshot delete v1 t; nf snapshot delete v3 meanwhile

say "a hook that fails: no snapshot, why, and everybody is thawed"
hooks_do_nothing
hook_does before-freeze v1 <<<'until [ -e "$tmp/go2" ]; do sleep 0.02; done'
hook_does before-freeze v2 <<'X'
until grep -q '^before-freeze||v1' "$tmp/calls"; do sleep 0.02; done
echo "agent: error: not today"; echo bye; exit 3
X
must_fail '^nbdfleece: hook before-freeze of export v2 failed: .*/hook: ended with status 3: agent: error: not today$' \
  nf snapshot create all s
[ "$(wc -l <"$tmp/must_fail.err")" = 1 ]
[ "$(called '^before-freeze')" = 3 ]
[ "$(called '^after-thaw.*|failed|')" = 3 ]
tail -n 1 "$calls" | finds '^after-thaw|all|'
[ "$(snapshots)" = 0 ]; no_snapshot_files; no_hook_records
grep -q 'v2: before-freeze: agent: error: not today' "$tmp/daemon.log"
request '{"command":"snapshot-create","name":"s","exports":["v2"]}' >"$tmp/reply"
[ "$(json "d['error']['code']" <"$tmp/reply")" = hook-failed ]

say "of those whose turn had not come, nothing is run"
hooks_do_nothing
hook_does before-freeze all <<<'exit 1'
must_fail 'hook before-freeze of group all failed' nf snapshot create all s
calls_are <<'X'
before-freeze|all|v1 v2 v3|s||of-all|
after-thaw|all|v1 v2 v3|s|failed|
X

say "a hook that hangs is killed when its time is up, with all it has started"
hooks_do_nothing
hook_does before-freeze v4 <<'X'
trap '' TERM
sleep 1000 & echo $! >"$tmp/child"; echo $$ >"$tmp/leader"
echo waiting for the agent
wait; wait; sleep 1000
X
must_fail 'hook before-freeze of export v4 failed: .*: took longer than 10s: waiting for the agent$' \
  nf snapshot create v4 s
dead "$(cat "$tmp/leader")"
wait_for 10 dead "$(cat "$tmp/child")"
[ "$(called '^after-thaw||v4|s|failed|')" = 1 ]

say "one that is not there"
hooks_do_nothing
mv "$hook" "$hook.away"
must_fail 'hook before-freeze of export v2 failed: .*/hook: cannot be started: No such file or directory; and hook after-thaw of export v2 failed: .*: cannot be started' \
  nf snapshot create v2 s
mv "$hook.away" "$hook"
chmod -x "$hook"
must_fail 'Permission denied' nf snapshot create v2 s
chmod +x "$hook"
no_snapshot_files; no_hook_records

say "one that is killed by others"
hook_does before-freeze v2 <<<'kill -KILL $$'
must_fail 'was ended by signal 9' nf snapshot create v2 s

say "a begin that fails: thawed"
hooks_do_nothing
nf snapshot create v3 s >/dev/null
must_fail 'exists' nf snapshot create all s
[ "$(called .)" = 0 ]                 # that was known before
deleted v3
kill -STOP "$(pid_of v3)"
hook_does before-freeze v1 <<<':'
request '{"command":"snapshot-create","name":"s","exports":["all"],"deadline-ms":300}' >"$tmp/reply"
kill -CONT "$(cat "$run/v3.pid")"
[ "$(json "d['error']['code']" <"$tmp/reply")" = timeout ]
hooks_do_nothing
hook_does before-freeze v1 <<<'kill -STOP $(cat '"$run/v3.pid"')'
request '{"command":"snapshot-create","name":"s","exports":["all"],"deadline-ms":300}' >"$tmp/reply"
kill -CONT "$(cat "$run/v3.pid")"
[ "$(json "d['error']['code']" <"$tmp/reply")" = timeout ]
[ "$(called '^after-thaw.*|failed|')" = 3 ]
no_hook_records
wait_for 20 no_snapshot_files

say "after-thaw that fails: the snapshot exists, and people are told"
hooks_do_nothing
hook_does after-thaw v1 <<<'echo cannot thaw; exit 7'
nf snapshot create all s >"$tmp/human" 2>"$tmp/err"
[ "$(cat "$tmp/err")" = "nbdfleece: warning: hook after-thaw of export v1 failed: $hook: ended with status 7: cannot thaw" ]
[ "$(snapshots)" = 3 ]
grep -q 'error: hook after-thaw of export v1 failed' "$tmp/daemon.log"
[ "$(called '^after-thaw')" = 3 ]
deleted v1 v2 v3
nf --json snapshot create v1 s >"$tmp/answer" 2>"$tmp/err"
[ "$(json "[h['error'] for h in d['hooks'] if h['hook'] == 'after-thaw']" <"$tmp/answer")" = "['ended with status 7: cannot thaw']" ]
deleted v1

say "output without end"
hooks_do_nothing
hook_does before-freeze v1 <<'X'
yes "so much to say" | head -n 300000
head -c 1000000 /dev/zero | tr '\0' x; printf '\377\033[31m\000\n'
echo last words >&2
exit 9
X
must_fail 'ended with status 9: last words' nf snapshot create v1 s
[ "$(grep -c 'v1: before-freeze: so much' "$tmp/daemon.log")" -le 100 ]
grep -Eq 'v1: before-freeze: [0-9]+ more lines are not shown' "$tmp/daemon.log"

say "what a hook leaves in the background is let alone"
hooks_do_nothing
hook_does before-freeze v1 <<<'sleep 1000 >/dev/null 2>&1 & echo $! >"$tmp/kept"'
hook_does after-thaw v1 <<<'kill "$(cat "$tmp/kept")"'
nf snapshot create v1 s >/dev/null 2>"$tmp/err"
[ ! -s "$tmp/err" ] || { cat "$tmp/err" >&2; fail "after-thaw found nothing"; }
wait_for 10 dead "$(cat "$tmp/kept")"
deleted v1

say "a client that goes away"
hooks_do_nothing
rm -f "$tmp/go"
hook_does before-freeze v1 <<<'until [ -e "$tmp/go" ]; do sleep 0.02; done'
start "$NBDFLEECE" -s "$run/control.sock" snapshot create v1 s >/dev/null
client=$pid
wait_for 20 eval '[ "$(called ^before)" = 1 ]'
stop "$client" KILL
: >"$tmp/go"
wait_for 20 eval '[ "$(called "^after-thaw||v1|s|begun|")" = 1 ]'
wait_for 20 eval '[ "$(snapshots)" = 1 ]'
deleted v1

say "backups: of a group, by jobs with snapshots of their own"
hooks_do_nothing
head -c 1M /dev/urandom >"$tmp/x"
"$PYTHON" - "$tmp/x" "$(guest_uri v1)" "$(guest_uri v2)" "$(guest_uri v3)" <<'PY'
import nbd, sys
for u in sys.argv[2:]:
    h = nbd.NBD()
    h.connect_uri(u)
    h.pwrite(open(sys.argv[1], "rb").read(), 0)
PY
must_fail 'several exports need {export}' nf backup all "$tmp/out.raw"
nf backup all "$tmp/out.{export}.raw" >"$tmp/human"
for e in v1 v2 v3; do same "$tmp/x" "$tmp/out.$e.raw"; done
grep -Eq "^guests' writes were held for .* in all: v1 .*, v2 .*, v3 " "$tmp/human"
[ "$(grep -c '^job [0-9]* completed' "$tmp/human")" = 3 ]
[ "$(called '^before-freeze|all|v1 v2 v3|job-[0-9]* job-[0-9]* job-[0-9]*|')" = 1 ]
[ "$(called '^after-thaw||v2|job-[0-9]*|begun|')" = 1 ]
nf --json backup v1,v2 "$tmp/again.{export}.raw" >"$tmp/answer"
[ "$(json "[j['state'] for j in d['jobs']], d['job'], len(d['hooks']), len(d['gates'])" <"$tmp/answer")" = "(['completed', 'completed'], None, 4, 2)" ]
hook_does before-freeze v2 <<<'exit 1'
must_fail 'hook before-freeze of export v2 failed' nf backup all "$tmp/none.{export}.raw"
[ -z "$(find "$tmp" -name 'none.*')" ]; no_snapshot_files
[ "$(nf --json job list | json "len([j for j in d['jobs'] if not j['ended']])")" = 0 ]

say "moved to a new instant"
hooks_do_nothing
nf snapshot create v1 s >/dev/null
nf snapshot rearm v1 s >/dev/null
[ "$(called '^after-thaw||v1|s|begun|')" = 2 ]
must_fail 'all is a group, expected an export' nf snapshot rearm all s
must_fail 'there is no export nope, nor a group' nf snapshot create v1,nope x
must_fail 'v1 is there twice, once in group all' nf snapshot create v1,all x
deleted v1

say "the daemon ends while a guest is frozen"
hooks_do_nothing
hook_does before-freeze v1 <<<'sleep 1000'
nf snapshot create v1,v3 s >/dev/null 2>"$tmp/err" &
first=$!
wait_for 20 eval '[ "$(called ^before)" = 1 ]'
stop_daemon
! wait $first || fail "it succeeded"
grep -q 'the daemon is ending' "$tmp/err"
[ "$(called '^after-thaw||v1|s|failed|')" = 1 ]
no_snapshot_files; no_hook_records
