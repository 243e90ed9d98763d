#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: snapshots are taken up again after a restart, or honestly given up.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit nbdcopy nbdinfo
requires_python_nbd

make_disk 5000001
start_front
map=$state/exports/vda/s.map
write () { nbdsh_vda "h.pwrite (b'$1' * $3, $2)"; }
exact () {
  rm -f "$tmp/copy"
  nbdcopy "$(uri snap vda@s)" "$tmp/copy"
  same "$tmp/copy" "$tmp/before"
}
# gave_up REASON: vda@s is not served any more, and the log and the file say
# why.
gave_up () {
  expect "ok 0" list
  must_fail . nbdinfo --size "$(uri snap vda@s)"
  wait_for 10 grep -q "$1" "$tmp/vda.log"
  grep -qa "$1" "$map"
  rm -f "$state/exports/vda/"*
}
renew () {
  stop "$export_pid" KILL
  cp "$tmp/before" "$disk"
  rm -f "$state/exports/vda/"*
  start_export file "$disk"
  expect "ok *" begin s
  write a 100 70000
}

# kill -9, any number of times; and a clean stop.
start_export file "$disk"
expect "ok *" begin s
for how in KILL KILL TERM KILL TERM TERM; do
  write "$RANDOM" $((RANDOM * 100)) 100000
  stop "$export_pid" $how
  start_export file "$disk"
  expect "ok 1" list
  write 1 $((RANDOM * 100)) 1000
  exact
done

# Somebody wrote to the disk while it was stopped in order.
stop "$export_pid"
printf x | dd of="$disk" conv=notrunc status=none
start_export file "$disk"
gave_up "the live disk changed while nothing was in front of it"

# The host crashed: another boot id, and not closed.
renew
stop "$export_pid" KILL
printf 'another boot id.' | dd of="$map" bs=1 seek=3080 conv=notrunc status=none
start_export file "$disk"
gave_up "the host stopped without closing it"

# The host was shut down in order.
renew
stop "$export_pid"
printf 'another boot id.' | dd of="$map" bs=1 seek=3080 conv=notrunc status=none
start_export file "$disk"
expect "ok 1" list
exact

# The scratch is not the one that it was: an empty one would read as zeroes.
renew
stop "$export_pid"
mv "$state/exports/vda/vda@s.scratch" "$tmp/elsewhere"
cp --sparse=always "$tmp/elsewhere" "$state/exports/vda/vda@s.scratch"
start_export file "$disk"
gave_up "its scratch is gone or another file"

# The disk shrank.
renew
stop "$export_pid" KILL
truncate -s 4000000 "$disk"
start_export file "$disk"
gave_up "the disk is smaller than it was"

# A map that is damaged or from the future is given up, and says so to a reader
# that has had it open since before.
for damage in "bs=1 seek=100" "bs=1 seek=8"; do
  renew
  coproc reader { exec "$PYTHON" -u -c "
import errno, nbd, sys
h = nbd.NBD ()
h.connect_uri ('$(uri snap vda@s)')
h.pread (4096, 0)
print ('open')
sys.stdin.readline ()
try:
  h.pread (4096, 1000000)
  print ('read on')
except nbd.Error as e:
  print (errno.errorcode[e.errnum])"; }
  pids+=("$reader_PID")
  read -r answer <&"${reader[0]}"
  stop "$export_pid" KILL
  # shellcheck disable=SC2086
  printf 9 | dd of="$map" conv=notrunc $damage status=none
  start_export file "$disk"
  expect "ok 0" list
  must_fail . nbdinfo --size "$(uri snap vda@s)"
  echo go on >&"${reader[1]}"
  read -r answer <&"${reader[0]}"
  [ "$answer" = ESHUTDOWN ] || fail "the reader got: $answer"
  wait_for 10 dead "$reader_PID"
done

# One that was cut off is given up, too.
renew
stop "$export_pid" KILL
truncate -s 5000 "$map"
start_export file "$disk"
expect "ok 0" list
must_fail . nbdinfo --size "$(uri snap vda@s)"

# Two nbdkits on one state directory: the second gives up.
must_fail "in use by another nbdkit" "$NBDKIT" -f -U "$tmp/second.sock" \
  --filter="$NBDFLEECE_FILTER" file "$disk" fleece-export=vda \
  fleece-state="$state/exports/vda"
