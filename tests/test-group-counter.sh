#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# A group of four exports that one program writes a counter to, across the
# disks: every snapshot of the group shows one cut of the counter, or there is
# none of any of them.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_python_nbd
requires_tool nbdkit

seed=${NBDFLEECE_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
say "NBDFLEECE_SEED=$seed"
RANDOM=$seed

for i in 0 1 2 3; do truncate -s 1M "$tmp/$i.img"; done
write_config <<X
exports:
  - {name: v0, disk: $tmp/0.img, freeze-timeout: 20s}
  - {name: v1, disk: $tmp/1.img, freeze-timeout: 20s, cluster-size: 64K}
  - {name: v2, disk: $tmp/2.img, freeze-timeout: 20s}
  - {name: v3, disk: {plugin: file, options: {file: $tmp/3.img}}, freeze-timeout: 20s}
groups:
  - {name: counter, exports: [v2, v0, v3, v1]}
X
start_daemon
start "$PYTHON" "$abs_top_srcdir/tests/group-counter.py" write "$tmp/stop" \
      "$(guest_uri v0)" "$(guest_uri v1)" "$(guest_uri v2)" "$(guest_uri v3)" \
      >"$tmp/written"
writer=$pid

# check SNAPSHOT: prints its last number.
check () {
  "$PYTHON" "$abs_top_srcdir/tests/group-counter.py" check \
            "$(snapshot_uri v0 "$1")" "$(snapshot_uri v1 "$1")" \
            "$(snapshot_uri v2 "$1")" "$(snapshot_uri v3 "$1")"
}
# delete SNAPSHOT [EXPORT...]
delete () {
  local name=$1 lines=() e
  shift
  [ $# -gt 0 ] || set -- v0 v1 v2 v3
  for e; do
    lines+=("{\"command\":\"snapshot-delete\",\"export\":\"$e\",\"name\":\"$name\"}")
  done
  request "${lines[@]}" >"$tmp/deleted"
  ! finds -F error "$tmp/deleted" || fail "$(cat "$tmp/deleted")"
}
# How many of the exports have a snapshot of that name.
exist () {
  nf --json snapshot list | json "len([1 for s in d['snapshots'] if s['name'] == '$1'])"
}
all_up () { for e in v0 v1 v2 v3; do is_running $e || return 1; done; }

say "cut after cut, while the counter runs"
last=0 cuts=0
for round in $(seq 36); do
  nf --json snapshot create counter "c$round" >"$tmp/answer"
  [ "$(json "0 < max(g['closed-us'] for g in d['gates']) <= d['gate-closed-us'] < 21e6" <"$tmp/answer")" = True ]
  json "d['gate-closed-us']" <"$tmp/answer" >>"$tmp/held"
  # Some are read later, when much of them has been overwritten.
  [ $((round % 3)) = 0 ] || continue
  for n in $((round - 2)) $((round - 1)) $round; do
    now=$(check "c$n")
    [ "$now" -ge $last ] || fail "c$n: $now is before $last"
    last=$now cuts=$((cuts + 1))
    delete "c$n"
  done
done
[ $cuts = 36 ]
say "$cuts cuts up to $last; gates were closed for (us): $(sort -n "$tmp/held" | sed -n '1p;18p;36p' | tr '\n' ' ')"
[ "$last" -gt 1000 ] || fail "the counter hardly ran"

say "backups of the group, to files"
for round in 1 2; do
  nf backup counter "$tmp/out.{export}" --max-requests 4 >"$tmp/human"
  now=$("$PYTHON" "$abs_top_srcdir/tests/group-counter.py" check \
                  "$tmp/out.v0" "$tmp/out.v1" "$tmp/out.v2" "$tmp/out.v3")
  [ "$now" -ge $last ]; last=$now
done

say "one nbdkit is killed meanwhile: all or none, and still one cut"
there=0 none=0
for round in $(seq 8); do
  wait_for 60 all_up
  victim=$(cat "$run/v$((RANDOM % 4)).pid")
  ok=yes
  nf snapshot create counter "k$round" >"$tmp/human" 2>&1 &
  client=$!
  [ $((RANDOM % 3)) = 0 ] || sleep "0.0$(printf %02d $((RANDOM % 40)))"
  kill -KILL "$victim"
  wait $client || ok=no
  wait_for 60 all_up
  n=$(exist "k$round")
  if [ $ok = yes ]; then
    [ "$n" = 4 ] || fail "k$round was answered, and $n exist"
    check "k$round" >/dev/null
    delete "k$round"
    there=$((there + 1))
  else
    [ "$n" = 0 ] || fail "k$round was refused, and $n exist"
    none=$((none + 1))
  fi
done
say "$there were made, $none were refused"

say "one export cannot begin: none does"
fill=()
for i in $(seq 32); do
  fill+=("{\"command\":\"snapshot-create\",\"exports\":[\"v2\"],\"name\":\"f$i\"}")
done
request "${fill[@]}" >"$tmp/filled"
for round in 1 2 3; do
  must_fail 'export v2: it has 32 snapshots' nf snapshot create counter none
  [ "$(exist none)" = 0 ]
done
for e in v0 v1 v3; do
  [ -z "$(find "$state/exports/$e" -name '*.map' -o -name '*.scratch')" ]
done
for i in $(seq 32); do delete "f$i" v2; done

say "one export's writes do not end in time: none begins"
kill -STOP "$(cat "$run/v1.pid")"
must_fail 'export v1' nf snapshot create counter --deadline 200ms none
kill -CONT "$(cat "$run/v1.pid")"
wait_for 30 eval '[ "$(exist none)" = 0 ]'
wait_for 30 no_snapshot_files
nf snapshot create counter end >/dev/null
check end >/dev/null

: >"$tmp/stop"
wait_for 60 dead "$writer"
wait "$writer" || fail "the program that writes"
read -r n again <"$tmp/written"
say "counted to $n, connected again $again times"
stop_daemon
