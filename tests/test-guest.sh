#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# A virtual machine fills its disks, is backed up, and goes on.

# The machine is libguestfs's appliance: QEMU with a Linux kernel, without
# hardware acceleration, which hangs on some hosts.  It has two disks of ours:
# vda, a raw file with ext4 on the whole of it, and vdb, a qcow2 image with a
# partition table.  Its script waits on named pipes for what happens outside.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/clients.sh"
requires_tool guestfish nbdcopy qemu-img e2fsck debugfs mke2fs mkfifo tar
# The appliance is made of this machine's kernel.
requires sh -c 'for k in /boot/vmlinuz-*; do [ -r "$k" ] && exit; done; exit 1'
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg

make_tree 200001
tar -C "$tmp/tree" -cf "$tmp/tree.tar" .
truncate -s 200M "$tmp/a.img"
qemu-img create -q -f qcow2 "$tmp/b.qcow2" 400M
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
  - {name: vdb, disk: {qcow2: $tmp/b.qcow2}}
X
start_daemon
mkfifo "$tmp/go" "$tmp/go2"

cat >"$tmp/script" <<X
add vda protocol:nbd server:unix:$run/vda.sock format:raw
add vdb protocol:nbd server:unix:$run/vdb.sock format:raw
run
mkfs ext4 /dev/sda
part-disk /dev/sdb gpt
mkfs ext4 /dev/sdb1 blocksize:1024
mkmountpoint /a
mkmountpoint /b
mount /dev/sda /a
mount /dev/sdb1 /b
tar-in $tmp/tree.tar /a
tar-in $tmp/tree.tar /b
sync
! touch $tmp/filled
! cat $tmp/go >$tmp/started
rm-rf /a/text
rm-rf /b/text
fill-pattern later 5000000 /a/later
fill-pattern later 5000000 /b/later
fill-pattern changed 200001 /a/a/random1
fill-pattern changed 200001 /b/a/random1
sync
! touch $tmp/changed
! cat $tmp/go2 >$tmp/started
fill-pattern latest 5000000 /a/latest
fill-pattern latest 5000000 /b/latest
rm /b/later
rm-rf /a/a
sync
umount /a
umount /b
X
start guestfish -f "$tmp/script" >"$tmp/guest.out" 2>&1
machine=$pid
# reached FILE: the machine's script has come there.
reached () { [ -e "$1" ] || dead "$machine"; }
wait_for_machine () {
  wait_for 500 reached "$1"
  [ -e "$1" ] || { cat "$tmp/guest.out" >&2; fail "the machine ended"; }
}

say "the machine has filled its disks; a snapshot of both, a backup of each"
wait_for_machine "$tmp/filled"
nf snapshot create vda,vdb filled >/dev/null
ida=$(nf backup vda "$tmp/a.backup" --detach | grep -o '[0-9]*' | head -n1)
idb=$(nf backup vdb "qcow2:$tmp/b.backup" --detach | grep -o '[0-9]*' | head -n1)
echo go >"$tmp/go"
nbdcopy "$(snapshot_uri vda filled)" "$tmp/a.pulled"
nbdcopy "$(snapshot_uri vdb filled)" "$tmp/b.pulled"
nf job wait "$ida" >/dev/null
nf job wait "$idb" >/dev/null

say "it has changed them; a snapshot while it is writing"
wait_for_machine "$tmp/changed"
echo go >"$tmp/go2"
wait_for 60 test -e "$tmp/started"
nf snapshot create vda,vdb writing >/dev/null
nbdcopy "$(snapshot_uri vda writing)" "$tmp/a.writing"
nbdcopy "$(snapshot_uri vdb writing)" "$tmp/b.writing"

wait_for 500 dead "$machine"
wait "$machine" || { cat "$tmp/guest.out" >&2; fail "the machine failed"; }
nbdcopy "$(snapshot_uri vda filled)" "$tmp/a.again"
same "$tmp/a.pulled" "$tmp/a.again"
# Nothing was written between the snapshot and the backups.
same "$tmp/a.pulled" "$tmp/a.backup"
qemu-img compare -q -f raw -F qcow2 "$tmp/b.pulled" "$tmp/b.backup"
nf snapshot delete vda filled
nf snapshot delete vdb filled
nf snapshot delete vda writing
nf snapshot delete vdb writing
stop_daemon

# The disks were in use at the instant, so the journal is to be replayed, and
# nothing else to be repaired.
replay () {
  e2fsck -p "$1" >"$tmp/e2fsck.out" 2>&1 || [ $? = 1 ] ||
    { cat "$tmp/e2fsck.out" >&2; fail "e2fsck -p does not like $1"; }
}

say "the ext4 images hold what they held"
replay "$tmp/a.pulled"
check_image "$tmp/a.pulled"
replay "$tmp/a.writing"
e2fsck -fn "$tmp/a.writing" >"$tmp/e2fsck.out" 2>&1 ||
  { cat "$tmp/e2fsck.out" >&2; fail "a.writing is damaged"; }
debugfs -R "dump /later $tmp/later" "$tmp/a.writing" 2>"$tmp/debugfs.out"
"$PYTHON" -c 'print(end=("later" * 1000000))' >"$tmp/want"
same "$tmp/want" "$tmp/later"

say "and so do the partitioned ones, as a machine sees them"
guestfish >"$tmp/check.out" 2>&1 <<X || { cat "$tmp/check.out" >&2; fail "check"; }
add $tmp/b.pulled format:raw
add $tmp/b.writing format:raw
run
mkmountpoint /1
mkmountpoint /2
mount /dev/sda1 /1
tar-out /1 $tmp/b.tar
mount /dev/sdb1 /2
download /2/later $tmp/later
download /2/a/random1 $tmp/random1
umount /1
umount /2
e2fsck-f /dev/sda1
e2fsck-f /dev/sdb1
X
mkdir "$tmp/unpacked"
tar -C "$tmp/unpacked" -xf "$tmp/b.tar"
same_tree "$tmp/unpacked"
same "$tmp/want" "$tmp/later"
! cmp -s "$tmp/tree/a/random1" "$tmp/random1" || fail "random1 did not change"
