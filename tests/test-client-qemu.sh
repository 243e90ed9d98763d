#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# QEMU's tools: qemu-img on snapshots, qemu-io as the guest.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/clients.sh"
requires_tool qemu-img qemu-io e2fsck debugfs mke2fs
requires_python_nbd

make_disk "$tmp/a.img" 40
cp --sparse=always "$tmp/a.img" "$tmp/a.then"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X
start_daemon
nf snapshot create vda then >/dev/null
start_guest vda
a=$(snapshot_uri vda then)

say "qemu-img info, map, compare, convert"
qemu-img info --output=json -f raw "$a" >"$tmp/info"
[ "$(json "d['virtual-size']" <"$tmp/info")" = $((40 << 20)) ]
qemu-img compare -f raw -F raw "$tmp/a.then" "$a"
qemu-img map --output=json -f raw "$a" >"$tmp/map"
[ "$(json "sum(e['length'] for e in d)" <"$tmp/map")" = $((40 << 20)) ]
"$PYTHON" - "$tmp/a.then" "$tmp/map" <<'PY'
import json, sys
image = open(sys.argv[1], "rb")
zeroes = 0
for e in json.load(open(sys.argv[2])):
    if e["zero"]:
        image.seek(e["start"])
        assert not any(image.read(e["length"])), e
        zeroes += e["length"]
assert zeroes > 0
PY
qemu-img convert -f raw -O raw "$a" "$tmp/pulled.raw"
same "$tmp/a.then" "$tmp/pulled.raw"
check_image "$tmp/pulled.raw"
qemu-img convert -W -m 16 -f raw -O qcow2 -c "$a" "$tmp/pulled.qcow2"
wait_for_guest
qemu-img compare -f raw -F qcow2 "$tmp/a.then" "$tmp/pulled.qcow2"
qemu-img check -q "$tmp/pulled.qcow2"
qemu-img compare -f raw -F raw "$tmp/a.then" "$a"
qemu-img convert -U -n -f raw -O raw "$a" "$tmp/pulled.raw"
same "$tmp/a.then" "$tmp/pulled.raw"
stop_guest
nf snapshot delete vda then

say "qemu-io as the guest: what it writes after the instant is not in it"
io () { qemu-io -f raw "$@" "$(guest_uri vda)" >"$tmp/io.out" || { cat "$tmp/io.out" >&2; fail "qemu-io $*"; }; }
reads () {
  ! grep -q 'verification failed' "$tmp/io.out" || { cat "$tmp/io.out" >&2; fail "$1"; }
}
io -c 'write -P 1 0 1M' -c 'write -P 2 1M 1M' -c 'write -z 2M 1M' \
   -c 'write -P 4 5000001 3001' -c flush
nf snapshot create vda one >/dev/null
# In flight together; and each kind of request.
io -c 'aio_write -P 17 0 64k' -c 'aio_write -P 18 100k 300k' \
   -c 'aio_write -z 512k 64k' -c 'aio_flush' \
   -c 'write -P 19 -f 1M 4k' -c 'write -z -u 1100k 64k' \
   -c 'discard 1536k 256k' -c 'write -P 20 2M 1M' -c 'write -P 21 5000000 3003'
nf snapshot create vda two >/dev/null
io -c 'write -P 33 0 6M'
check () {
  qemu-io -r -f raw "${@:2}" "$(snapshot_uri vda "$1")" >"$tmp/io.out" ||
    { cat "$tmp/io.out" >&2; fail "qemu-io on $1"; }
  reads "$1"
}
check one -c 'read -P 1 0 1M' -c 'read -P 2 1M 1M' -c 'read -P 0 2M 1M' \
      -c 'read -P 4 5000001 3001'
check two -c 'read -P 17 0 64k' -c 'read -P 18 100k 300k' \
      -c 'read -P 0 512k 64k' -c 'read -P 1 64k 36k' -c 'read -P 19 1M 4k' \
      -c 'read -P 2 1028k 72k' -c 'read -P 0 1100k 64k' \
      -c 'read -P 20 2M 1M' -c 'read -P 21 5000000 3003'
must_fail . qemu-io -f raw -c 'write 0 4k' "$(snapshot_uri vda one)"
nf snapshot delete vda one
nf snapshot delete vda two
stop_daemon
