#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: images as sources are what their records say, not what the guest has
# written into them; a chain with a link that is lost, cut, replaced or not
# complete is refused; a copy of an image that is interrupted goes on.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool qemu-img qemu-nbd

uuid () { printf '00000000-0000-4000-8000-%012d' "$1"; }

# refused PATTERN ARGS...: and the target is not made.
refused () {
  local pattern=$1
  shift
  must_fail "$pattern" "$NBDFLEECE_COPY" "$@" "$tmp/out"
  [ ! -e "$tmp/out" ] || fail "the target was made"
}

# A chain of two, and a raw image.
make_image "$tmp/disk" 1M:r 1M:- 1M:A 1537:r
size=$(stat -c %s "$tmp/disk")
begin_snapshot s0 "$tmp/disk" 4096
cp --sparse=always "$tmp/before" "$tmp/model0"
copy --checkpoint="c0,$(uuid 0)" "map:$map" "qcow2:$tmp/0.qcow2"
copy "map:$map" "$tmp/raw"
"$play" end "$map"
begin_snapshot s1 "$tmp/disk" 4096
"$play" write "$map" "$tmp/disk" 1500000 100000 7
"$play" end "$map"
begin_snapshot s2 "$tmp/disk" 4096
"$bitmap" new "$tmp/bits" "$size" 4096 1500000 100000
copy --copy-bitmap="$tmp/bits" --since="c0,$(uuid 0)" --backing="$tmp/0.qcow2" \
  "map:$map" "qcow2:$tmp/1.qcow2"

say "what it is"
for image in "$tmp/1.qcow2" "qcow2:$tmp/1.qcow2"; do
  copy "$image" "$tmp/out"
  same "$tmp/out" "$tmp/disk"
  rm "$tmp/out"
done
(cd "$tmp" && "$NBDFLEECE_COPY" 0.qcow2 out)
same "$tmp/out" "$tmp/model0"
rm "$tmp/out"
for image in "$tmp/raw" "raw:$tmp/raw"; do
  copy "$image" "$tmp/out"
  same "$tmp/out" "$tmp/model0"
  rm "$tmp/out"
done

say "a guest that plays tricks"
# Its disk is a qcow2 image on top of a file of the host.
echo secret >"$tmp/secret"
truncate -s 1M "$tmp/secret"
qemu-img create -q -f qcow2 -b "$tmp/secret" -F raw "$tmp/disk2"
truncate -s 1M "$tmp/disk2"
begin_snapshot trick "$tmp/disk2" 4096
copy "map:$map" "$tmp/raw2"
"$play" end "$map"
copy "$tmp/raw2" "$tmp/out"
same "$tmp/out" "$tmp/disk2"
rm "$tmp/out" "$tmp/raw2.nbdfleece"
refused 'begins like a qcow2 image.*say qcow2:.*or raw:' "$tmp/raw2"
copy "raw:$tmp/raw2" "$tmp/out"
same "$tmp/out" "$tmp/disk2"
rm "$tmp/out"

say "not a backup, or not all of it"
refused 'nowhere: No such file' "$tmp/nowhere"
refused 'not a qcow2 image' "qcow2:$tmp/raw"
refused 'raw image by its record|not a qcow2 image' "qcow2:$tmp/raw"
refused 'it is a qcow2 image by its record' "raw:$tmp/1.qcow2"
refused 'Is a directory|neither a file' "$tmp"
cp "$tmp/raw.nbdfleece" "$tmp/saved"
sed -i 's/completed/writing/' "$tmp/raw.nbdfleece"
refused 'has not completed' "$tmp/raw"
sed -i 's/writing/incomplete/' "$tmp/raw.nbdfleece"
refused 'incomplete: clusters were lost' "$tmp/raw"
copy --allow-incomplete "$tmp/raw" "$tmp/out"
rm "$tmp/out"
echo '{"nbdfleece-record": 99}' >"$tmp/raw.nbdfleece"
refused 'not a record of a backup, or damaged' "$tmp/raw"
cp "$tmp/saved" "$tmp/raw.nbdfleece"
truncate -s -512 "$tmp/raw"
refused 'of another size than the backup' "$tmp/raw"
truncate -s +512 "$tmp/raw"

say "a chain that is broken"
mv "$tmp/0.qcow2" "$tmp/0.away"
refused '0.qcow2: No such file' "$tmp/1.qcow2"
mv "$tmp/0.away" "$tmp/0.qcow2"
mv "$tmp/0.qcow2.nbdfleece" "$tmp/saved"
refused 'backing file of .*1.qcow2: there is no record' "$tmp/1.qcow2"
sed 's/"uuid":"./"uuid":"f/' "$tmp/saved" >"$tmp/0.qcow2.nbdfleece"
cmp -s "$tmp/saved" "$tmp/0.qcow2.nbdfleece" &&
  sed 's/"uuid":"./"uuid":"e/' "$tmp/saved" >"$tmp/0.qcow2.nbdfleece"
refused 'backing file of .*1.qcow2: of another chain' "$tmp/1.qcow2"
sed 's/completed/writing/' "$tmp/saved" >"$tmp/0.qcow2.nbdfleece"
refused '0.qcow2: the backup has not completed' "$tmp/1.qcow2"
cp "$tmp/saved" "$tmp/0.qcow2.nbdfleece"
cp "$tmp/0.qcow2" "$tmp/0.saved"
qemu-img resize -q "$tmp/0.qcow2" 8M
refused '0.qcow2: of another size' "$tmp/1.qcow2"
cp "$tmp/0.saved" "$tmp/0.qcow2"

some_delivered () {
  [ "$("$bitmap" show "$tmp/bits" | sed -n 1p)" -lt "$size" ]
}

say "a copy that is interrupted goes on"
for image in "$tmp/1.qcow2" "$tmp/disk"; do
  rm -f "$tmp/out" "$tmp/bits"
  start_copy --copy-bitmap="$tmp/bits" --new-bitmap --speed=1M \
    --request-size=64K --flush-interval=50ms "$image" "$tmp/out"
  wait_for 60 has_done $((512 * 1024))
  wait_for 60 some_delivered
  stop "$copier" KILL
  # What has been delivered is not read again.
  copy --copy-bitmap="$tmp/bits" --new-bitmap "$image" "$tmp/out"
  [ "$(result bytes-read)" -lt $((2 << 20)) ] || fail "all of it was read again"
  [ "$("$bitmap" show "$tmp/bits")" = 0 ] || fail "bits are left"
  same "$tmp/out" "$tmp/disk"
done
must_fail 'new-bitmap goes with --copy-bitmap' \
  "$NBDFLEECE_COPY" --new-bitmap "$tmp/disk" "$tmp/out"
