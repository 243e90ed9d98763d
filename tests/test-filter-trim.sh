#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: trims are copied for, or deferred until nobody needs the content.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit nbdcopy
requires_python_nbd

make_disk $((16 * 1048576))
start_front
blocks () { stat -c %b "$disk"; }
exact () {
  rm -f "$tmp/copy"
  nbdcopy "$(uri snap "vda@$1")" "$tmp/copy"
  same "$tmp/copy" "$tmp/before"
}

# copy: the old content is kept in the scratch, the trim happens at once.
start_export file "$disk"
expect "ok *" begin s
nbdsh_vda "h.trim (8 * 1048576, 4096)"
[ "$(stat_of scratch_bytes s)" = 8388608 ]
[ "$(blocks)" -lt 20000 ]
exact s
expect ok end s
stop "$export_pid"

# defer: no scratch is used, and the disk keeps it until the snapshot ends.
cp "$tmp/before" "$disk"
start_export file "$disk" fleece-trim=defer
expect "ok *" begin s
before=$(blocks)
nbdsh_vda "
h.trim (8 * 1048576, 1000)
h.pwrite (b'n' * 5000, 2 * 1048576 + 100)
h.zero (70000, 3 * 1048576, nbd.CMD_FLAG_NO_HOLE)
assert h.pread (5000, 2 * 1048576 + 100) == b'n' * 5000"
[ "$(stat_of copied_clusters s)" = $((2 + 18)) ]
[ "$(blocks)" -ge $((before - 100)) ]
exact s

# It lands when the snapshot has ended, around what was written since.
expect ok end s
trimmed () { [ "$(blocks)" -lt $((before - 16000)) ]; }
wait_for 30 trimmed
nbdsh_vda "
assert h.pread (5000, 2 * 1048576 + 100) == b'n' * 5000
assert h.pread (70000, 3 * 1048576) == bytes (70000)
assert h.pread (4096, 4096) == bytes (4096)"
cmp -n 1000 "$disk" "$tmp/before"
cmp -i $((9 * 1048576)) "$disk" "$tmp/before"

# A trim where nobody needs the content is not deferred.
expect "ok *" begin t
nbdsh_vda "
h.pwrite (b'm' * 1048576, 10 * 1048576)
h.trim (1048576, 10 * 1048576)
assert h.pread (1048576, 10 * 1048576) == bytes (1048576)"

# Two snapshots: it waits for both.
cp "$disk" "$tmp/before"
expect "ok *" begin u
nbdsh_vda "h.trim (1048576, 12 * 1048576)"
expect ok end t
exact u
expect ok end u
gone () { nbdsh_vda "assert h.pread (4096, 12 * 1048576) == bytes (4096)"; }
wait_for 30 gone 2>/dev/null

# It is a change: the tracking bitmap of the time when it lands knows it.
expect "ok *" begin v dirty=c1
nbdsh_vda "h.trim (1048576, 14 * 1048576)"
expect "ok *" begin w dirty=c2
expect ok end v
expect ok end w
gone () { nbdsh_vda "assert h.pread (4096, 14 * 1048576) == bytes (4096)"; }
wait_for 30 gone 2>/dev/null
# Cluster 14 MiB / 4 KiB = bit 3584, in byte 448 of the bitmap at 4096.
[ "$(od -An -tu1 -j $((4096 + 448)) -N 1 "$state/exports/vda/c2.dirty" | tr -d ' ')" = 255 ]
