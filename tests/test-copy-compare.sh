#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: --compare finds every byte that differs, wherever data and holes are,
# in raw files, qcow2 chains and over NBD, and writes nothing.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool qemu-img qemu-nbd nbdkit

size=$((8 << 20))
tail=1537                       # no whole sector at the end

# poke FILE OFFSET HEX...: so many bytes.
poke () {
  "$PYTHON" -c 'import sys
with open (sys.argv[1], "r+b") as f:
  f.seek (int (sys.argv[2]))
  f.write (bytes.fromhex (sys.argv[3]))' "$@"
}

# differs FIRST BYTES CLUSTERS ARGS...
differs () {
  local first=$1 bytes=$2 clusters=$3
  shift 3
  copy_ends 1 --compare "$@"
  is failed state
  is "$first" first-difference
  is "$bytes" bytes-different
  is "$clusters" clusters-different
  grep -q "differs from .*, first at byte $first: $bytes bytes in $clusters clusters" \
    "$tmp/copy.log"
}
equal () {
  copy --compare "$@"
  is null first-difference
  is 0 bytes-different
}

make_image "$tmp/disk" 1M:r 1M:- 1M:0 2M:A 1M:- 1M:r 1M:- $tail:r
size=$(stat -c %s "$tmp/disk")
begin_snapshot s "$tmp/disk" 4096
guest_writes "$tmp/disk" 40 100000
cp --sparse=always "$tmp/before" "$tmp/same"

say "the same"
equal "map:$map" "$tmp/same"
equal "$tmp/same" "$tmp/before"
# Holes cost nothing to compare.
truncate -s 300G "$tmp/large1"
truncate -s 300G "$tmp/large2"
equal "$tmp/large1" "$tmp/large2"
is 0 bytes-read
qemu-img convert -f raw -O qcow2 "$tmp/same" "$tmp/same.qcow2"
equal "map:$map" "qcow2:$tmp/same.qcow2"
start_nbdkit one file "$tmp/same"
equal "map:$map" "$(uri one)"
# A server without extents, and with blocks longer than the disk's last one.
cp --sparse=always "$tmp/same" "$tmp/padded"
truncate -s $(((size + 4095) / 4096 * 4096)) "$tmp/padded"
start_nbdkit blocks --filter=blocksize-policy --filter=noextents \
  file "$tmp/padded" blocksize-minimum=4096 blocksize-preferred=4096 \
  blocksize-maximum=1M
equal "map:$map" "$(uri blocks)"
equal --request-size=4096 --max-requests=1 "map:$map" "$(uri blocks)"

say "one byte"
# In data, in a hole, in zeroes, the first and the last.
for offset in 0 1000000 1500000 $(((2 << 20) + 4095)) $(((7 << 20) + 5)) \
  $((size - 1)); do
  cp --sparse=always "$tmp/same" "$tmp/other"
  old=$("$PYTHON" -c 'import sys
f = open (sys.argv[1], "rb"); f.seek (int (sys.argv[2])); print (f.read (1)[0])' \
    "$tmp/other" $offset)
  poke "$tmp/other" $offset "$(printf %02x $((old ^ 64)))"
  md5=$(md5sum <"$tmp/other")
  differs $offset 1 1 "map:$map" "$tmp/other"
  differs $offset 1 1 "$tmp/other" "$tmp/same"
  [ "$(md5sum <"$tmp/other")" = "$md5" ] || fail "it wrote"
  truncate -s $(((size + 511) / 512 * 512)) "$tmp/other"
  rm -f "$tmp/other.qcow2"
  qemu-img convert -f raw -O qcow2 "$tmp/other" "$tmp/other.qcow2"
  differs $offset 1 1 "map:$map" "qcow2:$tmp/other.qcow2"
done

say "at random"
for i in 1 2 3 4 5; do
  cp --sparse=always "$tmp/same" "$tmp/other"
  "$PYTHON" - "$tmp/same" "$tmp/other" $RANDOM >"$tmp/expected" <<'PY'
import random, sys
a = open (sys.argv[1], "rb").read ()
b = bytearray (a)
rng = random.Random (int (sys.argv[3]))
for i in range (rng.choice ((1, 10, 200))):
  at = rng.randrange (len (b))
  n = min (len (b) - at, rng.choice ((1, 100, 5000, 300000)))
  b[at:at + n] = rng.randbytes (n) if rng.random () < 0.5 else bytes (n)
b[rng.randrange (len (b))] ^= 1
open (sys.argv[2], "r+b").write (b)
d = [i for i in range (len (a)) if a[i] != b[i]]
print (d[0] if d else 0, len (d), len (set (i // 4096 for i in d)))
PY
  read -r first bytes clusters <"$tmp/expected"
  say "$bytes bytes"
  [ "$bytes" -gt 0 ] || continue # the one bit made it as it was
  differs "$first" "$bytes" "$clusters" "map:$map" "$tmp/other"
  differs "$first" "$bytes" "$clusters" --request-size=4K "map:$map" "$tmp/other"
done

say "a server that goes away for a while counts nothing twice"
start_nbdkit slow --filter=rate file "$tmp/other" rate=40M
server=$pid
start_copy --compare --retry=1m --connections=1 --request-size=64K \
  "map:$map" "$(uri slow)"
wait_for 60 has_done $((1 << 20))
stop "$server" KILL
start_nbdkit slow file "$tmp/other"
ended 1
is "$first" first-difference
is "$bytes" bytes-different
is "$clusters" clusters-different

say "the part that is in a snapshot's scope"
"$play" release "$map" 0 $((2 << 20))
cp --sparse=always "$tmp/same" "$tmp/other"
poke "$tmp/other" 5000 ffffff
equal "map:$map" "$tmp/other"
poke "$tmp/other" $(((3 << 20) + 7)) 0102
differs $(((3 << 20) + 7)) 2 1 "map:$map" "$tmp/other"

say "what cannot be"
truncate -s $((size - 1)) "$tmp/short"
truncate -s $((size + 1)) "$tmp/long"
must_fail "$tmp/short: it has another size: $((size - 1)) bytes, not $size" \
  "$NBDFLEECE_COPY" --compare "$tmp/same" "$tmp/short"
must_fail "$tmp/long: it has another size" \
  "$NBDFLEECE_COPY" --compare "$tmp/same" "$tmp/long"
must_fail 'gone: No such file' "$NBDFLEECE_COPY" --compare "$tmp/same" "$tmp/gone"
must_fail 'gone.qcow2: No such file' \
  "$NBDFLEECE_COPY" --compare "$tmp/same" "qcow2:$tmp/gone.qcow2"
must_fail 'not go with' "$NBDFLEECE_COPY" --compare --release "map:$map" "$tmp/same"
must_fail 'the target is the source' \
  "$NBDFLEECE_COPY" --compare "$tmp/same" "$tmp/same"

