#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: changes since checkpoints, the chain of their files, restarts.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit
requires_python_nbd

make_disk 5000001
dir=$state/exports/vda

# of CHECKPOINT FIELD: what its file says.
of () { "$PYTHON" "$abs_top_srcdir/tests/bmfile.py" "$dir/$1.dirty" "${@:2}"; }
# is CHECKPOINT FIELD VALUE
is () { [ "$(of "$1" "$2")" = "$3" ] || fail "$1: $2 is $(of "$1" "$2"), not $3"; }
is_clean () { [ "$(of "$1" clean)" = 1 ]; }
write () { nbdsh_vda "h.pwrite (b'x' * $2, $1)"; }
checkpoint () { expect "ok *" begin x only-dirty dirty="$1"; }
renew () {
  stop "$export_pid" KILL
  rm -f "$dir"/*.dirty
  cp "$tmp/before" "$disk"
  start_export file "$disk" fleece-live="file:$disk"
}

# Every kind of change counts, by clusters and with the ends; a newer
# checkpoint takes over at its instant, with a snapshot or without.
start_export file "$disk" fleece-live="file:$disk"
write 0 512
checkpoint c1
is c1 state active
is c1 bits ""
write 4095 2
nbdsh_vda 'h.zero (4096, 40960); h.trim (4096, 81920); h.pwrite (b"z", 5000000)'
is c1 bits "0 1 10 20 1220"
expect "ok *" begin s dirty=c2
is c1 state frozen
wait_for 10 is_clean c1
is c2 state active
[ "$(of c2 prev)" = "$(of c1 uuid)" ] || fail "c2 does not follow c1"
is c1 prev 00000000000000000000000000000000
write 8192 1
is c1 bits "0 1 10 20 1220"
is c2 bits "2"
expect ok end s


# Instants rise, whatever the clock says.
future=$(( $(date +%s%N) + 3600 * 1000000000 ))
of c2 instant_ns=$future
expect "ok *" begin s
[ "$("$PYTHON" "$abs_top_srcdir/tests/bmfile.py" "$dir/s.map" instant_ns)" \
  = $((future + 1)) ]
checkpoint c3
is c3 instant_ns $((future + 1))
expect ok end s

# Only who means the right one can stop tracking.
expect "error ESTALE" untrack "$(of c2 uuid)"
is c3 state active
expect "ok" untrack "$(of c3 uuid)"
is c3 state frozen
expect "error ENOENT" untrack
write 0 1
is c3 bits ""

# Killed in the flip: the newer bitmap goes on, whatever it is called.
for names in "a b" "b a"; do
  # shellcheck disable=SC2086
  set -- $names
  renew
  checkpoint "$1"
  write 0 1
  checkpoint "$2"
  stop "$export_pid" KILL
  of "$1" state=active clean=0
  start_export file "$disk" fleece-live="file:$disk"
  is "$1" state frozen
  wait_for 10 is_clean "$1"
  write 4096 1
  is "$1" bits 0
  is "$2" bits 1
done

# Killed before the older one was flushed: it is now.
stop "$export_pid" KILL
of b clean=0
start_export file "$disk" fleece-live="file:$disk"
is b state frozen
is_clean b

# The disk is another one now, or tracking had stopped.
stop "$export_pid"
cp "$disk" "$tmp/other"
start_export file "$tmp/other" fleece-live="file:$tmp/other"
is a state inconsistent
is a reason "it is of another disk"
is b state inconsistent
is b reason "tracking was interrupted"
