#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: block devices as targets, also larger ones and ones in use; and as
# the live disk.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool losetup mkfs.ext4
[ "$(id -u)" = 0 ] || skip "loop devices need root"

devices=()
# loop_device FILE: in $dev.
loop_device () {
  dev=$(losetup --find --show "$1" 2>"$tmp/losetup.err") ||
    skip "no loop device: $(cat "$tmp/losetup.err")"
  devices+=("$dev")
}
detach () {
  local s=$? d
  umount "$tmp/mnt" 2>/dev/null || true
  for d in "${devices[@]}"; do losetup -d "$d" || true; done
  return $s
}
trap 'if detach; then cleanup; else cleanup; fi' EXIT

# check_device SIZE: the device begins with the disk; what is past its last
# sector is as it was.
check_device () {
  cmp -n "$1" "$dev" "$tmp/before"
  "$PYTHON" - "$dev" $((($1 + 511) / 512 * 512)) <<'PY'
import sys
with open (sys.argv[1], "rb") as f:
  f.seek (int (sys.argv[2]))
  rest = f.read ()
assert rest == b"X" * len (rest)
PY
}

for tail in 0 512 1 511; do
  say "a larger device, $tail bytes more"
  make_image "$tmp/disk" 1M:r 3M:- 1M:0 100K:r $tail:r
  size=$(stat -c %s "$tmp/disk")
  begin_snapshot "s$tail" "$tmp/disk" 65536
  make_image "$tmp/dev.img" 8M:X
  loop_device "$tmp/dev.img"
  copy "map:$map" "$dev"
  check_device "$size"
  is 0 bytes-skipped
done

say "exactly the size"
make_image "$tmp/dev2.img" $((5 << 20)):X
make_image "$tmp/disk" 5M:r
begin_snapshot e "$tmp/disk" 65536
loop_device "$tmp/dev2.img"
copy "map:$map" "$dev"
same "$tmp/dev2.img" "$tmp/before"

say "too small"
make_image "$tmp/disk" 5M:r 512:r
begin_snapshot m "$tmp/disk" 65536
copy_ends 1 "map:$map" "$dev"
result error | finds 'smaller than the disk'

say "mounted"
mkfs.ext4 -q "$dev"
mkdir "$tmp/mnt"
requires mount "$dev" "$tmp/mnt"
make_image "$tmp/disk" 1M:r
begin_snapshot n "$tmp/disk" 65536
copy_ends 1 "map:$map" "$dev"
result error | finds 'cannot be written: Device or resource busy'
umount "$tmp/mnt"

say "a device as the live disk"
size=$(blockdev --getsize64 "$dev")
cp "$dev" "$tmp/before"
"$play" new "$state" vda d "file:$dev" "$size" 65536
map=$state/exports/vda/d.map
"$play" begin "$map"
"$play" write "$map" "$dev" 100000 1000000 7
copy "map:$map" "$tmp/out"
same "$tmp/out" "$tmp/before"
copy_ends 1 "map:$map" "$dev"
result error | finds 'the target is the live disk'
