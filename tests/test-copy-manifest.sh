#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: a manifest has the digests of the disk as it was, also of a copy that
# was killed again and again and of incrementals; it proves the backup without
# its source, and finds a single byte that was flipped.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool qemu-img qemu-nbd

uuid () { printf '00000000-0000-4000-8000-%012d' "$1"; }

# judge MANIFEST MODEL [OFFSET LENGTH...]: every digest is right, and all of the
# model, or of those ranges, is there once; by another program.
judge () {
  "$PYTHON" - "$@" <<'PY'
import hashlib, json, sys
m = json.load (open (sys.argv[1]))
disk = open (sys.argv[2], "rb").read ()
ranges = [int (a) for a in sys.argv[3:]] or [0, len (disk)]
assert m["nbdfleece-manifest"] == 1 and m["digest"] == "sha256"
assert m["size"] == len (disk), m["size"]
want = set ()
c = m["cluster-size"]
for at, n in zip (ranges[::2], ranges[1::2]):
  want |= set (range (at // c, (at + n + c - 1) // c))
have, end, rows = set (), 0, b""
total = {"sha256": 0, "zero": 0, "lost": 0}
for e in m["extents"]:
  at, n = e["offset"], e["length"]
  assert at >= end and at % c == 0 and n > 0
  end = at + n
  have |= set (range (at // c, (end + c - 1) // c))
  kind = [k for k in total if k in e][0]
  total[kind] += n
  d = bytes (32)
  if kind == "sha256":
    d = hashlib.sha256 (disk[at:end]).digest ()
    assert d.hex () == e["sha256"], e
    assert any (disk[at:end])
  elif kind == "zero":
    assert not any (disk[at:end]), e
  rows += at.to_bytes (8, "big") + n.to_bytes (8, "big") \
    + bytes ([1 + list (total).index (kind)]) + d
assert have == want, (sorted (want - have)[:5], sorted (have - want)[:5])
assert m["extents-sha256"] == hashlib.sha256 (rows).hexdigest ()
assert [m["bytes-data"], m["bytes-zero"], m["bytes-lost"]] == list (total.values ())
PY
}
proves () { copy --compare "manifest:$1" "$2"; is null first-difference; }

make_image "$tmp/disk" 1M:r 1M:- 1M:0 2M:A 1500K:r 300K:- 1537:r
size=$(stat -c %s "$tmp/disk")

say "of each kind of target"
for options in '' --request-size=64K --max-requests=1; do
  begin_snapshot "s${options//[^a-z0-9]/}" "$tmp/disk" 4096
  for target in "$tmp/out" "qcow2:$tmp/out.qcow2"; do
    start_copy $options --manifest="$tmp/manifest" "map:$map" "$target"
    guest_writes "$tmp/disk" 10 50000
    ended 0
    judge "$tmp/manifest" "$tmp/before"
    [ ! -e "$tmp/manifest.part" ] || fail "the journal is left"
    [ "$(field "$tmp/manifest" state)" = completed ]
    [ "$(field "$tmp/manifest" uuid)" = "$(field "$tmp/out.nbdfleece" uuid)" ]
    proves "$tmp/manifest" "$target"
  done
  rm "$tmp/out.qcow2"
  copy $options --compress=zlib --manifest="$tmp/manifest2" "map:$map" "qcow2:$tmp/out.qcow2"
  judge "$tmp/manifest2" "$tmp/before"
  proves "$tmp/manifest2" "qcow2:$tmp/out.qcow2"
  proves "$tmp/manifest" "qcow2:$tmp/out.qcow2"
  "$play" end "$map"
  rm "$tmp/out.qcow2" "$tmp/out.qcow2.nbdfleece"
done
cp --sparse=always "$tmp/before" "$tmp/model"
start_nbdkit served file "$tmp/out"
proves "$tmp/manifest" "$(uri served)"

say "a flipped byte is found, wherever"
cp --sparse=always "$tmp/out" "$tmp/good"
for offset in 0 1500000 2500000 $((4 << 20)) $((size - 1)) $((RANDOM * 200)); do
  cp --sparse=always "$tmp/good" "$tmp/bad"
  "$PYTHON" -c 'import sys
with open (sys.argv[1], "r+b") as f:
  f.seek (int (sys.argv[2])); b = f.read (1)[0]
  f.seek (int (sys.argv[2])); f.write (bytes ([b ^ 16]))' "$tmp/bad" $offset
  copy_ends 1 --compare "manifest:$tmp/manifest" "$tmp/bad"
  grep -q "bad: differs from manifest $tmp/manifest, first in the extent at byte" \
    "$tmp/copy.log"
  first=$(result first-difference)
  [ "$first" -le "$offset" ] && [ $((first + $(result bytes-different))) -gt "$offset" ] ||
    fail "$offset was flipped, $first is said"
done
# Data that is gone: a hole in its place.
cp --sparse=always "$tmp/good" "$tmp/bad"
fallocate -p -o $((3 << 20)) -l 65536 "$tmp/bad"
copy_ends 1 --compare "manifest:$tmp/manifest" "$tmp/bad"

say "a manifest that was changed proves nothing"
sed 's/"length":\([0-9]\)/"length":1\1/' "$tmp/manifest" >"$tmp/edited"
must_fail 'not a manifest of a backup, or damaged' \
  "$NBDFLEECE_COPY" --compare "manifest:$tmp/edited" "$tmp/good"
grep -v '"zero":true' "$tmp/manifest" >"$tmp/edited"
must_fail 'damaged' "$NBDFLEECE_COPY" --compare "manifest:$tmp/edited" "$tmp/good"
head -c 600 "$tmp/manifest" >"$tmp/edited"
must_fail 'damaged' "$NBDFLEECE_COPY" --compare "manifest:$tmp/edited" "$tmp/good"
must_fail 'No such file' "$NBDFLEECE_COPY" --compare "manifest:$tmp/no" "$tmp/good"
must_fail 'for --compare only' "$NBDFLEECE_COPY" "manifest:$tmp/manifest" "$tmp/x"
truncate -s -1 "$tmp/bad"
must_fail 'another size' "$NBDFLEECE_COPY" --compare "manifest:$tmp/manifest" "$tmp/bad"

say "an incremental"
cp "$tmp/good" "$tmp/disk"
begin_snapshot i0 "$tmp/disk" 4096
copy --checkpoint="c0,$(uuid 0)" "map:$map" "qcow2:$tmp/0.qcow2"
"$play" write "$map" "$tmp/disk" 1000000 300000 7
"$play" write "$map" "$tmp/disk" 4500000 100000 0
"$play" end "$map"
begin_snapshot i1 "$tmp/disk" 4096
"$bitmap" new "$tmp/bits" "$size" 4096 1000000 300000 4500000 100000
copy --copy-bitmap="$tmp/bits" --since="c0,$(uuid 0)" --backing="$tmp/0.qcow2" \
  --manifest="$tmp/manifest" "map:$map" "qcow2:$tmp/1.qcow2"
judge "$tmp/manifest" "$tmp/before" 1000000 300000 4500000 100000
[ "$(field "$tmp/manifest" since)" = c0 ]
proves "$tmp/manifest" "qcow2:$tmp/1.qcow2"
copy_ends 1 --compare "manifest:$tmp/manifest" "qcow2:$tmp/0.qcow2"
"$play" end "$map"

say "killed again and again"
make_image "$tmp/disk" 3M:r 1M:- 4M:r 1M:A 3M:r 1537:r
size=$(stat -c %s "$tmp/disk")
for how in "" --release; do
  begin_snapshot "k${how#--}" "$tmp/disk" 4096
  rm -f "$tmp/out" "$tmp/out.nbdfleece" "$tmp/bits" "$tmp/manifest"
  "$bitmap" new "$tmp/bits" "$size" 4096 0 "$size"
  for ((i = 1; i <= 8; i++)); do
    start_copy $how --copy-bitmap="$tmp/bits" --manifest="$tmp/manifest" \
      --request-size=$((64 << RANDOM % 4))K --flush-interval=$((1 + RANDOM % 30))ms \
      --speed=$((8 + RANDOM % 20))M "map:$map" "$tmp/out"
    guest_writes "$tmp/disk" 3 100000
    sleep 0.0$((RANDOM % 10))
    stop "$copier" KILL 2>/dev/null
  done
  say "left: $("$bitmap" show "$tmp/bits" | sed -n 1p) of $size"
  copy $how --copy-bitmap="$tmp/bits" --manifest="$tmp/manifest" "map:$map" "$tmp/out"
  same "$tmp/out" "$tmp/before"
  judge "$tmp/manifest" "$tmp/before"
  proves "$tmp/manifest" "$tmp/out"
  [ ! -e "$tmp/manifest.part" ] || fail "the journal is left"
  # And once more, as after a kill at its very end.
  if [ -z "$how" ]; then
    copy --copy-bitmap="$tmp/bits" --manifest="$tmp/manifest" "map:$map" "$tmp/out"
    judge "$tmp/manifest" "$tmp/before"
  fi
  "$play" end "$map"
done

say "a journal that is gone, or is another file"
begin_snapshot j "$tmp/disk" 4096
rm -f "$tmp/bits" "$tmp/out" "$tmp/out.nbdfleece"
"$bitmap" new "$tmp/bits" "$size" 4096 0 "$size"
delivered_some () { [ "$("$bitmap" show "$tmp/bits" | sed -n 1p)" -lt "$size" ]; }
start_copy --copy-bitmap="$tmp/bits" --manifest="$tmp/manifest" --speed=4M \
  --flush-interval=1ms "map:$map" "$tmp/out"
wait_for 60 delivered_some
stop "$copier" KILL 2>/dev/null
rm "$tmp/manifest.part"
copy_ends 1 --copy-bitmap="$tmp/bits" --manifest="$tmp/manifest" "map:$map" "$tmp/out"
grep -q 'does not have what was copied before' "$tmp/copy.log"
echo precious >"$tmp/manifest.part"
copy_ends 1 --copy-bitmap="$tmp/bits" --manifest="$tmp/manifest" "map:$map" "$tmp/out"
grep -q 'none of ours' "$tmp/copy.log"
[ "$(cat "$tmp/manifest.part")" = precious ]

say "lost clusters"
"$play" end "$map"
rm "$tmp/manifest.part"
begin_snapshot l "$tmp/disk" 4096
"$play" lose "$map" $((5 << 20)) 8192
copy_ends 3 --manifest="$tmp/manifest" "map:$map" "$tmp/lossy"
[ "$(field "$tmp/manifest" state)" = incomplete ]
[ "$(field "$tmp/manifest" bytes-lost)" = 8192 ]
proves "$tmp/manifest" "$tmp/lossy"
