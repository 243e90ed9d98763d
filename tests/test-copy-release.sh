#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: --release frees clusters in map and scratch after the target has
# flushed them, and never before; a scratch that is filling up goes first.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit nbdcopy

size=$((16 << 20))
scratch_blocks () { stat -c %b "$state/exports/vda/vda@$1.scratch"; }

# released OFFSET LENGTH: all of it may not be read any more, by the plugin.
start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"
requires_python_nbd
readable () {
  "$PYTHON" - "$(uri s "vda@$1")" "$size" <<'PY'
import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
n = 0
for o in range (0, int (sys.argv[2]), 65536):
  try:
    h.pread (65536, o)
    n += 65536
  except nbd.Error as e:
    assert e.errnum == 1 or e.errno == "EPERM", e
print (n)
PY
}

say "all of it, source by map and by NBD"
for how in map uri; do
  make_image "$tmp/disk" 12M:r 4M:-
  begin_snapshot $how "$tmp/disk" 65536
  guest_writes "$tmp/disk" 30 300000
  [ "$(scratch_blocks $how)" -gt 1000 ]
  if [ $how = map ]; then source=(map:"$map")
  else source=(--map="$map" "$(uri s vda@uri)"); fi
  rm -f "$tmp/bits" "$tmp/out"
  "$bitmap" new "$tmp/bits" $size 65536
  copy --release --copy-bitmap="$tmp/bits" "${source[@]}" "$tmp/out"
  same "$tmp/out" "$tmp/before"
  [ "$(scratch_blocks $how)" = 0 ] || fail "the scratch has $(scratch_blocks $how)"
  [ "$(readable $how)" = 0 ]
  # What the guest writes now is not copied any more.
  guest_writes "$tmp/disk" 10 300000
  [ "$(scratch_blocks $how)" = 0 ]
done

say "nothing is released that was not flushed"
export BROKEN=$tmp/broken IMG=$tmp/t.img
truncate -s $size "$tmp/t.img"
NBDKIT=$bare_nbdkit start_nbdkit t eval get_size="echo $size" can_write=: can_flush=: \
  can_zero=: can_extents='exit 3' \
  pread='dd if="$IMG" iflag=skip_bytes,count_bytes skip=$4 count=$3' \
  pwrite='dd of="$IMG" oflag=seek_bytes conv=notrunc seek=$4' \
  zero='head -c $3 /dev/zero | dd of="$IMG" oflag=seek_bytes conv=notrunc seek=$4' \
  flush='[ ! -e "$BROKEN" ] || { echo EIO flush >&2; exit 1; }'
make_image "$tmp/disk" 12M:r 4M:-
begin_snapshot f "$tmp/disk" 65536
guest_writes "$tmp/disk" 30 300000
blocks=$(scratch_blocks f)
touch "$tmp/broken"
rm -f "$tmp/bits"
"$bitmap" new "$tmp/bits" $size 65536
copy_ends 1 --release --copy-bitmap="$tmp/bits" "map:$map" "$(uri t)"
[ "$("$bitmap" show "$tmp/bits" | head -n 1)" = $size ] || fail "bits cleared"
[ "$(readable f)" = $size ] || fail "it was released"
[ "$(scratch_blocks f)" = "$blocks" ] || fail "it was punched out"
rm "$tmp/broken"
copy --release --copy-bitmap="$tmp/bits" "map:$map" "$(uri t)"
[ "$(readable f)" = 0 ]
compare_nbd "$(uri t)"

say "what is not in the copy bitmap is released at the start"
make_image "$tmp/disk" 16M:r
begin_snapshot r "$tmp/disk" 65536
guest_writes "$tmp/disk" 40 300000
rm -f "$tmp/bits"
"$bitmap" new "$tmp/bits" $size 65536 $((4 << 20)) $((8 << 20))
start_copy --release --copy-bitmap="$tmp/bits" --speed=10 "map:$map" "$(uri t)"
rest_released () { [ "$(readable r)" -le $((8 << 20)) ]; }
wait_for 30 rest_released
[ "$(readable r)" -gt 0 ] || fail "all of it is released"
order '{"command":"cancel"}'
ended 4

say "a scratch above its watermark is copied first"
make_image "$tmp/disk" 16M:r
begin_snapshot w "$tmp/disk" 65536
# The last quarter is what the guest changes.
"$play" write "$map" "$tmp/disk" $((12 << 20)) $((4 << 20)) 7
rm -f "$tmp/bits"
"$bitmap" new "$tmp/bits" $size 65536
start_nbdkit m memory 16M
start_copy --release --copy-bitmap="$tmp/bits" --scratch-limit=4M --speed=3M \
           --flush-interval=50ms "map:$map" "$(uri m)"
# It goes below the watermark while most of the disk is still to be done.
half_empty () { [ "$(scratch_blocks w)" -le $(((2 << 20) / 512)) ]; }
wait_for 30 half_empty
left=$("$bitmap" show "$tmp/bits" | head -n 1)
[ "$left" -ge $((10 << 20)) ] || fail "only $left bytes were left"
order '{"command":"speed","bytes-per-second":0}'
ended 0
compare_nbd "$(uri m)"
[ "$(scratch_blocks w)" = 0 ]
