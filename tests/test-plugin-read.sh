#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Plugin: real clients read the disk as it was, whatever was written since.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit nbdcopy qemu-img qemu-io
requires_python_nbd

play=$abs_top_builddir/tests/play-filter
RANDOM=${NBDFLEECE_SEED:=$RANDOM}
echo "NBDFLEECE_SEED=$NBDFLEECE_SEED" >&2
state=$tmp/state
mkdir "$state"
start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"

# A disk with data, holes and zeroes, whose size is no multiple of anything.
make_disk () {
  rm -f "$tmp/disk"
  truncate -s "$1" "$tmp/disk"
  head -c 1000000 /dev/urandom |
    dd of="$tmp/disk" bs=1000 seek=300 conv=notrunc status=none
  head -c 700000 /dev/zero |
    dd of="$tmp/disk" bs=1000 seek=2000 conv=notrunc status=none
  head -c 3001 /dev/urandom |
    dd of="$tmp/disk" bs=1 seek=$(($1 - 3001)) conv=notrunc status=none
}

for cluster in 4096 65536 2097152; do
  for size in 8388608 5000001; do
    say "cluster size $cluster, disk size $size"
    make_disk $size
    cp --sparse=always "$tmp/disk" "$tmp/before"
    "$play" new "$state" vda "s$cluster-$size" "file:$tmp/disk" $size $cluster
    map=$state/exports/vda/s$cluster-$size.map
    "$play" begin "$map"
    for ((i = 0; i < 40; i++)); do
      offset=$((RANDOM * 32768 + RANDOM)) length=$((1 + RANDOM * 4))
      offset=$((offset % (size - length)))
      "$play" write "$map" "$tmp/disk" $offset $length $((RANDOM % 256))
    done
    "$play" write "$map" "$tmp/disk" $((size - 1)) 1 7
    if cmp -s "$tmp/disk" "$tmp/before"; then fail "nothing was written"; fi

    uri=$(uri s "vda@s$cluster-$size")
    nbdcopy "$uri" "$tmp/copy"
    same "$tmp/copy" "$tmp/before"
    nbdcopy --requests=1 --request-size=$((1 << 25)) "$uri" "$tmp/copy"
    same "$tmp/copy" "$tmp/before"
    # QEMU sees disks in whole sectors.
    qemu-img convert -f raw -O raw "$uri" "$tmp/copy"
    truncate -s $size "$tmp/copy"
    same "$tmp/copy" "$tmp/before"
    rm "$tmp/copy"
    qemu-img compare -f raw -F raw "$uri" "$tmp/before"

    # Pieces at any offset, of any length, and a hint to cache them.
    "$PYTHON" - "$uri" "$tmp/before" "$NBDFLEECE_SEED" <<'PY'
import nbd, random, sys
uri, path, seed = sys.argv[1:]
random.seed (int (seed))
want = open (path, "rb").read ()
h = nbd.NBD ()
h.connect_uri (uri)
assert h.get_size () == len (want)
assert h.is_read_only () and h.can_cache ()
for i in range (500):
  a = random.randrange (len (want))
  n = random.randrange (1, min (len (want) - a, 100000) + 1)
  if i % 10 == 0:
    h.cache (n, a)
  assert h.pread (n, a) == want[a:a+n], (a, n)
PY
  done
done
