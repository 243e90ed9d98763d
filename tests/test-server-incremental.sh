#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Incremental backups: what changed and nothing else; jobs that do not
# complete lose nothing; what cannot be done is refused.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool nbdkit

head -c 32M /dev/urandom >"$tmp/a.img"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
    scratch-limit: 1M
  - name: vdb
    disk: {plugin: memory, options: {size: 8M}}
X
start_daemon
dir=$state/exports/vda

# begin EXPORT TARGET ARGS: its id is in $job.
begin () { job=$(nf backup "$@" --detach | grep -o '[0-9]*' | head -n1); }
# backup TARGET ARGS: vda, to the end; $tmp/then is the disk at its instant.
backup () {
  cp "$tmp/a.img" "$tmp/then"
  nf --json backup vda "$@" >"$tmp/job.json"
}
told () { json "d['job']['$1']" <"$tmp/job.json"; }
nothing_left () {
  no_snapshot_files && [ -z "$(find "$state" -name '*.copy' -o -name '*.result' \
    -o -name 'begin-*')" ] && [ -z "$(find "$run" -name 'job-*')" ]
}

say "a full one, and two that bring what has changed"
backup "$tmp/out" --checkpoint c1
same "$tmp/then" "$tmp/out"
touch_clusters vda 1 2 3 5000
guest vda 'h.zero (40960, 409600); h.trim (81920, 819200)'
backup "$tmp/out" --since c1 --checkpoint c2
same "$tmp/then" "$tmp/out"
[ "$(told sync)" = incremental ]
[ "$(told since)" = c1 ]
[ "$(told bytes-total)" = $((4 * 4096 + 40960 + 81920)) ]
[ "$(told bytes-done)" = "$(told bytes-total)" ]
# What was trimmed is not data.
[ "$(told bytes-zero)" -ge 81920 ]
[ "$(told bytes-read)" -le $((4 * 4096 + 40960)) ]
changed vda c1 $((4 * 4096 + 40960 + 81920))
changed vda c2 0
touch_clusters vda 6000
backup "$tmp/out" --since c2 --sync incremental --checkpoint c3
same "$tmp/then" "$tmp/out"
[ "$(told bytes-total)" = 4096 ]
nothing_left

