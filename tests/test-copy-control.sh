#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: pause, resume, speed and cancel, by pipe and by signal, and what is
# no command.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit nbdcopy

size=$((16 << 20))
make_image "$tmp/disk" 16M:r
begin_snapshot s "$tmp/disk" 65536
start_nbdkit t memory 16M

# The speed limit, over bytes: less time than this cannot be.
say "speed"
now_ms () { echo $(($(date +%s%N) / 1000000)); }
took=$(now_ms)
copy --speed=8M "map:$map" "$(uri t)"
took=$(($(now_ms) - took))
[ $took -ge 1800 ] || fail "16 MiB at 8 MiB a second took $took ms"
compare_nbd "$(uri t)"
took=$(now_ms)
copy --speed=8M "map:$map" "$tmp/out"
took=$(($(now_ms) - took))
[ $took -ge 1800 ] || fail "in the kernel it took $took ms"

say "a slow copy is given more speed"
start_copy --speed=10 "map:$map" "$(uri t)"
wait_for 30 has_done 65536
has_done $((1 << 20)) && fail "too fast"
order '{"command":"speed","bytes-per-second":0}'
ended 0
compare_nbd "$(uri t)"

say "pause and resume"
start_copy --speed=4M "map:$map" "$(uri t)"
wait_for 30 has_done $((1 << 20))
order '{"command":"pause"}'
wait_for 30 has_state paused
# A second one changes nothing; and while it is paused, it can be told a speed.
order '{"command":"pause"}'
order '{"command":"speed","bytes-per-second":0}'
wait_for 30 grep -q 'flushed' "$tmp/copy.log"
done=$(progress bytes-done)
# Two more lines say the same.
lines=$(wc -l <"$tmp/progress")
more_lines () { [ "$(wc -l <"$tmp/progress")" -ge $((lines + 2)) ]; }
wait_for 30 more_lines
[ "$(progress bytes-done)" = "$done" ] || fail "it went on"
[ "$done" -lt $size ] || fail "it was done already"
order '{"command":"resume"}'
ended 0
is completed state
compare_nbd "$(uri t)"

say "what is no command"
start_copy --speed=4M "map:$map" "$(uri t)"
wait_for 30 has_done 65536
order 'nonsense'
order '{"command":"reboot"}'
order '{"command":17}'
order '[1, 2'
order '{"command":"speed"}'
order '{"command":"speed","bytes-per-second":-1}'
order '{"command":"speed","bytes-per-second":"fast"}'
order ''
order '{"command":"resume"}'
head -c 10000 /dev/zero | tr '\0' x >"$tmp/control"
order ''
# In pieces, two in one write.
printf '{"comma' >"$tmp/control"
printf 'nd":"pause"}\n{"command":"cancel"}\n' >"$tmp/control"
ended 4
is cancelled state
[ "$(grep -c 'control: not a command' "$tmp/copy.log")" = 4 ]
[ "$(grep -c 'control: speed:' "$tmp/copy.log")" = 3 ]
[ "$(grep -c 'control: line too long' "$tmp/copy.log")" = 1 ]

say "cancelled: what is flushed is kept"
"$bitmap" new "$tmp/bits" $size 65536
start_copy --copy-bitmap="$tmp/bits" --speed=4M "map:$map" "$(uri t)"
wait_for 30 has_done $((2 << 20))
order '{"command":"cancel"}'
ended 4
is cancelled state
left=$("$bitmap" show "$tmp/bits" | head -n 1)
[ "$left" -le $((size - (2 << 20))) ] || fail "$left bytes left"
[ "$left" = $((size - $(result bytes-done))) ] || fail "$left bytes left"
copy --copy-bitmap="$tmp/bits" "map:$map" "$(uri t)"
is "$left" bytes-written
is $size bytes-done
compare_nbd "$(uri t)"

for signal in INT TERM HUP; do
  say "SIG$signal"
  start_copy --speed=4M "map:$map" "$(uri t)"
  wait_for 30 has_done 65536
  stop "$copier" $signal
  [ $status = 4 ] || fail "status $status"
  is cancelled state
done

# A target that does not answer: the first signal waits, the second does not.
say "a second signal"
start_nbdkit slow --filter=delay memory 16M wdelay=1000
start_copy "map:$map" "$(uri slow)"
wait_for 30 has_state running
kill -INT "$copier"
wait_for 30 grep -q running "$tmp/progress"
stop "$copier" INT
[ $status = 130 ] || [ $status = 4 ] || fail "status $status"

say "a pipe that is none, or is not there"
copy_ends 1 --control="$tmp/out" "map:$map" "$(uri t)"
copy_ends 1 --control="$tmp/nothing" "map:$map" "$(uri t)"
