#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The kernel as client: a mounted live disk, and its snapshot mounted beside it.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/clients.sh"
requires_loop_mount
requires_tool nbdcopy e2fsck debugfs mke2fs

make_disk "$tmp/a.img" 60
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img, cluster-size: 64K}
X
start_daemon

say "the live disk is mounted and holds more files"
mount_nbd "$(guest_uri vda)" "$tmp/live" -o loop
same_tree "$tmp/live"
cp -r "$abs_top_srcdir/docs" "$tmp/live/docs"
cp -r "$abs_top_srcdir/docs" "$tmp/tree/docs"
rm "$tmp/live/a/random3" "$tmp/tree/a/random3"
sync -f "$tmp/live"

say "a snapshot is taken, and the files change"
fsfreeze -f "$tmp/live"
nf snapshot create vda then >/dev/null
fsfreeze -u "$tmp/live"
rm -r "$tmp/live/docs" "$tmp/live/text"
for i in 1 2 3 4 5 6; do
  head -c 4M /dev/urandom >"$tmp/live/new$i"
done
head -c 900001 /dev/urandom >"$tmp/live/a/random1"
sync -f "$tmp/live"
fstrim "$tmp/live" || say "no fstrim here"

say "the snapshot is mounted beside it"
mount_nbd "$(snapshot_uri vda then)" "$tmp/then" -o ro,loop
same_tree "$tmp/then"
[ ! -e "$tmp/then/new1" ]

say "and pulled"
nbdcopy "$(snapshot_uri vda then)" "$tmp/pulled"
check_image "$tmp/pulled"
unmount_all
wait_for 30 dead "$fuse"        # that of the snapshot: it is the last
nf snapshot delete vda then
e2fsck -fn "$tmp/a.img" >"$tmp/e2fsck.out" 2>&1 ||
  { cat "$tmp/e2fsck.out" >&2; fail "the live disk is damaged"; }
stop_daemon
