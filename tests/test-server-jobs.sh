#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Backup jobs: to their end, ordered about, and through the death of everybody.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img
requires_python_nbd

head -c 16M /dev/urandom >"$tmp/a.img"
head -c 8M /dev/urandom >"$tmp/raw"
qemu-img convert -f raw -O qcow2 "$tmp/raw" "$tmp/b.qcow2"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
X
start_daemon

scribble () {
  "$PYTHON" - "$(guest_uri "$1")" <<'PY'
import nbd, os, random, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(200):
    h.pwrite(os.urandom(4096), random.randrange(h.get_size() // 4096) * 4096)
PY
}
# begin EXPORT TARGET ARGS: its id is in $job.
begin () { job=$(nf backup "$@" --detach | grep -o '[0-9]*' | head -n1); }

nothing_left () {
  no_snapshot_files && [ -z "$(find "$state" -name '*.copy' -o -name '*.result')" ] &&
    [ -z "$(find "$run" -name 'job-*')" ]
}

say "to a file, and from qcow2 to qcow2"
cp "$tmp/a.img" "$tmp/a.before"
nf backup vda "$tmp/out" >/dev/null
same "$tmp/a.before" "$tmp/out"
nf backup vdb "qcow2:$tmp/out.qcow2" >/dev/null
qemu-img compare -q -f raw -F qcow2 "$tmp/raw" "$tmp/out.qcow2"
nothing_left
[ "$(job_field 1 state)" = completed ]
[ "$(job_field 1 bytes-done)" = $((16 << 20)) ]
[ "$(job_field 2 snapshot)" = job-2 ]

say "paused, resumed, speeded up, its snapshot in use"
begin vda "$tmp/slow" --speed 1M
must_fail "snapshot job-$job of export vda is used by job $job" \
  nf snapshot delete vda "job-$job"
must_fail "job $job writes to it" nf backup vdb "$tmp/slow"
wait_for 20 job_got_further "$job" 0
scribble vda
nf job pause "$job" >/dev/null
wait_for 10 job_is "$job" paused
done_then=$(job_field "$job" bytes-done)
nf job speed "$job" none >/dev/null
scribble vda
[ "$(job_field "$job" bytes-done)" = "$done_then" ]
nf job resume "$job" >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/a.before" "$tmp/slow"
nothing_left

say "cancelled"
begin vda "$tmp/cancelled" --speed 1M
nf job cancel "$job" >/dev/null
must_fail 'cancelled' nf job wait "$job"
must_fail 'cancelled' nf job pause "$job"
nothing_left

copier_pid () { job_field "$job" pid; }
copier_is_another () { [ "$(copier_pid)" != None ] && [ "$(copier_pid)" != "$1" ]; }

say "the copier killed"
cp "$tmp/a.img" "$tmp/a.before"
begin vda "$tmp/killed" --speed 4M
for round in 1 2 3; do
  wait_for 20 job_got_further "$job" $((round << 20))
  old=$(copier_pid)
  kill -KILL "$old"
  scribble vda
  wait_for 20 copier_is_another "$old"
done
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/a.before" "$tmp/killed"
[ "$(job_field "$job" restarts)" = 3 ]
nothing_left

say "the daemon killed: the copier goes on and is found again"
cp "$tmp/a.img" "$tmp/a.before"
begin vda "$tmp/adopted" --speed 2M
wait_for 20 job_got_further "$job" 0
old=$(copier_pid)
kill_daemon
scribble vda
start_daemon
[ "$(copier_pid)" = "$old" ]
wait_for 20 job_got_further "$job" $((2 << 20))
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/a.before" "$tmp/adopted"
nothing_left

say "the job ended while nobody watched"
cp "$tmp/a.img" "$tmp/a.before"
begin vda "$tmp/unwatched" --speed 8M
old=$(copier_pid)
kill_daemon
wait_for 30 dead "$old"
start_daemon
wait_for 10 job_is "$job" completed
same "$tmp/a.before" "$tmp/unwatched"
nothing_left

say "everything killed"
cp "$tmp/a.img" "$tmp/a.before"
begin vda "$tmp/all" --speed 2M
wait_for 20 job_got_further "$job" $((1 << 20))
scribble vda
kill_daemon
kill -KILL $(cat "$run"/*.pid)
start_daemon
scribble vda
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/a.before" "$tmp/all"
nothing_left

say "the daemon ended in order, the host started again: the job goes on"
cp "$tmp/a.img" "$tmp/a.before"
begin vda "$tmp/later" --speed 2M
wait_for 20 job_got_further "$job" $((1 << 20))
nf job pause "$job" >/dev/null
wait_for 10 job_is "$job" paused
scribble vda
stop_daemon
for f in "$state"/exports/*/*.map "$state"/jobs/*.copy; do
  printf 'another boot id.' | dd of="$f" bs=1 seek=3080 conv=notrunc status=none
done
start_daemon
scribble vda
wait_for 10 job_is "$job" paused
nf job resume "$job" >/dev/null
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/a.before" "$tmp/later"
nothing_left

say "the backup server killed under a job that reads from it"
begin vdb "$tmp/b.out" --speed 2M
wait_for 20 job_got_further "$job" 0
kill -KILL "$(cat "$run/backup.pid")"
scribble vdb
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null || { nf job show "$job"; fail "it failed"; }
same "$tmp/raw" "$tmp/b.out"
nothing_left

say "a copier that dies again and again"
stop_daemon
printf '#!/bin/sh\necho "I do not like it" >&2\nexit 1\n' >"$tmp/broken"
chmod +x "$tmp/broken"
NBDFLEECE_COPY=$tmp/broken start_daemon
must_fail 'I do not like it' nf backup vda "$tmp/never"
nothing_left
stop_daemon
start_daemon
nf --json job list >"$tmp/list"
[ "$(json "len([j for j in d['jobs'] if j['state'] == 'failed'])" <"$tmp/list")" = 1 ]
stop_daemon
