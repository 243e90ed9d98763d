#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: a job that goes on does so with the target that it began with, or not
# at all; and nothing happens to the other one.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit qemu-img qemu-nbd

size=$((16 << 20))
make_image "$tmp/disk" 12M:r 2M:- 2M:r
begin_snapshot s "$tmp/disk" 65536

# half_done TARGET: a job that was killed when something had been delivered.
half_done () {
  rm -f "$tmp/bits"
  "$bitmap" new "$tmp/bits" $size 65536
  start_copy --copy-bitmap="$tmp/bits" --speed=4M --flush-interval=20ms \
             "map:$map" "$1"
  wait_for 60 delivered
  stop "$copier" KILL
}
delivered () { [ "$("$bitmap" show "$tmp/bits" | head -n 1)" -lt $size ]; }
# refused TARGET: it does not go on with this one.
refused () {
  local before
  before=$("$bitmap" show "$tmp/bits")
  copy_ends 1 --copy-bitmap="$tmp/bits" "map:$map" "$1"
  result error | finds 'not the target that the job has copied to so far' ||
    fail "$(result error)"
  [ "$("$bitmap" show "$tmp/bits")" = "$before" ]
}

for target in "$tmp/out" "qcow2:$tmp/out"; do
  say "${target%%/*} a file"
  rm -f "$tmp/out" "$tmp/out.nbdfleece"
  half_done "$target"
  mv "$tmp/out" "$tmp/kept"
  refused "$target"
  [ ! -e "$tmp/out" ] || fail "it was made anew"
  cp "$tmp/kept" "$tmp/out"
  refused "$target"
  same "$tmp/kept" "$tmp/out"
  mv "$tmp/kept" "$tmp/out"
  copy --copy-bitmap="$tmp/bits" "map:$map" "$target"
  case $target in
    qcow2:*) qemu-img convert -O raw "$tmp/out" "$tmp/raw" ;;
    *) cp "$tmp/out" "$tmp/raw" ;;
  esac
  same "$tmp/raw" "$tmp/before"
done

say "an NBD export, of another size"
start_nbdkit t memory 16M
server=$pid
half_done "$(uri t)"
stop "$server"
start_nbdkit t memory 17M
refused "$(uri t)"

say "another address in place of a file"
half_done "$(uri t)"
refused "$tmp/raw"
same "$tmp/raw" "$tmp/before"

say "nothing was delivered yet: any target will do"
rm -f "$tmp/bits"
"$bitmap" new "$tmp/bits" $size 65536
start_copy --copy-bitmap="$tmp/bits" --speed=1 "map:$map" "$tmp/new"
wait_for 60 has_state running
stop "$copier" KILL
rm "$tmp/new"
copy --copy-bitmap="$tmp/bits" "map:$map" "$tmp/new"
same "$tmp/new" "$tmp/before"

say "a target that is away when the job goes on is waited for"
rm -f "$tmp/t.sock"
start_nbdkit u memory 16M
server=$pid
half_done "$(uri u)"
stop "$server"
start_copy --copy-bitmap="$tmp/bits" --retry=1m "map:$map" "$(uri u)"
tries_again () { progress error | finds 'trying again'; }
wait_for 30 tries_again
order '{"command":"cancel"}'
ended 4
start_copy --copy-bitmap="$tmp/bits" --retry=1m "map:$map" "$(uri u)"
wait_for 30 tries_again
start_nbdkit u memory 16M
ended 0
copy_ends 1 --copy-bitmap="$tmp/bits" "map:$map" "$(uri gone)"
