#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: killed at any moment and started again with the same copy bitmap, it
# does the rest; the target loses what it had not flushed; nothing is left over.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit nbdcopy qemu-img qemu-nbd

# Sockets of the copier would be here.
export TMPDIR=$tmp/tmpdir
mkdir "$TMPDIR"

size=$((24 << 20))
speed=8M

# One job, killed four times when it has done a bit more, then at random, and
# in the end left alone.  The guest writes meanwhile.  $target is where to,
# lose_unflushed what happens to the target when its client is killed.
job () {
  local name=$1 round left done=0
  shift
  make_image "$tmp/disk" 8M:r 4M:- 11M:r 1M:0
  rm -f "$tmp/bits"
  begin_snapshot "$name" "$tmp/disk" 65536
  "$bitmap" new "$tmp/bits" $size 65536
  for ((round = 0; ; round++)); do
    [ $round -lt 10 ] || speed=0
    start_copy --copy-bitmap="$tmp/bits" --speed=$speed --flush-interval=20ms \
               "$@" "map:$map" "$target"
    guest_writes "$tmp/disk" $((RANDOM % 8)) 200000
    [ $round -gt 3 ] || wait_for 60 has_done $((done + (1 << 20)))
    if [ $round -ge 10 ]; then ended 0; fi
    if dead "$copier"; then
      ended 0
      break
    fi
    stop "$copier" KILL
    lose_unflushed
    left=$("$bitmap" show "$tmp/bits" | head -n 1)
    [ $((size - left)) -ge $done ] || fail "it has gone back"
    done=$((size - left))
    say "$name: killed at $done"
  done
  [ $round -ge 4 ]
  is completed state
  is $size bytes-total
  is $size bytes-done
  [ "$("$bitmap" show "$tmp/bits")" = 0 ] || fail "bits are left"
  "$play" end "$map"
  speed=8M
}

lose_unflushed () { :; }

target=$tmp/out
job file
same "$tmp/out" "$tmp/before"
rm "$tmp/out"
job file-release --release
same "$tmp/out" "$tmp/before"

# The server's cache goes with the copier.
start_target () {
  start_nbdkit t --filter=cache file "$tmp/t.img" cache=writeback
  server=$pid
}
lose_unflushed () { stop "$server" KILL 2>/dev/null; start_target; }
truncate -s $size "$tmp/t.img"
start_target
target=$(uri t)
job nbd
job nbd-release --release
stop "$server"
same "$tmp/t.img" "$tmp/before"

# The next copier waits for the qemu-nbd of the one before.
lose_unflushed () { :; }
target=qcow2:$tmp/q.qcow2
job qcow2
[ -z "$(pgrep -f "^qemu-nbd.*$tmp")" ] || fail "a qemu-nbd is left"
qemu-img check -q "$tmp/q.qcow2"
qemu-img convert -O raw "$tmp/q.qcow2" "$tmp/raw"
same "$tmp/raw" "$tmp/before"

[ -z "$(ls "$TMPDIR")" ] || fail "left over: $(ls "$TMPDIR")"
