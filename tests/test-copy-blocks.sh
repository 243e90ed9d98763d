#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: servers that refuse what is not whole blocks of theirs, or too long.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit nbdcopy

# serve NAME MINIMUM PLUGIN...: a server of that kind.
serve () {
  start_nbdkit "$1" --filter=blocksize-policy "${@:3}" blocksize-minimum="$2" \
    blocksize-preferred=65536 blocksize-maximum=256K \
    blocksize-error-policy=error
}

for tail in 0 511; do
  make_image "$tmp/disk" 700K:r 1M:- 100K:0 900K:r $((300 * 1024 + tail)):r
  size=$(stat -c %s "$tmp/disk")
  begin_snapshot "s$tail" "$tmp/disk" 4096
  guest_writes "$tmp/disk" 10 100000
  for min in 512 4096 65536; do
    say "blocks of $min, $tail bytes more"
    serve t $min memory 4M
    server=$pid
    copy --request-size=32K "map:$map" "$(uri t)"
    compare_nbd "$(uri t)"
    copy --request-size=1M "map:$map" "$(uri t)"
    compare_nbd "$(uri t)"
    # Parts of blocks, through a death in the middle.
    rm -f "$tmp/bits"
    "$bitmap" new "$tmp/bits" "$size" 4096 4096 4096 300000 700000 \
              $((size - 1)) 1
    start_copy --copy-bitmap="$tmp/bits" --speed=200K --flush-interval=1ms \
               "map:$map" "$(uri t)"
    wait_for 60 has_done 4096
    stop "$copier" KILL
    # Some nbdkits abort when a client is killed, and the memory is gone.
    if alive "$server"; then
      copy --copy-bitmap="$tmp/bits" "map:$map" "$(uri t)"
      compare_nbd "$(uri t)"
    fi
    stop "$server" KILL
  done
done

say "a source"
make_image "$tmp/whole" 1M:r 1M:- 960K:r
for min in 512 4096 65536; do
  serve s $min file "$tmp/whole"
  rm -f "$tmp/out"
  copy --request-size=32K "$(uri s)" "$tmp/out"
  same "$tmp/whole" "$tmp/out"
  stop "$pid"
done
