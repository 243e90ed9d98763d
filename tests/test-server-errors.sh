#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Bad input to the daemon: one clear line each, and nothing left behind.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool qemu-img

truncate -s 1M "$tmp/a.img"
truncate -s 1M "$tmp/b.img"

# refused PATTERN: the daemon with the configuration of stdin, with and
# without -n.
refused () {
  write_config
  must_fail "$1" "$NBDFLEECED" -n -c "$config"
  [ "$(grep -c . "$tmp/must_fail.err")" = 1 ] || fail "not one line"
  refused_at_start "$1"
}
refused_at_start () {
  must_fail "$1" "$NBDFLEECED" -f -c "$config"
  [ ! -d "$run" ] || [ -z "$(ls -A "$run")" ] || fail "left: $(ls "$run")"
  [ -z "$(leftovers)" ] || fail "left running: $(leftovers)"
}
export_of () { printf 'exports: [{name: vda, disk: %s}]\n' "$1"; }

say "disks"
ln -s "$tmp/a.img" "$tmp/link"
ln "$tmp/a.img" "$tmp/hard"
: >"$tmp/empty"
mkfifo "$tmp/fifo"
export_of "$tmp/none" | refused 'none: No such file'
export_of "$tmp" | refused 'is a directory'
export_of "$tmp/empty" | refused 'empty: is empty'
export_of "$tmp/fifo" | refused 'neither a regular file nor'
export_of "{qcow2: $tmp/a.img}" | refused 'is not a qcow2 image'
for same in a.img link hard; do
  refused 'disk: the same as|is the disk of export vda, too' <<X
exports:
  - {name: vda, disk: $tmp/a.img}
  - {name: vdb, disk: {plugin: file, options: {file: $tmp/$same}}}
X
done
if [ "$(id -u)" != 0 ]; then
  chmod 0 "$tmp/b.img"
  export_of "$tmp/b.img" | refused 'b.img: Permission denied'
  chmod 600 "$tmp/b.img"
fi
export_of "{plugin: none}" | { write_config; refused_at_start 'vda: .*none'; }
[ "$(grep -c 'vda: started' "$tmp/must_fail.err")" = 1 ] ||
  fail "started again though it was given up"
export_of "{plugin: file, options: {wrong: 1}}" |
  { write_config; refused_at_start 'vda: .*wrong'; }
export_of "nbd+unix:///?socket=$tmp/none.sock" |
  { write_config; refused_at_start 'vda: '; }

say "scratch directory"
refused 'scratch: .*none: No such' <<X
exports: [{name: vda, disk: $tmp/a.img, scratch: $tmp/none}]
X
refused 'scratch: .*a.img: is not a directory' <<X
exports: [{name: vda, disk: $tmp/a.img, scratch: $tmp/a.img}]
X

say "nbdkit missing, or of another version; filter missing"
export_of "$tmp/a.img" | write_config
NBDKIT=$tmp/none refused_at_start 'none is missing; nbdkit .* is needed'
printf '#!/bin/sh\necho name=nbdkit\necho version=1.2.3\n' >"$tmp/other"
chmod +x "$tmp/other"
NBDKIT=$tmp/other refused_at_start 'is version 1.2.3, but the filter was compiled'
NBDFLEECE_FILTER=$tmp/none.so refused_at_start 'the filter is missing'

say "directories and addresses"
printf 'state-dir: %s/none/x\nrun-dir: %s\n' "$tmp" "$run" >"$config"
export_of "$tmp/a.img" >>"$config"
refused_at_start 'state-dir .*none/x: No such'
{ printf 'backup: {listen: [{tcp: 192.0.2.1:1}]}\n'; export_of "$tmp/a.img"; } |
  { write_config; refused_at_start 'cannot listen on 192.0.2.1:1'; }
refused 'tls-certificates: .*none' <<X
backup: {listen: [{tcp: 127.0.0.1:1, tls: require, tls-certificates: $tmp/none}]}
exports: [{name: vda, disk: $tmp/a.img}]
X