say "another user, from an older checkpoint, to a file of its own"
backup "$tmp/other" --since c1
"$PYTHON" - "$tmp/then" "$tmp/other" <<'PY'
import sys
disk, got = (open(f, "rb").read() for f in sys.argv[1:])
dirty = ({1, 2, 3, 5000, 6000} | set(range(100, 110)) | set(range(200, 220)))
assert len(got) == len(disk)
for c in range(len(disk) // 4096):
    part = slice(c * 4096, (c + 1) * 4096)
    assert got[part] == (disk[part] if c in dirty else bytes(4096)), c
PY
[ "$(checkpoints vda)" = "c1 c2 c3" ]

say "nothing has changed"
backup "$tmp/out" --since c3 --checkpoint c4
[ "$(told state)" = completed ]
[ "$(told bytes-written)" = 0 ]
same "$tmp/then" "$tmp/out"

say "refused, and nothing lost"
refused () { must_fail "$@"; nothing_left; [ "$(wc -l <"$tmp/must_fail.err")" = 1 ]; }
refused 'no checkpoint nope; make a full' nf backup vda "$tmp/x" --since nope
refused 'no checkpoint c1; make a full' nf backup vdb "$tmp/x" --since c1
refused 'checkpoint c2 exists' nf backup vda "$tmp/x" --since c1 --checkpoint c2
refused 'no name for a checkpoint' nf backup vda "$tmp/x" --checkpoint 'a b'
refused 'needs a checkpoint' nf backup vda "$tmp/x" --sync incremental
refused 'goes with sync incremental' nf backup vda "$tmp/x" --sync full --since c1
refused 'expected full' nf backup vda "$tmp/x" --sync x
refused 'is the live disk' nf backup vda "$tmp/a.img" --since c1 --checkpoint c9
[ ! -e "$tmp/x" ]
[ "$(checkpoints vda)" = "c1 c2 c3 c4" ]
begin vda "$tmp/slow" --checkpoint c5 --speed 1M
[ "$(cp_field vda c5 job)" = "$job" ]
must_fail 'still being made' nf backup vda "$tmp/x" --since c5
must_fail "being made by job $job" nf checkpoint delete vda c5
must_fail 'checkpoint c5 exists' nf snapshot create vda s --checkpoint c5

say "cancelled: its changes count from the one before"
touch_clusters vda 7000
nf job cancel "$job" >/dev/null
must_fail cancelled nf job wait "$job"
[ "$(checkpoints vda)" = "c1 c2 c3 c4" ]
wait_for 10 dirty_files vda 5
changed vda c4 4096
backup "$tmp/out" --since c4 --checkpoint c5
same "$tmp/then" "$tmp/out"

say "failed: the same"
touch_clusters vda 7001
start_nbdkit bad --filter=error memory 32M error-pwrite=EIO error-pwrite-rate=1
must_fail 'failed' nf backup vda "$(uri bad)" --since c5 --checkpoint c6
[ "$(checkpoints vda)" = "c1 c2 c3 c4 c5" ]
touch_clusters vda 7002
backup "$tmp/out" --since c5 --checkpoint c6
[ "$(told bytes-total)" = 8192 ]
same "$tmp/then" "$tmp/out"

say "incomplete: what was lost comes with the next"
touch_clusters vda {100..200}
begin vda "$tmp/out" --since c6 --checkpoint c7 --speed 1
nf job pause "$job" >/dev/null
wait_for 20 job_is "$job" paused
guest vda 'for i in range (4096, 4608): h.pwrite (os.urandom (4096), i * 4096)'
nf job speed "$job" none >/dev/null
nf job resume "$job" >/dev/null
nf job wait "$job" >/dev/null
nf job show "$job" | finds '^state *completed' ||
  fail "what was lost was not in its scope"
# Now something that was.
touch_clusters vda {1000..1600}
begin vda "$tmp/out" --since c7 --checkpoint c8 --speed 1
nf job pause "$job" >/dev/null
wait_for 20 job_is "$job" paused
touch_clusters vda {1000..1600}
nf job speed "$job" none >/dev/null
nf job resume "$job" >/dev/null
must_fail incomplete nf job wait "$job"
lost=$(job_field "$job" bytes-lost)
[ "$lost" -gt 0 ] || fail "nothing was lost"
consistent vda c8
[ "$(cp_field vda c8 changed-bytes)" -ge $((601 * 4096)) ]
backup "$tmp/out" --since c8 --checkpoint c9
same "$tmp/then" "$tmp/out"
nothing_left

# And something that was lost without having changed since the instant.
touch_clusters vda {1000..1600}
begin vda "$tmp/out" --since c9 --checkpoint c10 --speed 1
nf job pause "$job" >/dev/null
wait_for 20 job_is "$job" paused
of "$dir/job-$job.map" 2:1500
nf job speed "$job" none >/dev/null
nf job resume "$job" >/dev/null
must_fail incomplete nf job wait "$job"
changed vda c10 4096
backup "$tmp/out" --since c10 --checkpoint c11
same "$tmp/then" "$tmp/out"

say "through the death of daemon and copier"
# Clusters of their own each time, so that the scratch is not asked for much.
last=c11
for victim in daemon copier both; do
  touch_clusters vda {2000..2500}
  cp "$tmp/a.img" "$tmp/then"
  begin vda "$tmp/out" --since $last --checkpoint "after-$victim" --speed 64K
  wait_for 30 job_got_further "$job" 0
  touch_clusters vda {3000..3020}
  copier=$(job_field "$job" pid)
  case $victim in daemon | both) kill_daemon ;; esac
  case $victim in copier | both) kill -KILL "$copier" ;; esac
  case $victim in daemon | both) start_daemon ;; esac
  [ "$(cp_field vda "after-$victim" job)" = "$job" ]
  nf job speed "$job" none >/dev/null || true
  nf job wait "$job" >/dev/null
  same "$tmp/then" "$tmp/out"
  nothing_left
  last=after-$victim
  backup "$tmp/out" --since $last
  same "$tmp/then" "$tmp/out"
done

say "a job whose end the daemon did not live to see"
begin vda "$tmp/late" --since c9 --checkpoint gone --speed 1
kill_daemon
rm "$state/jobs/$job.copy"
kill -KILL "$(cat "$run/job-$job.copy.pid")"
start_daemon
must_fail failed nf job wait "$job"
must_fail 'no checkpoint gone' nf backup vda "$tmp/x" --since gone
nothing_left

say "inconsistent ones"
of "$dir/c2.dirty" state=inconsistent
refused 'checkpoint c1 cannot be used: a later checkpoint.*full' \
        nf backup vda "$tmp/x" --since c1
refused 'checkpoint c2 cannot be used: .*full' nf backup vda "$tmp/x" --since c2
backup "$tmp/third" --since c3
must_fail 'of another chain' nf backup vda "$tmp/out" --since c3
truncate -s 33M "$tmp/a.img"
guest vda 'h.pwrite (b"x", 0)'
refused 'checkpoint c9 cannot be used: .*the size of the disk changed; make a full' \
        nf backup vda "$tmp/x" --since c9
backup "$tmp/new" --checkpoint n1
same "$tmp/then" "$tmp/new"
touch_clusters vda 8300
backup "$tmp/new" --since n1
same "$tmp/then" "$tmp/new"
stop_daemon
