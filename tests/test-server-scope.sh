#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Snapshots of what has changed only, and snapshots that are moved.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool nbdcopy nbdinfo

head -c 16M /dev/urandom >"$tmp/a.img"
mkdir "$tmp/scratch"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {plugin: memory, options: {size: 8M}}
    scratch: $tmp/scratch
X
start_daemon
dir=$state/exports/vda

# reads EXPORT SNAPSHOT CLUSTER FILE: the cluster is that of FILE.
# forbids EXPORT SNAPSHOT CLUSTER: reading it is EPERM.
python_reader='import errno, nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
at = int (sys.argv[2]) * 4096
try: got = h.pread (4096, at)
except nbd.Error as e: got = errno.errorcode[e.errnum]'
reads () {
  "$PYTHON" -c "$python_reader
f = open (sys.argv[3], 'rb'); f.seek (at)
assert got == f.read (4096), got if isinstance (got, str) else 'other data'" \
    "$(snapshot_uri "$1" "$2")" "$3" "$4"
}
forbids () {
  "$PYTHON" -c "$python_reader
assert got == 'EPERM', got if isinstance (got, str) else 'data'" \
    "$(snapshot_uri "$1" "$2")" "$3"
}
nothing_left () {
  no_snapshot_files && [ -z "$(find "$state" -name 'begin-*')" ] &&
    [ -z "$(ls -A "$tmp/scratch")" ]
}
released () { "$PYTHON" - "$1" <<PY
import sys
sys.path.insert(0, "$abs_top_srcdir/tests")
import bmfile
print(len(bmfile.File(sys.argv[1]).bits(1)))
PY
}

say "only what has changed"
checkpoint vda,vdb c1
touch_clusters vda 10 11 12 500
cp "$tmp/a.img" "$tmp/then"
nf snapshot create vda s --since c1 --scope dirty --checkpoint c2 >/dev/null
[ "$(nf --json snapshot list vda | json "d['snapshots'][0]['since']")" = c1 ]
touch_clusters vda 10 11 500 900 901
for c in 10 11 12 500; do reads vda s $c "$tmp/then"; done
for c in 9 13 900 901 4095; do forbids vda s $c; done
[ "$(released "$dir/s.map")" = $((4096 - 4)) ]
[ "$(nf --json snapshot list vda |
      json "d['snapshots'][0]['clusters-copied']")" = 3 ]
changed vda c2 $((5 * 4096))
kill_daemon
start_daemon
reads vda s 12 "$tmp/then"
forbids vda s 13
nf snapshot delete vda s
nothing_left

say "several, one without a change"
touch_clusters vda 3
cp "$tmp/a.img" "$tmp/then"
nf snapshot create vda,vdb t --since c1 --scope dirty >/dev/null
reads vda t 3 "$tmp/then"
forbids vdb t 0
nf snapshot delete vda t
nf snapshot delete vdb t
nothing_left

say "refused, with nothing left"
refused () { must_fail "$@"; [ "$(wc -l <"$tmp/must_fail.err")" = 1 ]; nothing_left; }
refused 'needs a checkpoint' nf snapshot create vda s --scope dirty
refused 'goes with scope dirty' nf snapshot create vda s --since c1
refused 'no checkpoint nope' nf snapshot create vda s --since nope --scope dirty
refused 'export vdb has no checkpoint c2' \
        nf snapshot create vda,vdb s --since c2 --scope dirty --checkpoint c3
refused 'no snapshot s' nf snapshot rearm vda s
refused 'no export vdz' nf snapshot rearm vdz s
[ "$(checkpoints vda)" = "c1 c2" ]

say "moved to a new instant, again and again"
cp "$tmp/a.img" "$tmp/then"
nf snapshot create vda s >/dev/null
instant () { nf --json snapshot list vda | json "d['snapshots'][0]['instant-ns']"; }
for i in 1 2 3; do
  before=$(instant)
  touch_clusters vda 20 $((20 + i))
  reads vda s 20 "$tmp/then"
  coproc reader { exec "$PYTHON" -u -c "$python_reader
print ('reading')
sys.stdin.readline ()
try: h.pread (4096, 0); print ('goes on')
except nbd.Error as e: print (errno.errorcode[e.errnum])" \
    "$(snapshot_uri vda s)" 0; }
  pids+=("$reader_PID")
  read -r answer <&"${reader[0]}"
  cp "$tmp/a.img" "$tmp/then"
  nf snapshot rearm vda s --checkpoint r$i | finds '^vda@s of '
  echo go >&"${reader[1]}"
  read -r answer <&"${reader[0]}"
  [ "$answer" = ESHUTDOWN ] || fail "who read the old one got: $answer"
  wait_for 10 dead "$reader_PID"
  [ "$(instant)" -gt "$before" ]
  [ "$(find "$state" -name '*.map' -o -name '*.scratch' | wc -l)" = 2 ]
  changed vda r$i 0
  touch_clusters vda 20
  nbdcopy "$(snapshot_uri vda s)" "$tmp/copy"
  same "$tmp/then" "$tmp/copy"
  [ $i = 2 ] || continue
  kill_daemon
  start_daemon
  reads vda s 20 "$tmp/then"
done
must_fail 'checkpoint r3 exists' nf snapshot rearm vda s --checkpoint r3
reads vda s 20 "$tmp/then"
nf snapshot delete vda s
nothing_left
job=$(nf backup vda "$tmp/out" --speed 1 --detach)
must_fail "used by job $job" nf snapshot rearm vda "job-$job"
nf job cancel "$job" >/dev/null
must_fail cancelled nf job wait "$job"

say "a scope that moves along"
nf snapshot create vda s --since r3 --scope dirty >/dev/null
touch_clusters vda 30
forbids vda s 30
cp "$tmp/a.img" "$tmp/then"
nf snapshot rearm vda s >/dev/null
reads vda s 30 "$tmp/then"
forbids vda s 31
nf checkpoint delete vda r3
must_fail 'no checkpoint r3' nf snapshot rearm vda s
reads vda s 30 "$tmp/then"
nf snapshot delete vda s
nothing_left

say "a daemon that died between the two"
nf snapshot create vda s >/dev/null
nf snapshot rearm vda s >/dev/null
cp "$tmp/a.img" "$tmp/then"
uuid=$(of "$dir/s.map" uuid)
ctl () { "$abs_top_builddir/tests/ctl" "$run/vda.ctl" "$state" "file:$tmp/a.img" <<<"$1"; }
# The old one still there.
kill_daemon
mv "$dir/s.map" "$dir/s~.map"
ctl 'begin s' | finds '^ok'
[ "$(ctl list)" = "ok 2" ]
start_daemon
wait_for 10 test ! -e "$dir/s~.map"
[ "$(of "$dir/s.map" uuid)" = "$uuid" ]
[ "$(ctl list)" = "ok 1" ]
reads vda s 5 "$tmp/then"
# The old one gone.
kill_daemon
mv "$dir/s.map" "$dir/s~.map"
start_daemon
wait_for 10 test -e "$dir/s.map"
[ "$(of "$dir/s.map" uuid)" = "$uuid" ]
reads vda s 5 "$tmp/then"
nf snapshot delete vda s
nothing_left
stop_daemon
