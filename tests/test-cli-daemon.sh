#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleece and the real daemon: snapshots, backups and jobs by command line.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/cli-functions.sh"
requires_tool nbdcopy qemu-img
requires_python_nbd

NBDFLEECE_SOCKET=$tmp/run/control.sock
truncate -s 64M "$tmp/vda.raw"
dd if=/dev/urandom of="$tmp/vda.raw" bs=1M count=24 conv=notrunc status=none
cat >"$tmp/conf.yaml" <<END
state-dir: $tmp/state
run-dir: $tmp/run
exports:
  - name: vda
    disk: $tmp/vda.raw
  - name: vdb
    disk: {plugin: memory, options: {size: 16M}}
END

start_daemon () {
  start "$NBDFLEECED" -f -c "$tmp/conf.yaml" 2>>"$tmp/daemon.log"
  daemon=$pid
  wait_for 60 "$NBDFLEECE" job list >/dev/null 2>&1
}

# guest EXPORT PYTHON: what a guest does to its disk, as h.
guest () {
  "$PYTHON" -c "import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
$2" "nbd+unix:///$1?socket=$tmp/run/$1.sock"
}

start_daemon
run 0 status
grep -Eq '^vda +running +64M +4K ' "$tmp/out"
grep -Eq '^vdb +running +16M +4K .* memory size=16M$' "$tmp/out"

# One instant for two disks; then the guests go on writing.
cp "$tmp/vda.raw" "$tmp/vda.then"
guest vdb 'h.pwrite (b"then" * 1024, 8192)'
run 0 snapshot create vda,vdb monday
grep -q '^vdb@monday of ' "$tmp/out"
guest vda 'h.pwrite (b"now!" * 300000, 12345)'
guest vdb 'h.pwrite (b"now!" * 300000, 12345); h.pwrite (b"now!", 8192)'
for disk in vda vdb; do
  grep -o "nbd+unix:.*/$disk@monday?.*" "$tmp/out" >"$tmp/uri"
  nbdcopy "$(cat "$tmp/uri")" "$tmp/$disk.pulled"
done
same "$tmp/vda.then" "$tmp/vda.pulled"
"$PYTHON" -c 'import sys
d = open (sys.argv[1], "rb").read ()
assert d == bytes (8192) + b"then" * 1024 + bytes ((16 << 20) - 12288)
' "$tmp/vdb.pulled"
run 0 --json snapshot list vda
[ "$(json out 'd["snapshots"][0]["clusters-copied"]')" = 293 ] ||
  fail "clusters copied"
run 0 snapshot list
grep -Eq '^vda +monday +active .* 293 +0 ' "$tmp/out"
run 0 snapshot delete vda monday
run 0 snapshot list
! grep -q ^vda "$tmp/out" || fail "vda@monday is still there"
run 0 snapshot delete vdb monday

# What cannot be done, and says so in one line.
for words in 'snapshot create vda a/b' 'snapshot create vda ..' \
             "snapshot create vda $(printf '%065d' 0)" \
             'snapshot create vdz x' 'snapshot create vda,vdz x' \
             'snapshot create vda,vda x' 'snapshot create , x' \
             'snapshot list vdz' 'snapshot delete vda nope' \
             'snapshot delete vdz nope' 'job show 4711' 'job wait 4711' \
             'job cancel x' 'job speed 4711 1M' \
             "backup vdz $tmp/x" "backup vda $tmp/vda.raw" \
             "backup vda $tmp" "backup vda $tmp/no/where"
do
  run 1 $words
  [ "$(wc -l <"$tmp/err")" = 1 ] || fail "not one line: $words"
  run 1 --json $words
  [ -n "$(json out 'd["error"]["message"]')" ] || fail "--json $words"
done
run 0 snapshot list
says out <<<'no snapshots'
[ ! -e "$tmp/x" ]

# A backup, waited for; to a file, and to a qcow2 one.
cp "$tmp/vda.raw" "$tmp/vda.then"
(cd "$tmp" && run 0 backup vda pushed.raw)
grep -Eq '^job 1 completed: 64M of vda' "$tmp/out"
same "$tmp/vda.then" "$tmp/pushed.raw"
run 0 backup vda "qcow2:$tmp/pushed.qcow2"
qemu-img compare -f qcow2 -F raw "$tmp/pushed.qcow2" "$tmp/vda.then"
run 0 snapshot list
says out <<<'no snapshots'

# One that goes on without us and is paused, sped up and cancelled.
run 0 backup --detach --speed 4M vda "$tmp/slow.raw"
id=$(cat "$tmp/out")
state () { [ "$("$NBDFLEECE" job show "$1" | sed -n 's/^state *//p')" = "$2" ]; }
wait_for 30 state "$id" running
run 0 job pause "$id"
wait_for 30 state "$id" paused
run 1 snapshot delete vda "job-$id"
run 0 job resume "$id"
wait_for 30 state "$id" running
run 0 job speed "$id" 5M
run 0 job show "$id"
grep -Eq '^speed +5M/s$' "$tmp/out"
run 0 job cancel "$id"
run 1 job wait "$id"
says err <<<"nbdfleece: job $id cancelled"
run 1 job cancel "$id"

# The daemon is killed in the middle, and nbdfleece waits for the next.
start "$NBDFLEECE" backup --speed 4M vda "$tmp/through.raw" \
      >"$tmp/cli.out" 2>"$tmp/cli.err"
cli=$pid
wait_for 60 grep -q '[1-3].%' "$tmp/cli.out"
stop "$daemon" KILL
wait_for 60 grep -q 'trying to reach' "$tmp/cli.err"
start_daemon
wait_for 120 dead "$cli"
stop "$cli"
[ "$status" = 0 ] || { cat "$tmp/cli.err" >&2; fail "status $status"; }
same "$tmp/vda.then" "$tmp/through.raw"

# An interrupt cancels what it interrupts.
start "$PYTHON" -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], ["nbdfleece"] + sys.argv[2:])' \
  "$NBDFLEECE" backup --speed 1M vda "$tmp/never.raw" \
  >"$tmp/cli.out" 2>"$tmp/cli.err"
cli=$pid
wait_for 60 grep -q '0%' "$tmp/cli.out"
kill -INT "$cli"
wait_for 60 dead "$cli"
stop "$cli"
[ "$status" = 1 ]
grep -q 'cancelled$' "$tmp/cli.err"

# The configuration, changed and wrong.
sed -i '$a\  - name: vdc\n    disk: {plugin: memory, options: {size: 1M}}' \
    "$tmp/conf.yaml"
run 0 reload
says out <<<'added vdc'
wait_for 30 guest vdc 'h.pwrite (b"x", 0)'
sed -i '$a\    trim: never' "$tmp/conf.yaml"
fails_with 1 "$tmp/conf.yaml:10:11: trim: 'never', expected copy or defer" \
           reload

stop "$daemon"
[ "$status" = 0 ]
