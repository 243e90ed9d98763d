#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Snapshots through the daemon: created, pulled, listed, deleted.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy nbdinfo qemu-img qemu-io
requires_python_nbd

mkdir "$tmp/scratch"
head -c 8M /dev/urandom >"$tmp/a.img"
head -c 4M /dev/urandom >"$tmp/raw"
qemu-img convert -f raw -O qcow2 "$tmp/raw" "$tmp/b.qcow2"
cp "$tmp/a.img" "$tmp/a.before"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
    scratch: $tmp/scratch
X
start_nbdkit other memory 1M
cat >>"$config" <<X
  - name: vdc
    disk: $(uri other)
X
start_daemon

overwrite () {
  "$PYTHON" - "$(guest_uri "$1")" <<'PY'
import nbd, os, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
for i in range(0, h.get_size(), 1 << 20):
    h.pwrite(os.urandom(1 << 20), i)
h.flush()
PY
}

say "two exports at one instant"
nf snapshot create vda,vdb monday
[ -f "$tmp/scratch/vdb@monday.scratch" ]
[ -f "$state/exports/vda/vda@monday.scratch" ]
overwrite vda
overwrite vdb
nbdcopy "$(snapshot_uri vda monday)" "$tmp/a.pulled"
nbdcopy "$(snapshot_uri vdb monday)" "$tmp/b.pulled"
same "$tmp/a.before" "$tmp/a.pulled"
same "$tmp/raw" "$tmp/b.pulled"

say "it shows what the guest's writes cost"
nf --json snapshot list vda >"$tmp/list"
[ "$(json "d['snapshots'][0]['clusters-copied']" <"$tmp/list")" = 2048 ]
[ "$(json "d['snapshots'][0]['scratch-bytes']" <"$tmp/list")" = $((8 << 20)) ]
[ "$(json "d['snapshots'][0]['clusters-lost']" <"$tmp/list")" = 0 ]
[ "$(export_field vda writes)" = 8 ]
[ "$(export_field vda cow-requests)" = 8 ]

say "a second one of the same export"
nf snapshot create vda tuesday
nbdcopy "$(snapshot_uri vda tuesday)" "$tmp/pulled"
same "$tmp/a.img" "$tmp/pulled"
nbdinfo --list "nbd+unix:///?socket=$run/backup.sock" >"$tmp/exports"
[ "$(grep -c ^export= "$tmp/exports")" = 3 ]

say "what cannot be created leaves nothing behind"
find "$state" "$tmp/scratch" -type f | sort >"$tmp/files"
must_fail 'snapshot monday exists' nf snapshot create vda monday
must_fail 'no export vdz' nf snapshot create vda,vdz wednesday
must_fail 'vdb: snapshot monday exists' nf snapshot create vdb monday
for name in a/b .. . 'a b' "$(printf 'x%.0s' {1..65})" ''; do
  must_fail 'name|expected' nf snapshot create vda "$name"
done
find "$state" "$tmp/scratch" -type f | sort | diff "$tmp/files" -

say "deleted: not while it is read, or by force: gone for readers, others stay"
"$PYTHON" - "$(snapshot_uri vda monday)" "$NBDFLEECE" "$run/control.sock" <<'PY'
import nbd, os, subprocess, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pread(4096, 0)
command = [sys.argv[2], "-s", sys.argv[3], "snapshot", "delete", "vda",
           "monday"]
r = subprocess.run(command, capture_output=True, text=True)
assert r.returncode == 1 and r.stdout == "", r
assert r.stderr == "nbdfleece: snapshot monday of export vda is being read " \
    "by the local process %d; --force deletes it all the same\n" \
    % os.getpid(), r
h.pread(4096, 0)
subprocess.run(command + ["--force"], check=True)
try:
    h.pread(4096, 0)
except nbd.Error as e:
    assert e.errno == "ESHUTDOWN", e
else:
    raise Exception("it could still be read")
PY
must_fail 'no snapshot monday' nf snapshot delete vda monday
must_fail 'monday' nbdinfo "$(snapshot_uri vda monday)"
nbdcopy "$(snapshot_uri vda tuesday)" "$tmp/pulled"
same "$tmp/a.img" "$tmp/pulled"
nf snapshot delete vda tuesday
nf snapshot delete vdb monday
no_snapshot_files || fail "left: $(find "$state" -type f)"
[ -z "$(ls "$tmp/scratch")" ]

say "snapshots outlast the daemon where the disk can be looked at"
cp "$tmp/a.img" "$tmp/a.before"
nf snapshot create vda,vdb,vdc friday >/dev/null
overwrite vda
nbdcopy "$(snapshot_uri vdb friday)" "$tmp/b.before"
overwrite vdb
stop_daemon
grep -q 'vdc: snapshot friday ends: its disk cannot be looked at' "$tmp/daemon.log"
start_daemon
overwrite vda
overwrite vdb
nbdcopy "$(snapshot_uri vda friday)" "$tmp/a.pulled"
same "$tmp/a.before" "$tmp/a.pulled"
nbdcopy "$(snapshot_uri vdb friday)" "$tmp/b.pulled"
same "$tmp/b.before" "$tmp/b.pulled"
must_fail 'vdc has no snapshot' nf snapshot delete vdc friday

say "but not a change of the disk meanwhile"
stop_daemon
printf x | dd of="$tmp/a.img" conv=notrunc status=none
qemu-io -c 'write -P 1 0 4k' "$tmp/b.qcow2" >/dev/null
start_daemon
for e in vda vdb; do
  must_fail friday nf snapshot delete $e friday
  grep -q "$e: snapshot friday is lost: .*changed" "$tmp/daemon.log"
done
no_snapshot_files

say "nor another disk: while the daemon runs"
nf snapshot create vda,vdb friday >/dev/null
cp "$tmp/a.img" "$tmp/a2.img"
sed -i "s|a.img|a2.img|" "$config"
nf backup vda "$tmp/out" --speed 512K --detach >/dev/null
must_fail 'vda has another disk, but a job is running' nf reload
nf job cancel 1 >/dev/null
nf job wait 1 >/dev/null 2>&1 || true
old=$(pid_of vda)
nf reload
wait_for 20 dead "$old"
wait_for 20 is_running vda
[ "$(nf --json snapshot list | json "[s['export'] for s in d['snapshots']]")" = "['vdb']" ]
[ "$(export_field vda disk)" = "$tmp/a2.img" ]
nf snapshot create vda friday >/dev/null

say "nor while it does not"
kill_daemon
sed -i "s|a2.img|a.img|" "$config"
start_daemon
[ "$(nf --json snapshot list | json "[s['export'] for s in d['snapshots']]")" = "['vdb']" ]
nf snapshot delete vdb friday
no_snapshot_files
stop_daemon
