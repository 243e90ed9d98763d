#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Verify: a snapshot and what a target holds of it, equal or different, while the
# guest goes on; as a job among others; and what cannot be compared.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img qemu-io
requires_python_nbd

head -c 8M /dev/urandom >"$tmp/a.img"
truncate -s 12M "$tmp/a.img"
qemu-img convert -f raw -O qcow2 "$tmp/a.img" "$tmp/b.qcow2"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
X
start_daemon

scribble () {
  "$PYTHON" - "$(guest_uri "$1")" <<'PY'
import nbd, os, random, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
for i in range (50):
  h.pwrite (os.urandom (4096), random.randrange (h.get_size () // 4096) * 4096)
h.shutdown ()
PY
}
verify () { nf verify "$@" >"$tmp/out"; }

for disk in vda vdb; do
  say "$disk: equal"
  nf snapshot create $disk monday >/dev/null
  nbdcopy "$(snapshot_uri $disk monday)" "$tmp/copy"
  cp --sparse=always "$tmp/copy" "$tmp/good"
  qemu-img convert -f raw -O qcow2 "$tmp/copy" "$tmp/good.qcow2"
  scribble $disk
  verify $disk@monday "$tmp/good"
  grep -q "completed: $tmp/good is the same as $disk@monday: 12" "$tmp/out"
  verify $disk@monday "qcow2:$tmp/good.qcow2"
  (cd "$tmp" && nf verify $disk@monday ./good >out)
  start_nbdkit served file "$tmp/good"
  verify $disk@monday "$(uri served)"
  stop "$pid"

  say "$disk: different"
  printf 'x' | dd of="$tmp/copy" bs=1 seek=9000000 conv=notrunc status=none
  printf 'yy' | dd of="$tmp/copy" bs=1 seek=10000000 conv=notrunc status=none
  must_fail "differs from .*, first at byte 9000000: 3 bytes in 2 clusters" \
    nf verify $disk@monday "$tmp/copy"
  status=0
  nf --json verify $disk@monday "$tmp/copy" >"$tmp/json" || status=$?
  [ $status = 1 ]
  json "[d['job'][k] for k in ('kind', 'state', 'first-difference',
    'bytes-different', 'clusters-different')]" <"$tmp/json" >"$tmp/out"
  grep -qx "\['verify', 'failed', 9000000, 3, 2\]" "$tmp/out"
  rm "$tmp/copy"
done

say "a job among others"
job=$(nf verify vda@monday "$tmp/good" --detach --speed 300K)
must_fail "used by job $job" nf snapshot delete vda monday
must_fail "used by job $job" nf verify vda@monday "$tmp/good"
wait_for 30 job_got_further "$job" 0
nf job pause "$job" >/dev/null
wait_for 30 job_is "$job" paused
nf job resume "$job" >/dev/null
kill -KILL "$(job_field "$job" pid)"
kill_daemon
start_daemon
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
nf snapshot list vda | finds monday
job=$(nf verify vdb@monday "$tmp/good" --detach --speed 300K)
wait_for 30 job_got_further "$job" 0
nf job cancel "$job" >/dev/null
must_fail 'cancelled' nf job wait "$job"
nf snapshot list vdb | finds monday
verify vdb@monday "$tmp/good"

say "only what is in scope"
nf snapshot create vda base --checkpoint base >/dev/null
nbdcopy "$(snapshot_uri vda base)" "$tmp/base"
"$PYTHON" -c 'import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b"z" * 8192, 1 << 20)
h.shutdown ()' "$(guest_uri vda)"
nf snapshot create vda dirty --since base --scope dirty >/dev/null
must_fail 'first at byte 10485(76|77): 8[0-9]* bytes in 2 clusters' \
  nf verify vda@dirty "$tmp/base"
dd if="$tmp/a.img" of="$tmp/base" bs=4096 skip=256 seek=256 count=2 conv=notrunc status=none
printf 'not looked at' | dd of="$tmp/base" conv=notrunc status=none
verify vda@dirty "$tmp/base"

say "what cannot be"
truncate -s 11M "$tmp/short"
must_fail 'another size: 11534336 bytes, not 12582912' nf verify vda@base "$tmp/short"
must_fail 'No such file' nf verify vda@base "$tmp/nowhere"
must_fail 'No such file' nf verify vda@base "qcow2:$tmp/nowhere"
must_fail 'not a qcow2 image' nf verify vda@base "qcow2:$tmp/good"
must_fail 'is a directory' nf verify vda@base "$tmp"
must_fail 'no snapshot tuesday' nf verify vda@tuesday "$tmp/good"
must_fail 'no export vdx' nf verify vdx@base "$tmp/good"
must_fail "'@base': expected EXPORT@SNAPSHOT" nf verify @base "$tmp/good"
must_fail "'vda@': expected EXPORT@SNAPSHOT" nf verify vda@ "$tmp/good"
must_fail 'a job, and TARGET' nf verify vda@base
[ -z "$(find "$run" -name 'job-*')" ] || fail "job files are left"

stop_daemon
