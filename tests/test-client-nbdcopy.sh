#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# libnbd's tools, nbdcopy and nbdinfo, on snapshots of a disk being rewritten.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/clients.sh"
requires_tool nbdcopy nbdinfo e2fsck debugfs mke2fs
requires_python_nbd

make_disk "$tmp/a.img" 40
truncate -s $((10 * 1048576 + 1)) "$tmp/b.img"
head -c 3M /dev/urandom | dd of="$tmp/b.img" bs=1M seek=2 conv=notrunc status=none
cp --sparse=always "$tmp/a.img" "$tmp/a.then"
cp --sparse=always "$tmp/b.img" "$tmp/b.then"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
  - {name: vdb, disk: $tmp/b.img, cluster-size: 64K}
X
start_daemon
nf snapshot create vda,vdb then >/dev/null
start_guest vda
a=$(snapshot_uri vda then)
b=$(snapshot_uri vdb then)

say "nbdinfo"
[ "$(nbdinfo --size "$a")" = $((40 << 20)) ]
[ "$(nbdinfo --size "$b")" = $((10 * 1048576 + 1)) ]
nbdinfo --is readonly "$a"
nbdinfo --can multi-conn "$a"
nbdinfo --can cache "$a"
nbdinfo --list --json "$(printf 'nbd+unix:///?socket=%s' "$run/backup.sock")" \
  >"$tmp/list"
[ "$(json "sorted(e['export-name'] for e in d['exports'])" <"$tmp/list")" \
  = "['vda@then', 'vdb@then']" ]
[ "$(json "[e['is_read_only'] for e in d['exports']]" <"$tmp/list")" \
  = "[True, True]" ]
nbdinfo "$a" | grep 'export="vda@then"' >"$tmp/out"

# map_is_true IMAGE: the map that nbdinfo showed covers the disk, and what it
# claims to be zero is.
map_is_true () {
  json "sum(e['length'] for e in d)" <"$tmp/map" >"$tmp/covered"
  [ "$(cat "$tmp/covered")" = "$(stat -c %s "$1")" ] || fail "the map has gaps"
  "$PYTHON" - "$1" "$tmp/map" <<'PY'
import json, sys
image = open(sys.argv[1], "rb")
zeroes = 0
for e in json.load(open(sys.argv[2])):
    if e["type"] & 2:
        image.seek(e["offset"])
        assert not any(image.read(e["length"])), e
        zeroes += e["length"]
assert zeroes > 0
PY
}
nbdinfo --map --json "$a" >"$tmp/map"
map_is_true "$tmp/a.then"
nbdinfo --map --json "$b" >"$tmp/map"
map_is_true "$tmp/b.then"

say "nbdcopy, while the disk is overwritten and after it was"
nbdcopy "$a" "$tmp/pulled1"
nbdcopy --connections=4 --requests=32 --threads=2 "$a" "$tmp/pulled2"
nbdcopy --synchronous "$b" "$tmp/pulled3"
wait_for_guest
nbdcopy --sparse=65536 --request-size=65536 "$a" "$tmp/pulled4"
nbdcopy --no-extents "$a" - >"$tmp/pulled5"
nbdinfo --map --json "$a" >"$tmp/map"
map_is_true "$tmp/a.then"
for i in 1 2 4 5; do same "$tmp/a.then" "$tmp/pulled$i"; done
same "$tmp/b.then" "$tmp/pulled3"
check_image "$tmp/pulled4"
! cmp -s "$tmp/a.then" "$tmp/a.img" || fail "the guest wrote nothing"

say "nothing can be written to a snapshot"
must_fail . nbdcopy "$tmp/a.then" "$a"

say "a snapshot is deleted under a client, which gets a clean error"
cat >"$tmp/reader.py" <<'PY'
import errno, nbd, os, sys
uri, started = sys.argv[1:]
h = nbd.NBD()
h.connect_uri(uri)
h.pread(4096, 0)
open(started, "w").close()
try:
    while True:
        h.pread(65536, 1 << 20)
except nbd.Error as e:
    assert e.errnum == errno.ESHUTDOWN, e
PY
start "$PYTHON" "$tmp/reader.py" "$a" "$tmp/started"
reader=$pid
wait_for 30 test -e "$tmp/started"
must_fail 'vda is being read by the local process' nf snapshot delete vdb,vda then
[ "$(nf --json snapshot list | json "[s['export'] for s in d['snapshots']]")" = "['vda']" ]
nf snapshot delete vda then --force
wait_for 60 dead "$reader"
wait "$reader" || fail "no clean error"
must_fail . nbdinfo "$a"
stop_guest
stop_daemon
