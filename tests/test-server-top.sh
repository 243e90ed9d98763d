#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Backups of the top layer: what is delivered, on top of the layer below, is
# the disk at its instant.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool nbdcopy nbdkit qemu-img qemu-io qemu-nbd

# The layer below: all data.  On top of it some data and some zeroes.
head -c 16M /dev/urandom >"$tmp/base.raw"
for disk in b c; do
  qemu-img create -q -f qcow2 -b "$tmp/base.raw" -F raw "$tmp/$disk.qcow2"
  qemu-io -f qcow2 -c 'write -P 1 1M 64K' -c 'write -z 2M 128K' \
          "$tmp/$disk.qcow2" >/dev/null
done
# A raw disk: data and holes.
truncate -s 16M "$tmp/a.img"
dd if=/dev/urandom of="$tmp/a.img" bs=1M count=1 seek=3 conv=notrunc status=none
cp --sparse=always "$tmp/a.img" "$tmp/d.img"
start qemu-nbd -t -e 8 -A -f qcow2 -k "$tmp/c.sock" "$tmp/c.qcow2"
start_nbdkit d file "$tmp/d.img"
wait_for 30 test -S "$tmp/c.sock"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
  - name: vdc
    disk: nbd+unix:///?socket=$tmp/c.sock
  - name: vdd
    disk: $(uri d)
X
start_daemon

# below FILE: $tmp/out has what is below the top layer, and is no backup yet.
below () { rm -f "$tmp/out.nbdfleece"; cp "$1" "$tmp/out"; }

# top EXPORT BELOW: pushes the top layer onto a copy of BELOW, slowly, while
# the guest writes; the outcome is in $tmp/out, and the disk as it was at the
# instant is in $tmp/then.
top () {
  nbdcopy "$(guest_uri "$1")" "$tmp/then"
  below "$2"
  job=$(nf backup "$1" "$tmp/out" --sync top --speed 1 --detach)
  nf job pause "$job" >/dev/null
  wait_for 20 job_is "$job" paused
  guest "$1" 'for i in range (0, 4096, 16): h.pwrite (os.urandom (10), i * 4096)
h.trim (1 << 20, 2 << 20); h.zero (1 << 20, 8 << 20)'
  nf job speed "$job" none >/dev/null
  nf job resume "$job" >/dev/null
  nf job wait "$job" >/dev/null
}

# Nobody writes: nothing but the layer is delivered.
for ex in vdb vdc; do
  say "$ex: a layer on top of another"
  below "$tmp/base.raw"
  nf --json backup $ex "$tmp/out" --sync top >"$tmp/job.json"
  nbdcopy "$(guest_uri $ex)" "$tmp/then"
  same "$tmp/then" "$tmp/out"
  json "d['job']['bytes-total']" <"$tmp/job.json" | finds -x $((3 * 65536))
  json "d['job']['bytes-read']" <"$tmp/job.json" | finds -x 65536
  top $ex "$tmp/base.raw"
  same "$tmp/then" "$tmp/out"
  [ "$(job_field "$job" bytes-total)" -lt $((8 << 20)) ] ||
    fail "most of the disk was delivered"
done

for ex in vda vdd; do
  say "$ex: holes are not in it"
  rm -f "$tmp/out" "$tmp/out.nbdfleece"
  nf backup $ex "$tmp/out" --sync top >/dev/null
  nbdcopy "$(guest_uri $ex)" "$tmp/then"
  same "$tmp/then" "$tmp/out"
  head -c 16M /dev/zero | tr '\0' '\377' >"$tmp/below"
  below "$tmp/below"
  nf --json backup $ex "$tmp/out" --sync top >"$tmp/job.json"
  dd if="$tmp/then" of="$tmp/below" bs=1M count=1 seek=3 skip=3 \
     conv=notrunc status=none
  same "$tmp/below" "$tmp/out"
  json "d['job']['bytes-read'] + d['job']['bytes-offloaded']" \
       <"$tmp/job.json" | finds -x $((1 << 20))
  truncate -s 16M "$tmp/zero"
  top $ex "$tmp/zero"
  same "$tmp/then" "$tmp/out"
done

say "what goes together"
must_fail 'since goes with' nf backup vda "$tmp/x" --sync top --since c
nf backup vda "$tmp/out2" --sync top --checkpoint c >/dev/null
touch_clusters vda 7
cp "$tmp/a.img" "$tmp/then"
nf backup vda "$tmp/out2" --since c >/dev/null
same "$tmp/then" "$tmp/out2"
stop_daemon
