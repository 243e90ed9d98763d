#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: what cannot work is refused before the target is touched, with one
# line that says why, status 1 or 2, and a result that says failed.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit qemu-img

make_image "$tmp/disk" 1M:r 1M:-
size=$((2 << 20))
begin_snapshot s "$tmp/disk" 65536
start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"
uri=$(uri s vda@s)

# refused STATUS PATTERN ARGS...: and one line is all that is said.
refused () {
  local want=$1 pattern=$2 status=0
  shift 2
  "$NBDFLEECE_COPY" --result="$tmp/result.json" "$@" \
    >"$tmp/said" 2>&1 </dev/null || status=$?
  [ $status = "$want" ] || { cat "$tmp/said"; fail "status $status: $*"; }
  grep -Eq "$pattern" "$tmp/said" ||
    { cat "$tmp/said"; fail "does not match '$pattern': $*"; }
  [ "$(wc -l <"$tmp/said")" = 1 ] ||
    { cat "$tmp/said"; fail "more than one line: $*"; }
  if [ $status = 1 ]; then
    is failed state
    grep -qF "$(result error)" "$tmp/said"
    rm "$tmp/result.json"
  fi
  [ ! -e "$tmp/result.json" ] || fail "a result: $*"
  [ ! -e "$tmp/out" ] || fail "a target: $*"
}

# The command line.
usage () {
  local pattern=$1
  shift
  must_fail "$pattern" "$NBDFLEECE_COPY" "$@"
  "$NBDFLEECE_COPY" "$@" 2>/dev/null || [ $? = 2 ] || fail "not status 2: $*"
}
usage 'takes a source and a target'
usage 'takes a source and a target' "map:$map"
usage 'takes a source and a target' "map:$map" "$tmp/out" more
usage 'unrecognized option' --nonsense "map:$map" "$tmp/out"

usage 'speed=-1: not a valid size' --speed=-1 "map:$map" "$tmp/out"
usage 'speed=fast: not a valid size' --speed=fast "map:$map" "$tmp/out"
usage 'speed=: not a valid size' --speed= "map:$map" "$tmp/out"
usage 'speed=10X: not a valid size' --speed=10X "map:$map" "$tmp/out"
usage 'speed=99999999999999999999: not' --speed=99999999999999999999 \
      "map:$map" "$tmp/out"
usage 'speed=16777217T: not a valid' --speed=16777217T "map:$map" "$tmp/out"
usage 'max-requests=0: must be 1 to' --max-requests=0 "map:$map" "$tmp/out"
usage 'connections=17: must be 1 to 16' --connections=17 "map:$map" "$tmp/out"
usage 'retry=1d: not a valid time' --retry=1d "map:$map" "$tmp/out"
usage 'on-target-error=retry: not a valid action' --on-target-error=retry \
      "map:$map" "$tmp/out"
usage 'request-size: must be a power of two' --request-size=12K \
      "map:$map" "$tmp/out"
usage 'goes with an NBD source' --map="$map" "map:$map" "$tmp/out"
usage 'release needs' --release "$uri" "$tmp/out"
usage 'backing goes with' --backing=x "map:$map" "$tmp/out"
usage 'progress: empty' --progress= "map:$map" "$tmp/out"
usage 'target is empty' "map:$map" ''

# The source.
refused 1 'no-such: map: cannot be opened: No such file' map:/no-such "$tmp/out"
refused 1 'connect: No such file' "$(uri nobody)" "$tmp/out"
refused 1 'connect: .*Connection refused' nbd://127.0.0.1:1/ "$tmp/out"
refused 1 'has no export "vda@t"' "$(uri s vda@t)" "$tmp/out"
refused 1 'nosuch://.*' nosuch://x "$tmp/out"
cp "$map" "$tmp/copy.map"
printf X | dd of="$tmp/copy.map" bs=1 conv=notrunc status=none
refused 1 'copy.map: map: .*' "map:$tmp/copy.map" "$tmp/out"
truncate -s 100 "$tmp/copy.map"
refused 1 'copy.map: map: too short' "map:$tmp/copy.map" "$tmp/out"
rm "$tmp/copy.map"
mkdir "$tmp/dir"
refused 1 'dir: map: .*' "map:$tmp/dir" "$tmp/out"
: >"$tmp/empty"
start_nbdkit empty file "$tmp/empty"
refused 1 'the source is empty' "$(uri empty)" "$tmp/out"
stop "$pid"
start_nbdkit t memory 3M
refused 1 'the map is for a disk of 2097152 bytes, the source has 3145728' \
        --map="$map" "$(uri t)" "$tmp/out"
stop "$pid"

# The copy bitmap.
refused 1 'bits: copy bitmap: No such file' --copy-bitmap="$tmp/bits" \
        "map:$map" "$tmp/out"
refused 1 'map: copy bitmap: .*' --copy-bitmap="$map" "map:$map" "$tmp/out"
"$bitmap" new "$tmp/bits" $((size + 1)) 65536
refused 1 'it is for a disk of 2097153 bytes, the source has 2097152' \
        --copy-bitmap="$tmp/bits" "map:$map" "$tmp/out"
rm "$tmp/bits"
"$bitmap" new "$tmp/bits" $size 4096
refused 1 "its clusters are smaller than the map's" --release \
        --copy-bitmap="$tmp/bits" "map:$map" "$tmp/out"
