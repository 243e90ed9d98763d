#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Tracking through restarts; what is in doubt is said to be, and stays so.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool qemu-img qemu-io

configure () {
  write_config <<X
exports:
  - name: vda
    disk: ${1:-$tmp/a.img}
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
  - name: vdc
    disk: {plugin: file, options: {file: $tmp/c.img}}
X
}
exports="vda vdb vdc"
dir=$state/exports/vda
truncate -s 16M "$tmp/a.img" "$tmp/c.img"
qemu-img create -q -f qcow2 "$tmp/b.qcow2" 16M
configure
start_daemon

# afresh: three checkpoints a, b and c with one cluster changed after each.
afresh () {
  local ex name n
  for ex in $exports; do
    for name in $(checkpoints $ex); do nf checkpoint delete $ex "$name"; done
    wait_for 10 dirty_files $ex 0
  done
  n=0
  for name in a b c; do
    checkpoint ${exports// /,} $name
    n=$((n + 1))
    for ex in $exports; do touch_clusters $ex $n; done
  done
}
# intact MORE: nothing is in doubt; so many more clusters have changed since.
intact () {
  local ex
  for ex in $exports; do
    changed $ex a $((12288 + $1 * 4096))
    changed $ex b $((8192 + $1 * 4096))
    changed $ex c $((4096 + $1 * 4096))
  done
}

say "kill -9 of daemon and servers, apart and together"
afresh
kill_daemon
for ex in $exports; do touch_clusters $ex 10; done
start_daemon
intact 1
for ex in $exports; do
  old=$(pid_of $ex)
  kill -KILL "$old"
  is_another () { [ "$(pid_of $ex)" != "$old" ] && is_running $ex; }
  wait_for 30 is_another
  touch_clusters $ex 11
done
intact 2
servers=$(for ex in $exports; do pid_of $ex; done)
kill_daemon
# shellcheck disable=SC2086
kill -KILL $servers
start_daemon
for ex in $exports; do touch_clusters $ex 12; done
intact 3

say "a clean stop, with the host started again meanwhile"
stop_daemon
for f in "$state"/exports/*/*.dirty; do
  printf 'another boot id.' | dd of="$f" bs=1 seek=3080 conv=notrunc status=none
done
start_daemon
for ex in $exports; do touch_clusters $ex 13; done
intact 4

say "disks that changed while nobody tracked them"
afresh
stop_daemon
printf x | dd of="$tmp/a.img" bs=1 seek=99999 conv=notrunc status=none
qemu-io -f qcow2 -c 'write 1M 64K' "$tmp/b.qcow2" >/dev/null
touch "$tmp/c.img"
start_daemon
for ex in $exports; do
  inconsistent $ex c "the live disk changed while nothing was in front of it"
  for cp in a b; do inconsistent $ex $cp "*"; done
done
# What is made now is good, and the doubt stays.
checkpoint vda d
touch_clusters vda 5
changed vda d 4096
inconsistent vda c "the live disk changed*"
kill_daemon
start_daemon
changed vda d 4096
inconsistent vda a "*"
# Deleting a doubtful one does not make the one before it any better.
nf checkpoint delete vda b
nf checkpoint delete vda c
inconsistent vda a "*"
changed vda d 4096

say "the doubt of one that is deleted is that of the one before"
afresh
of "$dir/b.dirty" state=inconsistent
inconsistent vda a "a later checkpoint, b, is inconsistent: *"
inconsistent vda b "it is damaged"
changed vda c 4096
nf checkpoint delete vda b
wait_for 10 dirty_files vda 2
inconsistent vda a "the deleted checkpoint b after it was inconsistent: *"
changed vda c 4096

say "the host stopped without warning"
afresh
servers=$(for ex in $exports; do pid_of $ex; done)
kill_daemon
# shellcheck disable=SC2086
kill -KILL $servers
for p in $servers; do wait_for 10 dead "$p"; done
printf 'another boot id.' |
  dd of="$dir/c.dirty" bs=1 seek=3080 conv=notrunc status=none
start_daemon
inconsistent vda c "the host stopped without closing it"
inconsistent vda b "*"
changed vdb a 12288

say "the size of the disk changed"
afresh
truncate -s 17M "$tmp/a.img"
touch_clusters vda 4096
inconsistent vda c "the size of the disk changed"
inconsistent vda a "*the size of the disk changed"
checkpoint vda d
touch_clusters vda 4097
changed vda d 4096
truncate -s 16M "$tmp/a.img"
touch_clusters vda 1

say "another disk in the configuration"
cp "$tmp/a.img" "$tmp/other.img"
afresh
configure "$tmp/other.img"
nf reload >/dev/null
wait_for 30 is_running vda
inconsistent vda c "the export has another disk now"
configure
nf reload >/dev/null
wait_for 30 is_running vda
inconsistent vda c "the export has another disk now"
afresh
stop_daemon
configure "$tmp/other.img"
start_daemon
inconsistent vda c "the export has another disk now"
configure
nf reload >/dev/null
wait_for 30 is_running vda

say "files that are damaged, missing or foreign"
# A header that was overwritten in the middle of the chain.
afresh
kill_daemon
printf 9 | dd of="$dir/b.dirty" bs=1 seek=100 conv=notrunc status=none
start_daemon
[ "$(checkpoints vda)" = "a c" ]
[ -e "$dir/b.dirty.bad" ]
inconsistent vda a "b.dirty, which belongs to the same chain, is damaged"
changed vda c 4096
grep -q 'a checkpoint is lost: .*b.dirty: the header is damaged' \
     "$tmp/daemon.log"
kill_daemon
start_daemon
inconsistent vda a "b.dirty, which belongs to the same chain, is damaged"
rm "$dir/b.dirty.bad"
# One that somebody has removed.
afresh
kill_daemon
rm "$dir/b.dirty"
start_daemon
inconsistent vda a "*a file of the checkpoint before it is missing"
changed vda c 4096
# One of another export.
afresh
kill_daemon
cp "$state/exports/vdb/b.dirty" "$dir/b.dirty"
start_daemon
grep -q 'it is a checkpoint of another export' "$tmp/daemon.log"
inconsistent vda a "b.dirty, *"
rm "$dir/b.dirty.bad"

say "what a daemon was about when it died"
# Making one, deleting one, beginning one together with others.
afresh
kill_daemon
cp "$dir/b.dirty" "$dir/x.dirty"
of "$dir/x.dirty" state=prepared
mv "$dir/b.dirty" "$dir/.$(uuid_of "$dir/b.dirty").dirty"
printf 'vdb@c %s\n' "$(uuid_of "$state/exports/vdb/c.dirty")" \
       >"$state/begin-x"
start_daemon
[ "$(checkpoints vda)" = "a c" ]
[ "$(checkpoints vdb)" = "a b" ]
wait_for 10 dirty_files vda 2
changed vda a 12288
changed vda c 4096
changed vdb a 12288
changed vdb b 8192
[ ! -e "$state/begin-x" ]
stop_daemon
