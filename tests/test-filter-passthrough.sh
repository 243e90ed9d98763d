#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: what the disk can do, it can still do behind us.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit nbdinfo jq

make_disk 1000001
truncate -s 5000000 "$disk"

# What nbdinfo says, without what is ours: the name and where it is.
info () {
  nbdinfo --json --content "$(uri "$1")" | jq -S '.exports[0]
    | del (."export-name", .description, .uri)'
  nbdinfo --map --json "$(uri "$1")" | jq -S 'map (select (.length > 0))'
}

# both ARGS...: nbdkit ARGS with and without the filter must look the same.
both () {
  start_nbdkit plain "$@"
  info plain >"$tmp/plain.json"
  stop "$pid"
  rm -f "$tmp/plain.sock"
  start_export "$@"
  info vda >"$tmp/ours.json"
  # A snapshot changes nothing about it.
  expect "ok *" begin s
  info vda >"$tmp/ours2.json"
  expect ok end s
  stop "$export_pid"
  diff -u "$tmp/plain.json" "$tmp/ours.json" || fail "differs: $*"
  diff -u "$tmp/plain.json" "$tmp/ours2.json" || fail "differs: $*"
}

both file "$disk"
both -r file "$disk"
both memory 10M
both null 1T
both data '@123456 1 2 3' size=1M
both --filter=blocksize memory 1M minblock=4k maxdata=64k
both --filter=blocksize-policy memory 4M blocksize-minimum=65536 \
  blocksize-preferred=128K blocksize-maximum=1M blocksize-error-policy=error
both --filter=truncate file "$disk" round-up=512
both --filter=multi-conn file "$disk" multi-conn-mode=disable
start_nbdkit far --filter=blocksize-policy memory 4M blocksize-minimum=4096 \
  blocksize-preferred=65536 blocksize-maximum=1M
far=$pid
both nbd socket="$tmp/far.sock"
stop "$far"
for what in nozero:zeromode=none nozero:zeromode=emulate \
            nozero:fastzeromode=none fua:fuamode=emulate fua:fuamode=native \
            noextents:x noparallel:serialize=requests nofilter:x \
            cache:x; do
  filter=${what%%:*} arg=${what#*:}
  case $filter in nofilter) continue ;; esac
  [ "$arg" = x ] && both --filter="$filter" file "$disk" \
                 || both --filter="$filter" file "$disk" "$arg"
done

# Export names: ours or none; the disk below never sees another.
start_export file "$disk"
nbdinfo --size "$(uri vda vda)" | finds -x 5000000
nbdinfo --size "$(uri vda)" | finds -x 5000000
must_fail . nbdinfo --size "$(uri vda other)"
nbdinfo --list --json "$(uri vda)" | jq -e '.exports | length == 1'
nbdinfo --list --json "$(uri vda)" | jq -e '.exports[0]."export-name" == "vda"'