exec 9<"$tmp/bits"
flock 9
refused 1 'another copier works on this job' --copy-bitmap="$tmp/bits" \
        "map:$map" "$tmp/out"
exec 9<&-
refused 1 "bits: the target is the job's copy bitmap" \
        --copy-bitmap="$tmp/bits" "map:$map" "$tmp/bits"

# The target.
refused 1 'dir: the target is a directory' "map:$map" "$tmp/dir"
refused 1 'target is neither a file nor a block device' "map:$map" /dev/null
refused 1 'cannot be written: No such file' "map:$map" "$tmp/nodir/out"
refused 1 'disk: the target is the live disk' "map:$map" "$tmp/disk"
refused 1 'disk: the target is the live disk' --map="$map" "$uri" "$tmp/disk"
ln -s disk "$tmp/link"
ln "$tmp/disk" "$tmp/hard"
refused 1 'link: the target is the live disk' "map:$map" "$tmp/link"
refused 1 'hard: the target is the live disk' "map:$map" "$tmp/hard"
refused 1 "the target is the snapshot's scratch" "map:$map" \
        "$state/exports/vda/vda@s.scratch"
refused 1 "the target is the snapshot's map" "map:$map" "$map"
refused 1 'the target is the live disk' "map:$map" "qcow2:$tmp/disk"
refused 1 'the target is the source' "$uri" "$uri"
truncate -s $((size - 1)) "$tmp/small"
refused 1 'target is smaller than the disk: 2097151 bytes, not 2097152' \
        "map:$map" "$tmp/small"
start_nbdkit t memory 1M
refused 1 'target is smaller than the disk: 1048576 bytes, not 2097152' \
        "map:$map" "$(uri t)"
stop "$pid"
start_nbdkit t -r memory 2M
refused 1 'the target is read-only' "map:$map" "$(uri t)"
stop "$pid"
refused 1 'connect: No such file' "map:$map" "$(uri nobody)"
exec 9<"$tmp/small"
truncate -s 3M "$tmp/small"
flock 9
refused 1 'small: the target is in use' "map:$map" "$tmp/small"
exec 9<&-
[ "$(stat -c %s "$tmp/small")" = $((3 << 20)) ] || fail "it was touched"

# qcow2 images.
qemu-img create -q -f qcow2 "$tmp/q.img" 1M
refused 1 'image is for another disk' "map:$map" "qcow2:$tmp/q.img"
qemu-img create -q -f qcow2 "$tmp/q.img" 4M
refused 1 'image is for another disk' "map:$map" "qcow2:$tmp/q.img"
make_image "$tmp/raw" 2M:r
refused 1 'raw: not a qcow2 image' "map:$map" "qcow2:$tmp/raw"
refused 1 'No such file' "map:$map" "qcow2:$tmp/nodir/q.img"
qemu-img create -q -f qcow2 "$tmp/q.img" $size
qemu-nbd -f qcow2 -k "$tmp/q.sock" -t "$tmp/q.img" & pids+=($!)
wait_for 10 test -S "$tmp/q.sock"
refused 1 'q.img.*lock' "map:$map" "qcow2:$tmp/q.img"
stop ${pids[-1]}
refused 1 'no-such.*No such file' --backing="$tmp/no-such" "map:$map" \
        "qcow2:$tmp/out"
refused 1 'it is the target itself' --backing="$tmp/q.img" "map:$map" \
        "qcow2:$tmp/q.img"
cp "$tmp/q.img" "$tmp/q2.img"
refused 1 'the image exists' --backing="$tmp/q.img" "map:$map" \
        "qcow2:$tmp/q2.img"
mkdir "$tmp/bin"
ln -s "$(command -v qemu-img)" "$tmp/bin"
printf '#!/bin/sh\nPATH=%s exec %s "$@"\n' "$tmp/bin" "$NBDFLEECE_COPY" \
       >"$tmp/no-qemu-nbd"
chmod +x "$tmp/no-qemu-nbd"
NBDFLEECE_COPY=$tmp/no-qemu-nbd
refused 1 'qemu-nbd: No such file' "map:$map" "qcow2:$tmp/out"
NBDFLEECE_COPY=$abs_top_builddir/copier/nbdfleece-copy

# Snapshots that have ended, and files that are not the snapshot's.
mv "$tmp/disk" "$tmp/moved"
cp "$tmp/moved" "$tmp/disk"
refused 1 'live disk .*/disk: not the file' "map:$map" "$tmp/out"
mv "$tmp/moved" "$tmp/disk"
mv "$state/exports/vda/vda@s.scratch" "$tmp/moved"
refused 1 'its scratch .*: No such file' "map:$map" "$tmp/out"
cp "$tmp/moved" "$state/exports/vda/vda@s.scratch"
refused 1 'its scratch .*: not the file' "map:$map" "$tmp/out"
mv "$tmp/moved" "$state/exports/vda/vda@s.scratch"
"$play" new "$state" vda n "nbd://localhost" $size 65536
"$play" begin "$state/exports/vda/n.map"
refused 1 'its live disk is not a local raw file' \
        "map:$state/exports/vda/n.map" "$tmp/out"
"$play" end "$map"
refused 1 'the snapshot does not exist any more' "map:$map" "$tmp/out"
same "$tmp/disk" "$tmp/before"
