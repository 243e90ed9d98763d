#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: a full backup and three incrementals, each on top of the one before;
# every image reads as the disk at its instant, compressed or not, of odd sizes,
# interrupted or not; and what is no earlier backup of the chain is refused.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool qemu-img qemu-nbd

cluster=4096
chains=0

# uuid N: of the Nth checkpoint.
uuid () { printf '00000000-0000-4000-8000-%012d' "$1"; }

# change OFFSET LENGTH BYTE: a guest's write, which the next incremental is to
# have.
change () {
  "$play" write "$map" "$tmp/disk" "$1" "$2" "$3"
  changes+=("$1" "$2")
}

change_at_random () {
  local i offset length size
  size=$(stat -c %s "$tmp/disk")
  for ((i = 0; i < $1; i++)); do
    offset=$(((RANDOM * 32768 + RANDOM) % size))
    length=$((1 + RANDOM % (RANDOM % 4 ? 5000 : 300000)))
    [ $((offset + length)) -le "$size" ] || length=$((size - offset))
    change $offset $length $((RANDOM % 4 * 60))
  done
}

# next_snapshot N: ends the one before and begins the Nth; what was changed in
# between is in $tmp/bits.
next_snapshot () {
  local size
  size=$(stat -c %s "$tmp/disk")
  [ -z "$map" ] || "$play" end "$map"
  begin_snapshot "s$chains-$1" "$tmp/disk" $cluster
  cp --sparse=always "$tmp/before" "$tmp/model$1"
  rm -f "$tmp/bits"
  [ "$1" = 0 ] ||
    "$bitmap" new "$tmp/bits" "$size" $cluster "${changes[@]}"
  changes=()
}

# reads_as IMAGE FILE: but for zeroes after the end.
reads_as () {
  local format=qcow2
  [ "$1" != "$tmp/chain/0.raw" ] || format=raw
  qemu-img convert -f $format -O raw "$1" "$tmp/raw"
  truncate -s "$(stat -c %s "$2")" "$tmp/raw"
  same "$tmp/raw" "$2"
  rm "$tmp/raw"
}

# record IMAGE KEY
record () { field "$1.nbdfleece" "$2"; }

# chain BASE ARGS...: BASE is the target of the full backup.
chain () {
  local base=$1 i image previous
  shift
  : $((chains++))
  rm -rf "$tmp/chain" "$tmp/moved"
  mkdir "$tmp/chain"
  map=
  make_image "$tmp/disk" 2M:r 1M:A 64K:- 3M:r 1M:0 1M:B $tail:r
  next_snapshot 0
  change_at_random 10
  copy "$@" --checkpoint="c0,$(uuid 0)" "map:$map" "$base"
  previous=${base#qcow2:}
  for i in 1 2 3; do
    # What was data is zero now: written so, and in part of a cluster of qcow2.
    change $((i * 300000)) 200000 0
    change $(((i << 20) + 4096)) 4096 0
    # And zeroes over zeroes of an earlier one, data over those.
    change $(((7 << 20) + i * 4096)) 4096 $((i % 2 * 7))
    change $(($(stat -c %s "$tmp/disk") - 1)) 1 $((i % 2))
    change_at_random 20
    next_snapshot $i
    image=$tmp/chain/$i.qcow2
    # The guest goes on while it is copied.
    start_copy "$@" --copy-bitmap="$tmp/bits" --since="c$((i - 1)),$(uuid $((i - 1)))" \
         --checkpoint="c$i,$(uuid $i)" --backing="$previous" --speed=64M \
         "map:$map" "qcow2:$image"
    change_at_random 10
    ended 0
    [ "$("$bitmap" show "$tmp/bits")" = 0 ] || fail "bits are left"
    [ "$(record "$image" state)" = completed ]
    [ "$(record "$image" backing)" = "${previous##*/}" ]
    [ "$(record "$image" since)" = "c$((i - 1))" ]
    [ "$(record "$image" size)" = "$(stat -c %s "$tmp/disk")" ]
    previous=$image
  done
  # All together somewhere else.
  mv "$tmp/chain" "$tmp/moved"
  mkdir "$tmp/chain"
  mv "$tmp"/moved/* "$tmp/chain"
  for i in 1 2 3; do
    qemu-img check -q "$tmp/chain/$i.qcow2"
    reads_as "$tmp/chain/$i.qcow2" "$tmp/model$i"
  done
  reads_as "$tmp/chain/${base##*/}" "$tmp/model0"
}

