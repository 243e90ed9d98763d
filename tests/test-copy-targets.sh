#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: each source to each target gives the disk as it was, in the disk's
# size, with its holes; odd sizes and all cluster sizes included.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit nbdcopy qemu-img qemu-nbd

start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"

check_file () {
  same "$1" "$tmp/before"
  # Never read, never written: the hole of the spec.
  [ "$(stat -c %b "$1")" -lt $((10 * 2048)) ] || fail "$1 is not sparse"
}

for cluster in 4096 65536 2097152; do
  for tail in 0 1 511 4097; do
    say "cluster size $cluster, $tail bytes more"
    make_image "$tmp/disk" 64K:- 3M:r 2M:0 100K:A 40M:- 5000:r 1M:- 100000:B \
               $((1048576 - 105000)):0 $tail:r
    size=$(stat -c %s "$tmp/disk")
    begin_snapshot "s$cluster-$tail" "$tmp/disk" $cluster
    guest_writes "$tmp/disk" 20 100000
    "$play" write "$map" "$tmp/disk" $((size - 1)) 1 7
    uri=$(uri s "vda@s$cluster-$tail")

    for source in "map:$map" "$uri"; do
      # A file that is not there, and one that holds something.
      rm -f "$tmp/out"
      copy "$source" "$tmp/out"
      check_file "$tmp/out"
      is "$size" bytes-total
      is "$size" bytes-done
      at_least $((36 << 20)) bytes-skipped
      make_image "$tmp/out" 30M:X 30M:X
      copy "$source" "$tmp/out"
      check_file "$tmp/out"

      # A part of it only: the rest of the target stays.
      make_image "$tmp/out" 60M:X
      rm -f "$tmp/bits"
      "$bitmap" new "$tmp/bits" "$size" $cluster 0 $((4 << 20)) \
                $((size - 1)) 1
      copy --copy-bitmap="$tmp/bits" "$source" "$tmp/out"
      [ "$("$bitmap" show "$tmp/bits")" = 0 ] || fail "bits are left"
      [ "$(stat -c %s "$tmp/out")" = "$size" ]
      cmp -n $((4 << 20)) "$tmp/out" "$tmp/before"
      cmp -i $((size - 1)) "$tmp/out" "$tmp/before"
      [ "$(dd if="$tmp/out" bs=1 skip=$((4 << 20)) count=1 status=none)" = X ]

      # An export that is larger and full of something.
      rm -f "$tmp/t.img"
      make_image "$tmp/t.img" 60M:X
      start_nbdkit t file "$tmp/t.img"
      copy "$source" "$(uri t)"
      stop "$pid"
      cmp -n "$size" "$tmp/t.img" "$tmp/before"
      is nbd flush
      at_least $((36 << 20)) bytes-zero

      rm -f "$tmp/out.qcow2"
      copy "$source" "qcow2:$tmp/out.qcow2"
      qemu-img check -q "$tmp/out.qcow2"
      qemu-img convert -O raw "$tmp/out.qcow2" "$tmp/raw"
      [ "$(stat -c %s "$tmp/raw")" = $(((size + 511) / 512 * 512)) ]
      truncate -s "$size" "$tmp/raw"
      same "$tmp/raw" "$tmp/before"
    done
    "$play" end "$map"
    rm "$map"
  done
done
