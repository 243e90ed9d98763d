#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Plugin: holes of the old content are shown as holes, new ones are not.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit nbdinfo qemu-img
requires_python_nbd

play=$abs_top_builddir/tests/play-filter
state=$tmp/state
mkdir "$state"

# 1 MiB data, 2 MiB hole, 1 MiB data, 4 MiB hole.
truncate -s 8M "$tmp/disk"
head -c 1M /dev/urandom | dd of="$tmp/disk" bs=1M conv=notrunc status=none
head -c 1M /dev/urandom | dd of="$tmp/disk" bs=1M seek=3 conv=notrunc status=none
requires test "$(stat -c %b "$tmp/disk")" -le 4200  # holes in files
"$play" new "$state" vda s "file:$tmp/disk" 8388608 65536
map=$state/exports/vda/s.map
"$play" begin "$map"
start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"

# OFFSET:LENGTH:TYPE of each extent, for all of the disk.
extents () {
  nbdinfo --map --json "$(uri s vda@s)" | "$PYTHON" -c 'import json, sys
for e in json.load (sys.stdin):
  print ("%d:%d:%s" % (e["offset"], e["length"], e["type"]), end=" ")'
}
expect () {
  local got
  got=$(extents)
  [ "$got" = "$* " ] || fail "extents are $got"
}
expect 0:1048576:0 1048576:2097152:3 3145728:1048576:0 4194304:4194304:3

# Where the guest writes now does not show, be it hole or data then.
"$play" write "$map" "$tmp/disk" 6000000 100000 255
"$play" write "$map" "$tmp/disk" 1000000 500000 255
"$play" write "$map" "$tmp/disk" 3500000 1 255
expect 0:1048576:0 1048576:2097152:3 3145728:1048576:0 4194304:4194304:3
qemu-img map --output=json -f raw "$(uri s vda@s)" | finds \
  '"start": 1048576, "length": 2097152, .*"zero": true, "data": false'

# Lost and released clusters are no holes; asking for one extent gives one.
"$play" lose "$map" 5242880 65536
"$play" release "$map" 5308416 65536
expect 0:1048576:0 1048576:2097152:3 3145728:1048576:0 4194304:1048576:3 \
       5242880:131072:0 5373952:3014656:3
"$PYTHON" - "$(uri s vda@s)" <<'PY'
import nbd, sys
h = nbd.NBD ()
h.add_meta_context ("base:allocation")
h.connect_uri (sys.argv[1])
got = []
h.block_status (8388608 - 4096, 4096, lambda name, at, e, err: got.append (e),
                nbd.CMD_FLAG_REQ_ONE)
assert got == [[1048576 - 4096, 0]], got
PY

# Old data that happened to be zero becomes a hole when it is copied.
head -c 1M /dev/zero >"$tmp/disk3"
"$play" new "$state" vdc s "file:$tmp/disk3" 1048576 65536
map=$state/exports/vdc/s.map
"$play" begin "$map"
"$play" write "$map" "$tmp/disk3" 524288 65536 255
got=$(nbdinfo --map --totals "$(uri s vdc@s)")
grep -Eq '^ *65536 +[0-9.]+% +3' <<<"$got" || fail "$got"

# Many small extents come in as many answers as it takes.
truncate -s 0 "$tmp/disk2"
truncate -s 256M "$tmp/disk2"
"$play" new "$state" vdb s "file:$tmp/disk2" 268435456 4096
"$play" begin "$state/exports/vdb/s.map"
"$PYTHON" - "$state/exports/vdb/s.map" "$tmp/disk2" <<'PY'
# Every other cluster is data.
import os, sys
with open (sys.argv[2], "r+b") as f:
  for i in range (0, 65536, 2):
    os.pwrite (f.fileno (), b"x", i * 4096)
PY
n=$(nbdinfo --map "$(uri s vdb@s)" | wc -l)
[ "$n" = 65536 ] || fail "$n extents, not 65536"
