#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: servers that go away: connecting again, sending again what the target
# had not flushed, and giving up.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit nbdcopy

make_image "$tmp/disk" 24M:r 1M:- 3M:r
size=$((28 << 20))
begin_snapshot s "$tmp/disk" 65536

# A target that holds back what was not flushed, and loses it when killed.
start_target () {
  start_nbdkit t --filter=cache file "$tmp/t.img" cache=writeback "$@"
  target=$pid
}
kill_target () { stop "$target" KILL; }
says () { progress error | finds -E "$1"; }

say "a target that is killed in the middle, twice"
truncate -s $size "$tmp/t.img"
start_target
start_copy --retry=60s --speed=4M "map:$map" "$(uri t)"
for done in 2 6; do
  wait_for 60 has_done $((done << 20))
  kill_target
  wait_for 60 says 'trying again'
  has_state running || fail "$(progress state)"
  # All of it counts as not done any more, and none of it has arrived.
  [ "$(progress bytes-done)" = 0 ] || fail "done: $(progress bytes-done)"
  if cmp -s -n 65536 "$tmp/t.img" "$tmp/before"; then
    fail "the target did not lose anything"
  fi
  start_target
done
order '{"command":"speed","bytes-per-second":0}'
ended 0
at_least $((6 << 20)) bytes-recopied
is null error
is $size bytes-done
stop "$target"
same "$tmp/t.img" "$tmp/before"

say "with a copy bitmap, flushed clusters are not sent again"
truncate -s 0 "$tmp/t.img"
truncate -s $size "$tmp/t.img"
"$bitmap" new "$tmp/bits" $size 65536
start_target
start_copy --retry=60s --speed=4M --copy-bitmap="$tmp/bits" "map:$map" \
           "$(uri t)"
wait_for 60 has_done $((3 << 20))
order '{"command":"pause"}'
wait_for 60 has_state paused
flushed () { grep -q '^nbdfleece-copy: flushed' "$tmp/copy.log"; }
wait_for 60 flushed
left=$("$bitmap" show "$tmp/bits" | head -n 1)
[ "$left" -le $((25 << 20)) ] || fail "$left bytes are left"
kill_target
start_target
order '{"command":"speed","bytes-per-second":0}'
order '{"command":"resume"}'
ended 0
[ "$("$bitmap" show "$tmp/bits")" = 0 ]
[ "$(result bytes-written)" -le $size ] || fail "flushed data was sent again"
stop "$target"
same "$tmp/t.img" "$tmp/before"

say "time over: report, stop"
start_target
start_copy --retry=300ms --speed=4M "map:$map" "$(uri t)"
wait_for 60 has_done $((1 << 20))
kill_target
ended 1
result error | finds 'onnect'
start_target
start_copy --retry=300ms --on-target-error=stop --speed=4M "map:$map" "$(uri t)"
wait_for 60 has_done $((1 << 20))
kill_target
wait_for 60 has_state stopped-on-error
start_target
order '{"command":"speed","bytes-per-second":0}'
order '{"command":"resume"}'
ended 0
stop "$target"
same "$tmp/t.img" "$tmp/before"

say "no retry: fails at once"
start_target
start_copy --speed=4M "map:$map" "$(uri t)"
wait_for 60 has_done $((1 << 20))
kill_target
ended 1

say "cancelled while the target is away"
start_target
start_copy --retry=1h --speed=4M "map:$map" "$(uri t)"
wait_for 60 has_done $((1 << 20))
kill_target
wait_for 60 says 'trying again'
order '{"command":"cancel"}'
ended 4

say "a target that comes back too small, or without the export"
start_target
start_copy --retry=60s --speed=4M "map:$map" "$(uri t)"
wait_for 60 has_done $((1 << 20))
kill_target
start_nbdkit t memory 1M
target=$pid
ended 1
result error | finds 'smaller than the disk'
stop "$target"

say "a source that is killed, and ends"
start_source () { start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"; src=$pid; }
start_source
start_copy --retry=60s --speed=4M "$(uri s vda@s)" "$tmp/out"
wait_for 60 has_done $((2 << 20))
stop "$src" KILL
wait_for 60 says 'trying again'
start_source
wait_for 60 has_done $((4 << 20))
# In order this time: it says that it is shutting down.
stop "$src"
start_source
order '{"command":"speed","bytes-per-second":0}'
ended 0
same "$tmp/out" "$tmp/before"
start_copy --retry=60s --speed=4M "$(uri s vda@s)" "$tmp/out"
wait_for 60 has_done $((2 << 20))
"$play" end "$map"
ended 1
result error | finds -E 'snapshot has ended|no export "vda@s"'
stop "$src"
