#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The host stops without warning: with scratch: {durable: true} snapshots are
# there when it comes back, and jobs go on with theirs.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool nbdcopy qemu-img

M=1048576
for disk in a b c; do head -c 16M /dev/urandom >"$tmp/$disk.img"; done
qemu-img convert -f raw -O qcow2 "$tmp/b.img" "$tmp/b.qcow2"
mkdir "$tmp/scratch"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
    scratch: {directory: $tmp/scratch, durable: true}
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
    scratch: {durable: true}
  - name: vdc
    disk: $tmp/c.img
X
start_daemon
for disk in a b c; do cp "$tmp/$disk.img" "$tmp/$disk.before"; done

scribble () {
  guest "$1" "
import random
for i in range (300):
  h.pwrite (os.urandom (4096), random.randrange (h.get_size () // 4096) * 4096)"
}
# field EXPORT SNAPSHOT MEMBER
field () {
  nf --json snapshot list "$1" |
    json "[s for s in d['snapshots'] if s['name'] == '$2'][0]['$3']"
}
exact () {
  rm -f "$tmp/copy"
  nbdcopy "$(snapshot_uri "$1" "$2")" "$tmp/copy"
  same "$tmp/copy" "$3"
}
# crash: everything goes, and the host seems to have gone with it; the disks were
# last written to before.
crash () {
  local pids p
  pids=$(cat "$run"/*.pid)
  kill_daemon
  # shellcheck disable=SC2086
  kill -KILL $pids
  for p in $pids; do wait_for 10 dead "$p"; done
  rm -rf "$run"
  touch -d 2001-01-01 "$tmp"/*.img "$tmp"/*.qcow2
  find "$state" \( -name '*.map' -o -name '*.copy' -o -name '*.dirty' \) |
    while read -r f; do
      printf 'another boot id.' |
        dd of="$f" bs=1 seek=3080 conv=notrunc status=none
    done
}

say "snapshots, of one and of several"
nf snapshot create vda one >/dev/null
nf snapshot create vda,vdb,vdc all >/dev/null
for ex in vda vdb vdc; do scribble $ex; done
[ "$(field vda one durable)" = True ]
[ "$(field vdb all durable)" = True ]
[ "$(field vdc all durable)" = False ]
nf snapshot list vda | finds -E '^vda +all +active +yes '
nf snapshot list vdc | finds -E '^vdc +all +active +no '
crash
start_daemon
exact vda one "$tmp/a.before"
exact vda all "$tmp/a.before"
exact vdb all "$tmp/b.before"
nf snapshot list vdc | finds "no snapshots"
grep -q "vda@one: the host stopped without closing it: its scratch is durable" \
  "$tmp/daemon.log"
grep -q "vdc: snapshot all is lost: the host stopped without closing it" \
  "$tmp/daemon.log"

say "once more; then they end, for good"
scribble vda
crash
start_daemon
exact vda one "$tmp/a.before"
nf snapshot delete vda one
nf snapshot delete vda all
cp "$tmp/a.img" "$tmp/a.before"
nf snapshot create vda next >/dev/null
scribble vda
nf snapshot rearm vda next >/dev/null
cp "$tmp/a.img" "$tmp/a.next"
scribble vda
crash
start_daemon
nf snapshot list vda >"$tmp/out"
! grep -Eq ' (one|all) ' "$tmp/out" || fail "there is one again: $(cat "$tmp/out")"
exact vda next "$tmp/a.next"
nf snapshot delete vda next

say "a job goes on, with what it has delivered"
cp "$tmp/a.img" "$tmp/a.before"
job=$(nf backup vda "$tmp/out.raw" --speed 4M --detach | grep -o '[0-9]*' | head -n1)
for ((round = 1; round <= 2; round++)); do
  scribble vda
  wait_for 30 job_got_further "$job" $((round * 3 * M))
  crash
  start_daemon
done
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/a.before" "$tmp/out.raw"
[ "$(job_field "$job" state)" = completed ]
wait_for 10 eval '[ -z "$(find "$state" "$tmp/scratch" -name "*job-*")" ]'

say "without: the job has failed, and says why"
job=$(nf backup vdc "$tmp/out-c.raw" --speed 1M --detach | grep -o '[0-9]*' | head -n1)
wait_for 30 job_got_further "$job" $M
crash
start_daemon
wait_for 10 job_is "$job" failed
cases "crashes of the host, daemon and jobs" 6
