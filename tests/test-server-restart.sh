#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# What dies is started again; guests wait, and snapshots stay true.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img
requires_python_nbd

head -c 8M /dev/urandom >"$tmp/a.img"
qemu-img create -q -f qcow2 "$tmp/b.qcow2" 8M
cp "$tmp/a.img" "$tmp/a.before"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
X
start_daemon
nf snapshot create vda monday >/dev/null

say "nbdkit killed: its guest connects again and waits"
old=$(pid_of vda)
for round in 1 2 3; do
  "$PYTHON" - "$(guest_uri vda)" "$run/vda.pid" $round <<'PY'
import nbd, os, signal, sys
uri, pidfile, seed = sys.argv[1:]
block = bytes([int(seed)]) * 4096
h = nbd.NBD()
h.connect_uri(uri)
h.pwrite(block, 4096 * int(seed))
os.kill(int(open(pidfile).read()), signal.SIGKILL)
try:
    while True:
        h.pwrite(block, 4096 * int(seed))
except nbd.Error:
    pass
h = nbd.NBD()
h.connect_uri(uri)     # never refused
assert h.pread(4096, 4096 * int(seed)) == block
h.pwrite(block, (4 << 20) + 4096 * int(seed))
PY
done
wait_for 10 is_running vda
[ "$(pid_of vda)" != "$old" ]
[ "$(export_field vda restarts)" = 3 ]
nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled"
same "$tmp/a.before" "$tmp/pulled"
grep -q "vda: pid $old died: " "$tmp/daemon.log"

say "the front and the snapshot server killed, one and both"
for victims in backup backup.data 'backup backup.data'; do
  for v in $victims; do kill -KILL "$(cat "$run/$v.pid")"; done
  nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled"
  same "$tmp/a.before" "$tmp/pulled"
done

say "qemu-nbd killed: the guest does not notice"
"$PYTHON" - "$(guest_uri vdb)" "$run/vdb.qemu.pid" <<'PY'
import nbd, os, signal, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"x" * 4096, 0)
h.flush()
for i in range(3):
    os.kill(int(open(sys.argv[2]).read()), signal.SIGKILL)
    assert h.pread(4096, 0) == b"x" * 4096
    h.pwrite(b"x" * 4096, 8192)
PY
[ "$(state_of vdb)" = running ]

say "what cannot start is tried again, and the reason is shown"
mv "$tmp/a.img" "$tmp/away"
kill -KILL "$(cat "$run/vda.pid")"
reason_is () { [[ $(export_field vda reason) == *"$1"* ]]; }
wait_for 20 reason_is 'a.img'
[ "$(state_of vda)" != running ]
must_fail 'vda is not running: .*a.img' nf snapshot create vda tuesday
must_fail 'a.img' nf snapshot create vdb,vda tuesday
must_fail 'vdb has no snapshot' nf snapshot delete vdb tuesday
mv "$tmp/away" "$tmp/a.img"
wait_for 60 is_running vda
[ "$(export_field vda reason)" = None ]
nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled"
same "$tmp/a.before" "$tmp/pulled"

say "a snapshot is deleted while its nbdkit is down"
mv "$tmp/a.img" "$tmp/away"
kill -KILL "$(cat "$run/vda.pid")"
wait_for 20 reason_is 'a.img'
nf snapshot delete vda monday
no_snapshot_files
mv "$tmp/away" "$tmp/a.img"
wait_for 60 is_running vda
stop_daemon
