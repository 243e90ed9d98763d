#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Checkpoints: made, listed, deleted and merged, in any order.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"

truncate -s 16M "$tmp/a.img"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {plugin: memory, options: {size: 5000001}}
X
start_daemon
dir=$state/exports/vda

say "none yet"
[ "$(nf checkpoint list vda)" = "no checkpoints" ]
touch_clusters vda 1 2 3
dirty_files vda 0
must_fail 'export vda has no checkpoint a' nf checkpoint delete vda a
must_fail 'no export vdz' nf checkpoint list vdz

say "one instant for two disks, and what changes since"
checkpoint vda,vdb a
touch_clusters vda 1 2 3
guest vdb 'h.pwrite (b"x", 5000000); h.zero (4096, 8192)'
changed vda a 12288
changed vdb a $((4096 + 5000001 % 4096))
nf checkpoint list vda | finds -E '^a +20[0-9: -]+ +12K +- +consistent +-$'
checkpoint vda b
touch_clusters vda 3 4
checkpoint vda c
touch_clusters vda 5
[ "$(checkpoints vda)" = "a b c" ]
changed vda a 20480
changed vda b 12288
changed vda c 4096

say "what cannot be made, and leaves nothing"
must_fail 'vda: checkpoint b exists' nf snapshot create vda,vdb s --checkpoint b
must_fail 'vdb: checkpoint a exists' nf snapshot create vdb s --checkpoint a
must_fail 'no name for a checkpoint' nf snapshot create vda s --checkpoint a/b
must_fail 'no name for a checkpoint' nf snapshot create vda s --checkpoint .a
must_fail 'snapshot s exists' bash -c "
  '$NBDFLEECE' -s '$run/control.sock' snapshot create vda s >/dev/null &&
  '$NBDFLEECE' -s '$run/control.sock' snapshot create vda s --checkpoint d"
nf snapshot delete vda s
no_snapshot_files
[ "$(checkpoints vda)" = "a b c" ]
[ "$(checkpoints vdb)" = "a" ]
dirty_files vda 3

say "the middle one deleted"
nf checkpoint delete vda b
[ "$(checkpoints vda)" = "a c" ]
changed vda a 20480
changed vda c 4096
wait_for 10 dirty_files vda 2
changed vda a 20480
[ "$(of "$dir/c.dirty" prev)" = "$(of "$dir/a.dirty" uuid)" ]
[ "$(of "$dir/a.dirty" clean)" = 1 ]
must_fail 'no checkpoint b' nf checkpoint delete vda b

say "the newest deleted: its file goes on counting for the one before"
nf checkpoint delete vda c
[ "$(checkpoints vda)" = a ]
touch_clusters vda 6
changed vda a 24576
dirty_files vda 2
checkpoint vda c
touch_clusters vda 7
wait_for 10 dirty_files vda 2
changed vda a 28672
changed vda c 4096

say "the oldest deleted"
nf checkpoint delete vda a
wait_for 10 dirty_files vda 1
changed vda c 4096
checkpoint vda d
changed vda c 4096

say "all deleted: nothing is tracked any more"
nf checkpoint delete vda d
nf checkpoint delete vda c
wait_for 10 dirty_files vda 0
tracks () { echo untrack | "$abs_top_builddir/tests/ctl" "$run/vda.ctl"; }
[ "$(tracks)" = "error ENOENT" ]
touch_clusters vda 1
checkpoint vda c
changed vda c 0
[ "$(of "$dir/c.dirty" prev)" = 00000000000000000000000000000000 ]
touch_clusters vda 9
changed vda c 4096

say "deleted and made again, over and over"
for i in 1 2 3 4 5; do
  checkpoint vda x$i
  nf checkpoint delete vda x$i
done
wait_for 10 dirty_files vda 2
changed vda c 4096

say "clusters of another size"
sed -i "s|disk: $tmp/a.img|&\n    cluster-size: 64K|" "$config"
nf reload >/dev/null
wait_for 30 is_running vda
checkpoint vda big
touch_clusters vda 16 17 40
changed vda big $((2 * 65536))
changed vda c $((3 * 65536))
sed -i 's|cluster-size: 64K|cluster-size: 4K|' "$config"
nf reload >/dev/null
wait_for 30 is_running vda
checkpoint vda small
touch_clusters vda 100
changed vda big $((2 * 65536 + 4096))
nf checkpoint delete vda big
wait_for 10 dirty_files vda 2
changed vda c $((4096 + 2 * 65536 + 4096))
changed vda small 4096

say "an export that goes takes its checkpoints along"
sed -i '/name: vdb/,$d' "$config"
nf reload >/dev/null
wait_for 30 test ! -e "$state/exports/vdb"
stop_daemon