# Nothing in the newest image but what changed: it is small.
small () {
  local n
  n=$(stat -c %s "$1")
  [ "$n" -lt $((6 << 20)) ] || fail "$1 has $n bytes"
}

for tail in 0 512 4097; do
  say "tail of $tail bytes"
  chain "qcow2:$tmp/chain/0.qcow2"
  small "$tmp/chain/3.qcow2"
  qemu-img info --output=json "$tmp/chain/3.qcow2" >"$tmp/info"
  [ "$(field "$tmp/info" virtual-size)" = \
    $(((($(stat -c %s "$tmp/disk") + 511)) / 512 * 512)) ]
done

for method in zlib zstd; do
  for tail in 0 1 70000; do
    say "$method, tail of $tail bytes"
    chain "qcow2:$tmp/chain/0.qcow2" --compress=$method
    ! ls "$tmp/chain" | grep -v '^[0-3].qcow2\(.nbdfleece\)\?$' ||
      fail "something is left over"
    qemu-img info "$tmp/chain/2.qcow2" | finds "compression type: $method"
    [ "$(stat -c %s "$tmp/chain/0.qcow2")" -lt $((6 << 20)) ] ||
      fail "it is not compressed"
  done
done

# Killed again and again; compressed clusters may not be written twice, so what
# was not flushed is the thing to look at.
kills () {
  local round flush
  for ((round = 0; ; round++)); do
    [ $round -lt 4 ] || speed=0
    [ $((round % 2)) = 0 ] && flush=1h || flush=20ms
    start_copy --copy-bitmap="$tmp/bits" --speed=$speed \
               --flush-interval=$flush "$@"
    [ $round -ge 4 ] || wait_for 60 has_done 200000
    if [ $round -ge 4 ]; then
      ended 0
      break
    fi
    alive "$copier" || fail "it was faster"
    stop "$copier" KILL
  done
}

for args in --quiet --compress=zstd; do
  say "killed: $args"
  tail=4097
  chain "qcow2:$tmp/chain/0.qcow2" "$args"
  change 100000 6000000 5
  change_at_random 40
  next_snapshot 4
  speed=2M
  kills $args --release --backing="$tmp/chain/3.qcow2" \
        --since="c3,$(uuid 3)" --checkpoint="c4,$(uuid 4)" \
        "map:$map" "qcow2:$tmp/chain/4.qcow2"
  qemu-img check -q "$tmp/chain/4.qcow2"
  reads_as "$tmp/chain/4.qcow2" "$tmp/model4"
done

say "on top of a raw file"
tail=0
chain "$tmp/chain/0.raw"

# ---------------------------------------------------------------- bad input

