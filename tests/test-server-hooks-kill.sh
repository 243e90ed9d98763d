#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Whoever has been frozen is thawed: after kill -9 of the daemon at any point of
# a snapshot with hooks, and after a reload in the middle of one.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/hooks.sh"

for i in 1 2; do truncate -s 1M "$tmp/$i.img"; done
write_config <<X
exports:
  - name: v1
    disk: $tmp/1.img
    hooks: {before-freeze: $hook, after-thaw: [$hook, "1 \"x", ü]}
  - {name: v2, disk: $tmp/2.img}
groups:
  - name: g
    exports: [v2, v1]
    hooks: {before-freeze: $hook, after-thaw: $hook}
X
cp "$config" "$tmp/first.yaml"
start_daemon
in_background () { nf snapshot create g s >"$tmp/out" 2>&1 & client=$!; }
until_called () { wait_for 30 eval '[ "$(called '"'$1'"')" -ge '"${2:-1}"' ]'; }

say "killed while before-freeze runs: the next daemon kills that, then thaws"
hook_does before-freeze v1 <<'X'
setsid sleep 1000 >/dev/null 2>&1 & echo $! >"$tmp/child"; echo $$ >"$tmp/leader"
until [ -e "$tmp/go" ]; do sleep 0.02; done
echo frozen >>"$tmp/calls"
X
in_background
until_called '^before-freeze||v1'
wait_for 10 test -s "$tmp/leader"
[ "$(find "$state" -name 'hooks-*' | wc -l)" = 1 ]
kill_daemon
wait $client || true
alive "$(cat "$tmp/leader")"
cp "$tmp/first.yaml" "$config"; sed -i '/hooks:/d' "$config"   # what counts is the record
start_daemon
until_called '^after-thaw' 2
: >"$tmp/go"
dead "$(cat "$tmp/leader")"; wait_for 10 dead "$(cat "$tmp/child")"
wait_for 10 no_hook_records
calls_are <<'X'
before-freeze|g|v2 v1|s||
before-freeze||v1|s||
after-thaw||v1|s|unknown|1 "x|ü|
after-thaw|g|v2 v1|s|unknown|
X
wait_for 10 no_snapshot_files
grep -q 'running after-thaw' "$tmp/daemon.log"
cp "$tmp/first.yaml" "$config"
nf --json reload >"$tmp/answer"
[ "$(json "d['changed']" <"$tmp/answer")" = '[]' ]

say "new snapshots wait until that has been done"
hooks_do_nothing
rm -f "$tmp/go"
hook_does before-freeze v1 <<<'[ -e "$tmp/go" ] || { : >"$tmp/in"; exec sleep 1000; }'
in_background
wait_for 30 test -e "$tmp/in"
kill_daemon
wait $client || true
hook_does after-thaw v1 <<<'until [ -e "$tmp/go" ]; do sleep 0.02; done; echo thawed >>"$tmp/calls"'
start_daemon
until_called '^after-thaw||v1|s|unknown|'
nf snapshot create v1 t >/dev/null &
client=$!
[ "$(called '|t|')" = 0 ]
nf snapshot list >/dev/null
[ "$(called '|t|')" = 0 ]
: >"$tmp/go"
wait $client
"$PYTHON" - "$calls" <<'PY'
import sys
calls = open(sys.argv[1]).read().split("\n")
assert calls.index("thawed") < calls.index("before-freeze||v1|t||"), calls
PY
nf snapshot delete v1 t

say "killed while after-thaw runs: it is run again; nothing is half there"
hooks_do_nothing
rm -f "$tmp/go"
hook_does after-thaw v1 <<<'[ -e "$tmp/go" ] || { echo $$ >"$tmp/leader"; exec sleep 1000; }'
in_background
until_called '^after-thaw||v1|s|begun|'
kill_daemon
wait $client || true
: >"$tmp/go"
start_daemon
until_called '^after-thaw||v1|s|unknown|'
until_called '^after-thaw|g|v2 v1|s|unknown|'
wait_for 10 no_hook_records
dead "$(cat "$tmp/leader")"
nf --json snapshot list | json "len(d['snapshots'])" | finds -Ex '0|2'
for e in v1 v2; do nf snapshot delete $e s 2>/dev/null || true; done

