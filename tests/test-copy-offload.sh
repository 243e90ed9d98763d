#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: in-kernel copies: reflink where the file system can, what is
# available where it cannot, and parts that the guest changes meanwhile.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool mkfs.xfs filefrag
[ "$(id -u)" = 0 ] || skip "mounting a file system needs root"

truncate -s 1G "$tmp/xfs.img"
mkfs.xfs -q -m reflink=1 "$tmp/xfs.img"
mkdir "$tmp/xfs"
requires mount -o loop "$tmp/xfs.img" "$tmp/xfs"
# Keeps the status for cleanup.
unmount () { local s=$?; umount "$tmp/xfs" || umount -l "$tmp/xfs"; return $s; }
trap 'if unmount; then cleanup; else cleanup; fi' EXIT

# Reflink: nothing is read or written, and the extents are shared.
state=$tmp/xfs/state
mkdir "$state"
make_image "$tmp/xfs/disk" 3M:r 5M:- 20M:r 1M:0 1001:r
size=$(stat -c %s "$tmp/xfs/disk")
begin_snapshot s "$tmp/xfs/disk" 4096
guest_writes "$tmp/xfs/disk" 50 100000
"$play" write "$map" "$tmp/xfs/disk" $((size - 1)) 1 7
copy "map:$map" "$tmp/xfs/out"
same "$tmp/xfs/out" "$tmp/before"
is reflink offload
is 0 bytes-read
is 0 bytes-written
is 0 bytes-recopied
at_least $((23 << 20)) bytes-offloaded
filefrag -v "$tmp/xfs/out" | finds shared || fail "no extent is shared"

# In part: only that part is touched.
make_image "$tmp/xfs/out" 30M:X
"$bitmap" new "$tmp/bits" "$size" 4096 $((10 << 20)) 8192
copy --copy-bitmap="$tmp/bits" "map:$map" "$tmp/xfs/out"
is 8192 bytes-offloaded
cmp -i $((10 << 20)) -n 8192 "$tmp/xfs/out" "$tmp/before"
[ "$(dd if="$tmp/xfs/out" bs=1 skip=$(((10 << 20) + 8192)) count=1 \
        status=none)" = X ]

# A guest that writes while the copy runs, which is slowed down until then.
"$play" end "$map"
make_image "$tmp/xfs/disk" 96M:r
begin_snapshot t "$tmp/xfs/disk" 4096
rm "$tmp/xfs/out"
start_copy --speed=16M "map:$map" "$tmp/xfs/out"
guest_writes "$tmp/xfs/disk" 200 300000
alive "$copier" || say "the copy was faster than the guest"
order '{"command":"speed","bytes-per-second":0}'
ended 0
is reflink offload
same "$tmp/xfs/out" "$tmp/before"

# Another file system: refused, and dropped for the job.
copy "map:$map" "$tmp/out"
same "$tmp/out" "$tmp/before"
is none offload
is 0 bytes-offloaded
is $((96 << 20)) bytes-written
grep -q 'reflink refused' "$tmp/copy.log"
[ "$(grep -c refused "$tmp/copy.log")" -le 2 ] || fail "it went on trying"
