#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: qcow2 targets: sparse, on top of a backing image, over what an image
# held; and qemu-nbd that dies or takes its time.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool qemu-img qemu-nbd

size=$((32 << 20))
make_image "$tmp/disk" 8M:r 16M:- 4M:0 4M:A
begin_snapshot full "$tmp/disk" 65536

# reads_as IMAGE FILE
reads_as () {
  qemu-img check -q "$1"
  qemu-img convert -O raw "$1" "$tmp/raw"
  same "$tmp/raw" "$2"
}

say "new and sparse"
copy "map:$map" "qcow2:$tmp/full.qcow2"
reads_as "$tmp/full.qcow2" "$tmp/before"
is $((20 << 20)) bytes-skipped
[ "$(stat -c %b "$tmp/full.qcow2")" -lt $((13 << 11)) ] || fail "not sparse"
[ "$(stat -c %a "$tmp/full.qcow2")" = 600 ]
[ -z "$(pgrep -f "^qemu-nbd.*$tmp")" ] || fail "a qemu-nbd is left"

say "a colon in a name, relative"
(cd "$tmp" && copy "map:$map" "qcow2:a:b.qcow2")
reads_as "$tmp/a:b.qcow2" "$tmp/before"

say "an increment on top of it, with clusters that became zeroes"
cp "$tmp/before" "$tmp/monday"
"$play" end "$map"
dd if=/dev/urandom of="$tmp/disk" bs=64K seek=200 count=3 conv=notrunc \
   status=none
dd if=/dev/zero of="$tmp/disk" bs=64K seek=10 count=2 conv=notrunc status=none
begin_snapshot inc "$tmp/disk" 65536
"$bitmap" new "$tmp/bits" $size 65536 $((200 << 16)) $((3 << 16)) \
          $((10 << 16)) $((2 << 16))
copy --copy-bitmap="$tmp/bits" --backing="$tmp/full.qcow2" "map:$map" \
     "qcow2:$tmp/inc.qcow2"
reads_as "$tmp/inc.qcow2" "$tmp/before"
reads_as "$tmp/full.qcow2" "$tmp/monday"
is $((3 << 16)) bytes-written
is $((2 << 16)) bytes-zero
[ "$(stat -c %b "$tmp/inc.qcow2")" -lt $((2 << 11)) ] || fail "not an increment"

say "all of it over an image that held something"
copy "map:$map" "qcow2:$tmp/full.qcow2"
reads_as "$tmp/full.qcow2" "$tmp/before"

# The qemu-nbd of a copy, not its guard.
server () { pgrep -f "^qemu-nbd.*$tmp"; }

say "qemu-nbd is killed: fails, or is started again"
start_copy --speed=4M "map:$map" "qcow2:$tmp/k.qcow2"
wait_for 30 has_done $((1 << 20))
kill -KILL "$(server)"
ended 1
is failed state
start_copy --speed=4M --retry=1m "map:$map" "qcow2:$tmp/k.qcow2"
wait_for 30 has_done $((1 << 20))
kill -KILL "$(server)"
wait_for 30 grep -q 'connected again' "$tmp/copy.log"
order '{"command":"speed","bytes-per-second":0}'
ended 0
reads_as "$tmp/k.qcow2" "$tmp/before" ||
  qemu-img check "$tmp/k.qcow2"

say "cancelled: qemu-nbd goes, too"
start_copy --speed=4M "map:$map" "qcow2:$tmp/c.qcow2"
wait_for 30 has_done $((1 << 20))
order '{"command":"cancel"}'
ended 4
[ -z "$(server)" ] || fail "a qemu-nbd is left"

say "the copier is killed while qemu-nbd starts"
for ((i = 0; i < 20; i++)); do
  start_copy --speed=4M "map:$map" "qcow2:$tmp/c.qcow2"
  wait_for 10 eval "server >/dev/null || dead $copier"
  stop "$copier" KILL
  gone () { [ -z "$(leftovers)" ]; }
  wait_for 30 gone
done 2>/dev/null