say "kill -9 at random, again and again: each freeze is followed by a thaw"
seed=${NBDFLEECE_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
say "NBDFLEECE_SEED=$seed"
RANDOM=$seed
for round in 1 2 3 4 5; do
  hooks_do_nothing
  nf snapshot create g "s$round" >"$tmp/out" 2>&1 &
  client=$!
  sleep "0.$(printf %03d $((RANDOM % 150)))"
  kill_daemon
  wait $client || true
  start_daemon
  wait_for 20 no_hook_records
  "$PYTHON" - "$calls" <<'PY'
import sys
calls = open(sys.argv[1]).read()
for who in ("|g|v2 v1|", "||v1|"):
    if "before-freeze" + who in calls:
        assert calls.rindex("after-thaw" + who) > calls.rindex("before-freeze" + who), calls
PY
  n=$(nf --json snapshot list | json "len(d['snapshots'])")
  [ "$n" = 0 ] || [ "$n" = 2 ] || fail "$n snapshots of a group of 2"
  for e in v1 v2; do nf snapshot delete $e "s$round" 2>/dev/null || true; done
done

say "a record that is damaged is said to be so, and kept"
kill_daemon
echo '{"version": 1, "hooks": [{"program": []}]}' \
  >"$state/hooks-00000000-0000-0000-0000-000000000000"
echo '{' >"$state/hooks-00000000-0000-0000-0000-000000000001.tmp"
start_daemon
grep -q 'hooks-00000000-0000-0000-0000-000000000000: not a record' "$tmp/daemon.log"
rm "$state"/hooks-00000000-0000-0000-0000-000000000000
no_hook_records

say "a reload that takes the group and an export away in the middle"
hooks_do_nothing
rm -f "$tmp/go"
hook_does before-freeze v1 <<<'until [ -e "$tmp/go" ]; do sleep 0.02; done'
in_background
until_called '^before-freeze||v1'
cat >"$config" <<X
state-dir: $state
run-dir: $run
exports:
  - {name: v2, disk: $tmp/2.img}
X
nf --json reload >"$tmp/answer"
[ "$(json "d['removed'], d['changed']" <"$tmp/answer")" = "(['v1'], [])" ]
must_fail 'there is no export g$' nf snapshot create g t
: >"$tmp/go"
wait $client || true
calls_are <<'X'
before-freeze|g|v2 v1|s||
before-freeze||v1|s||
after-thaw||v1|s|begun|1 "x|ü|
after-thaw|g|v2 v1|s|begun|
X
wait_for 20 eval '[ ! -e "$run/v1.sock" ]'
[ "$(nf --json snapshot list | json "[s['export'] for s in d['snapshots']]")" = "['v2']" ]

say "and a group that is not right changes nothing"
cp "$tmp/first.yaml" "$config"
sed -i 's/exports: \[v2, v1\]/exports: [v2, v3]/' "$config"
must_fail "nbdfleece.yaml:10:19: exports: there is no export 'v3'" nf reload
cp "$tmp/first.yaml" "$config"
nf reload >/dev/null
wait_for 30 is_running v1
nf snapshot create g u >/dev/null
nf --json status >"$tmp/status"
[ "$(json "[(g['name'], g['exports'], g['after-thaw']) for g in d['groups']]" <"$tmp/status")" = \
  "[('g', ['v2', 'v1'], '$hook')]" ]
[ "$(json "[(e['freeze-timeout-ms'], e['before-freeze']) for e in d['exports']]" <"$tmp/status")" = \
  "[(5000, '$hook'), (5000, None)]" ]
nf status | finds '^group g: v2 v1$'
stop_daemon
