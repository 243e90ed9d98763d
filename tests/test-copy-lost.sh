#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: clusters that are lost or out of scope are left out, told, and make
# the copy incomplete; the end of the snapshot makes it fail.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit

start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"
size=$((12 << 20))

# everything_but FILE OFFSET LENGTH...: FILE is the disk but for these ranges,
# which are zero in it.
everything_but () {
  local file=$1
  shift
  cp "$tmp/before" "$tmp/want"
  while [ $# -gt 0 ]; do
    dd if=/dev/zero of="$tmp/want" bs=4096 seek=$(($1 / 4096)) \
       count=$(($2 / 4096)) conv=notrunc status=none
    shift 2
  done
  same "$file" "$tmp/want"
}

ranges () {
  "$PYTHON" -c 'import json, sys
for r in json.load (open (sys.argv[1]))["lost-ranges"]:
  print (r["offset"], r["length"])' "$tmp/result.json"
}

for cluster in 4096 65536; do
  say "cluster size $cluster"
  make_image "$tmp/disk" 4M:r 2M:- 6M:r
  begin_snapshot "s$cluster" "$tmp/disk" $cluster
  uri=$(uri s "vda@s$cluster")
  "$play" lose "$map" $((1 << 20)) 1
  "$play" lose "$map" $((5 << 20)) 1      # in the hole
  "$play" lose "$map" $(((8 << 20) - 1)) 2  # two clusters
  "$play" release "$map" $((10 << 20)) 200000 # as if never in scope
  c=$cluster
  gone=$(((200000 + c - 1) / c * c))
  holes=($((1 << 20)) $c $((5 << 20)) $c $(((8 << 20) - c)) $((2 * c))
         $((10 << 20)) $gone)
  printf '%s %s\n' "${holes[@]}" >"$tmp/want-ranges"

  # All ways to know: extents of the map, reading alone (offload refused or
  # not), over NBD with and without a map.
  for how in "map:$map" "$uri" "--map=$map $uri"; do
    rm -f "$tmp/out"
    # shellcheck disable=SC2086
    copy_ends 3 $how "$tmp/out"
    is incomplete state
    is $((4 * c + gone)) bytes-lost
    is $((size - 4 * c - gone)) bytes-done
    is 4 lost-ranges-total
    ranges | diff - "$tmp/want-ranges"
    everything_but "$tmp/out" "${holes[@]}"
  done

  # What could not be had stays in the copy bitmap, and only that.
  rm -f "$tmp/bits" "$tmp/out"
  "$bitmap" new "$tmp/bits" $size $cluster
  copy_ends 3 --copy-bitmap="$tmp/bits" "map:$map" "$tmp/out"
  "$bitmap" show "$tmp/bits" | tail -n +2 | diff - "$tmp/want-ranges"
  copy_ends 3 --copy-bitmap="$tmp/bits" --on-source-error=stop "map:$map" \
            "$tmp/out"
  is $((4 * c + gone)) bytes-lost
  "$play" end "$map"
  rm "$map"
done

# Lost while the copy runs, after the extents were asked for.
say "lost in the middle"
make_image "$tmp/disk" 12M:r
begin_snapshot t "$tmp/disk" 4096
start_nbdkit slow memory 12M
for source in "map:$map" "$(uri s vda@t)"; do
  offset=$((11 << 20))
  [ "$source" = "map:$map" ] || offset=$((10 << 20))
  start_copy --speed=6M "$source" "$(uri slow)"
  wait_for 30 has_done $((1 << 20))
  "$play" lose "$map" $offset 4096
  ended 3
  [ "$(ranges | grep -c "^$offset 4096$")" = 1 ] || fail "$(ranges)"
done

# More ranges than are listed.
say "many ranges"
for ((i = 0; i < 1100; i++)); do echo $((i * 8192)); done |
  xargs -I{} "$play" lose "$map" {} 1
copy_ends 3 "map:$map" "$tmp/out"
is 1102 lost-ranges-total
[ "$(ranges | wc -l)" = 1000 ]

say "the snapshot ends in the middle"
for source in "map:$map" "$(uri s vda@u)"; do
  begin_snapshot u "$tmp/disk" 4096
  [ "$source" = "$(uri s vda@u)" ] || source=map:$map
  start_copy --speed=4M --retry=1m "$source" "$(uri slow)"
  wait_for 30 has_done $((1 << 20))
  "$play" end "$map"
  ended 1
  is failed state
  result error | finds -E 'snapshot has ended|no export'
  rm "$map" "$state/exports/vda/vda@u.scratch"
done