# refused PATTERN ARGS...: fails with a message, makes no image, and leaves the
# records alone.
refused () {
  local pattern=$1 before
  shift
  before=$(cat "$tmp"/chain/*.nbdfleece | sha256sum)
  must_fail "$pattern" "$NBDFLEECE_COPY" "$@" "qcow2:$tmp/chain/new.qcow2"
  [ "$(wc -l <"$tmp/must_fail.err")" = 1 ] || fail "more than one line"
  [ ! -e "$tmp/chain/new.qcow2" ] || fail "an image is left"
  [ ! -e "$tmp/chain/new.qcow2.nbdfleece" ] || fail "a record is left"
  [ "$before" = "$(cat "$tmp"/chain/*.nbdfleece | sha256sum)" ] ||
    fail "a record has changed"
}

last=$tmp/chain/3.qcow2
change 0 4096 9
next_snapshot 4
args=(--copy-bitmap="$tmp/bits" "map:$map")
since=(--since="c3,$(uuid 3)")
refused 'nowhere: No such file' --backing="$tmp/nowhere" "${args[@]}"
refused 'neither a file nor' --backing="$tmp/chain" "${args[@]}"
refused 'it is the live disk' --backing="$tmp/disk" "${args[@]}"
refused 'not a qcow2 image' --backing="qcow2:$tmp/chain/0.raw" "${args[@]}"
refused 'another chain: made neither at checkpoint c9 nor since' \
        --since="c9,$(uuid 9)" --backing="$last" "${args[@]}"
# The name is c3, the checkpoint another one.
refused 'another chain' --since="c3,$(uuid 9)" --backing="$last" "${args[@]}"
refused 'another chain' "${since[@]}" --backing="$tmp/chain/2.qcow2" \
        "${args[@]}"
cp "$last" "$tmp/chain/nameless.qcow2"
refused 'there is no record' "${since[@]}" \
        --backing="$tmp/chain/nameless.qcow2" "${args[@]}"

# altered KEY VALUE: a copy of the last image whose record says so.
altered () {
  cp "$last" "$tmp/chain/other.qcow2"
  "$PYTHON" - "$last.nbdfleece" "$1" "$2" >"$tmp/chain/other.qcow2.nbdfleece" <<'PY'
import json, sys
d = json.load (open (sys.argv[1]))
d[sys.argv[2]] = json.loads (sys.argv[3])
print (json.dumps (d))
PY
}
try=("${since[@]}" --backing="$tmp/chain/other.qcow2" "${args[@]}")
altered export '"vdb"'
refused 'it is of export vdb, not of vda' "${try[@]}"
altered size 4096
refused 'a disk of 4096 bytes, this one has' "${try[@]}"
altered instant-ns 9000000000000000000
refused 'it is newer \(2255-.*\) than this backup \(20' "${try[@]}"
altered state '"writing"'
refused 'has not completed \(writing\)' "${try[@]}"
altered state '"incomplete"'
refused 'has not completed \(incomplete\)' "${try[@]}"
altered nbdfleece-record 2
refused 'not a record of a backup' "${try[@]}"
echo nonsense >"$tmp/chain/other.qcow2.nbdfleece"
refused 'not a record of a backup' "${try[@]}"
altered snapshot '"x"'
qemu-img resize -q "$tmp/chain/other.qcow2" 20M
refused 'of another size: 20971520 bytes' "${try[@]}"
altered snapshot '"x"'
qemu-nbd -f qcow2 -k "$tmp/q.sock" -t "$tmp/chain/other.qcow2" & pids+=($!)
wait_for 10 test -S "$tmp/q.sock"
refused 'new.qcow2: .*lock' "${try[@]}"
stop "${pids[-1]}"
printf '\0\0\0\0\0\0\0\2' |
  dd of="$tmp/chain/other.qcow2" bs=1 seek=72 conv=notrunc status=none
refused 'marked it as corrupt' "${try[@]}"

# An image that is there and is another job's.
must_fail 'not made by this job' "$NBDFLEECE_COPY" \
          --backing="$tmp/chain/2.qcow2" --copy-bitmap="$tmp/bits" "map:$map" \
          "qcow2:$last"
must_fail 'exists, so it cannot be given' "$NBDFLEECE_COPY" \
          --backing="$tmp/chain/2.qcow2" "map:$map" "qcow2:$last"
reads_as "$last" "$tmp/model3"

# An update in place: the image must hold the disk since then, and is brought
# from one instant to the next.
cp "$tmp/model2" "$tmp/place"
cp "$tmp/chain/2.qcow2.nbdfleece" "$tmp/place.nbdfleece"
must_fail 'cannot be brought up to date: it is of another chain' \
          "$NBDFLEECE_COPY" "${since[@]}" "${args[@]}" "$tmp/place"
cp "$tmp/model3" "$tmp/place"
cp "$tmp/chain/3.qcow2.nbdfleece" "$tmp/place.nbdfleece"
copy "${since[@]}" --checkpoint="c4,$(uuid 4)" "${args[@]}" "$tmp/place"
same "$tmp/place" "$tmp/model4"
[ "$(record "$tmp/place" checkpoint)" = c4 ]
[ "$(record "$tmp/place" format)" = raw ]

# Options.
for bad in c3 "c3," ",$(uuid 3)" "c3,$(uuid 3)0" "../c3,$(uuid 3)"; do
  must_fail 'not a name and a UUID' "$NBDFLEECE_COPY" --since="$bad" a://b c
done
must_fail 'takes zlib or zstd' "$NBDFLEECE_COPY" --compress=lzma a://b qcow2:c
must_fail 'goes with a qcow2: target' "$NBDFLEECE_COPY" --compress=zlib a://b c
must_fail 'goes with a qcow2: target' "$NBDFLEECE_COPY" --backing=x a://b c