say "two daemons"
export_of "$tmp/a.img" | write_config
start_daemon
must_fail "another nbdfleeced uses" "$NBDFLEECED" -f -c "$config"
sed "s|run-dir: .*|run-dir: $tmp/run2|" "$config" >"$tmp/two.yaml"
must_fail "another nbdfleeced uses state-dir" "$NBDFLEECED" -f -c "$tmp/two.yaml"
nf status >/dev/null

say "targets"
must_be_refused () { # TARGET PATTERN
  must_fail "$2" nf backup vda "$1"
  no_snapshot_files || fail "left: $(find "$state" -type f)"
  [ -z "$(find "$run" "$state" -name 'job-*' -o -name '*.copy')" ]
}
truncate -s 100K "$tmp/small"
for disk in a.img link hard; do
  must_be_refused "$tmp/$disk" 'is the live disk of export vda'
  must_be_refused "qcow2:$tmp/$disk" 'is the live disk of export vda'
done
must_be_refused "$(guest_uri vda)" 'is a socket of our own'
must_be_refused "nbd+unix:///vda?socket=$tmp//run/../run/vda.sock" 'our own'
must_be_refused "$state/out" 'a directory of our own'
must_be_refused "$run/out" 'a directory of our own'
must_be_refused "$tmp" 'is a directory'
must_be_refused "$tmp/fifo" 'neither a regular file nor'
must_be_refused "$tmp/none/out" 'its directory does not exist'
must_be_refused "$tmp/small" 'smaller than the disk'
must_be_refused "nbd+unix:///?socket=$tmp/none.sock" 'none.sock'
start_nbdkit ro -r memory 1M
must_be_refused "$(uri ro)" 'read-only|not writable|writ'
start_nbdkit small memory 100K
must_be_refused "$(uri small)" 'smaller than the disk'
must_fail 'no export vdz' nf backup vdz "$tmp/out"
[ ! -e "$tmp/out" ]

say "a file system, or a limit, that takes no file as large as the disk"
requires_tool prlimit
prlimit --pid "$daemon" --fsize=65536:
must_fail 'as large as the disk, which is more than a file may have there' \
  nf snapshot create vda large
prlimit --pid "$daemon" --fsize=unlimited:
no_snapshot_files || fail "left: $(find "$state" -type f)"
must_fail 'File too large' prlimit --fsize=65536 "$NBDFLEECE_COPY" "$tmp/a.img" \
  "$tmp/large"
[ ! -e "$tmp/large" ]

say "maps that are damaged, cut short, or of a newer version"
nf snapshot create vda one >/dev/null
nf snapshot create vda two >/dev/null
nf snapshot create vda three >/dev/null
nf snapshot create vda four >/dev/null
stop_daemon
maps=$state/exports/vda
printf XXXX | dd of="$maps/one.map" bs=1 seek=40 conv=notrunc status=none
truncate -s 5000 "$maps/two.map"
printf '\2' | dd of="$maps/three.map" bs=1 seek=8 conv=notrunc status=none
start_daemon
for name in one two three; do
  grep -q "snapshot $name is lost: .*$name.map: " "$tmp/daemon.log"
  [ ! -e "$maps/vda@$name.scratch" ]
  [ -e "$maps/$name.map.bad" ]
  must_fail "no snapshot $name" nf snapshot delete vda "$name"
done
[ "$(nf --json snapshot list | json "[s['name'] for s in d['snapshots']]")" = "['four']" ]
nf snapshot create vda one >/dev/null

say "leftovers are removed at the start"
stop_daemon
: >"$maps/vda@gone.scratch"
: >"$state/jobs/99.copy"
mkfifo "$run/vda.log"
: >"$run/vda.ctl"
echo 1 >"$run/vda.pid"
start_daemon
[ ! -e "$maps/vda@gone.scratch" ]
[ ! -e "$state/jobs/99.copy" ]
stop_daemon
