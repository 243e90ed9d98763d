#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: whatever the kernel refuses, at first or in the middle of a copy, the
# copy goes on without it, and the report says what was used.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"

make_image "$tmp/disk" 30M:r 3M:- 3M:0 100001:r
size=$(stat -c %s "$tmp/disk")
begin_snapshot s "$tmp/disk" 65536
guest_writes "$tmp/disk" 30 300000

# copy_without WHAT ARGS...
copy_without () {
  local what=$1
  shift
  # The sanitizers like to come first; it does not matter here.
  printf '#!/bin/sh\nexport LD_PRELOAD=%s NBDFLEECE_REFUSE=%s %s\nexec %s "$@"\n' \
         "$abs_top_builddir/tests/.libs/librefuse.so" "$what" \
         "ASAN_OPTIONS=verify_asan_link_order=0:$ASAN_OPTIONS" \
         "$NBDFLEECE_COPY" >"$tmp/refusing"
  chmod +x "$tmp/refusing"
  NBDFLEECE_COPY=$tmp/refusing copy "$@"
}

for what in nothing copy_file_range copy_file_range=0 copy_file_range=40 \
            reflink,copy_file_range,fallocate fallocate; do
  say "refused: $what"
  rm -f "$tmp/out"
  copy_without "$what" "map:$map" "$tmp/out"
  same "$tmp/out" "$tmp/before"
  case $what in
    nothing | fallocate) is copy_file_range offload; is 0 bytes-written ;;
    copy_file_range=40)
      at_least 1 bytes-offloaded
      at_least 1 bytes-written ;;
    *) is none offload; is 0 bytes-offloaded ;;
  esac
  # In part: zeroes have to be made in what is there.
  make_image "$tmp/out" $size:X
  rm -f "$tmp/bits"
  "$bitmap" new "$tmp/bits" "$size" 65536 $((1 << 20)) "$size"
  copy_without "$what" --copy-bitmap="$tmp/bits" "map:$map" "$tmp/out"
  cmp -i $((1 << 20)) "$tmp/out" "$tmp/before"
  [ "$(dd if="$tmp/out" bs=1 skip=$(((1 << 20) - 1)) count=1 \
          status=none)" = X ]
  case $what in
    *fallocate*) is 0 bytes-zero ;;
    *) at_least $((3 << 20)) bytes-zero ;;
  esac
done
