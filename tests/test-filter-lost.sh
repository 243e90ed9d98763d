#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: what cannot be kept is lost, or breaks the guest's write, as asked.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit nbdcopy
requires_python_nbd

# compare CLUSTERS-READABLE: every 4K cluster of vda@s reads as before, or
# fails with EIO; and so many read.
compare () {
  "$PYTHON" - "$(uri snap vda@s)" "$tmp/before" "$1" <<'PY'
import errno, nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
before = open (sys.argv[2], "rb").read ()
good = 0
for at in range (0, len (before), 4096):
  try:
    got = h.pread (4096, at)
  except nbd.Error as e:
    assert e.errnum == errno.EIO, e
  else:
    assert got == before[at:at + 4096], at
    good += 1
assert good == int (sys.argv[3]), good
PY
}

make_disk $((4 * 1048576))
start_front

# The limit is 100 clusters, and 256 in one request are not all given up for
# it: the run is gone through one by one.
start_export file "$disk" fleece-scratch-limit=400K
expect "ok *" begin s
nbdsh_vda "h.pwrite (b'n' * 1048576, 0)"
[ "$(stat_of copied_clusters s)" = 100 ]
[ "$(stat_of lost_clusters s)" = 156 ]
[ "$(stat_of scratch_bytes s)" = 409600 ]
compare $((1024 - 156))
wait_for 10 grep -q "vda@s: old clusters cannot be kept and are lost" "$tmp/vda.log"
# Zeroes cost no scratch, so they are kept all the same.
nbdsh_vda "h.zero (1048576, 1048576); h.pwrite (b'n' * 4096, 3 * 1048576)"
expect "ok *" begin z
nbdsh_vda "h.pwrite (b'm' * 1048576, 1048576)"
[ "$(stat_of copied_clusters z)" = 256 ]
[ "$(stat_of zero_clusters z)" = 256 ]
[ "$(stat_of lost_clusters z)" = 0 ]
# A lost snapshot ends like any other.
expect ok end s
expect ok end z
stop "$export_pid"

# The guest's write breaks instead, with a reason it knows; nothing is lost.
cp "$tmp/before" "$disk"
start_export file "$disk" fleece-scratch-limit=400K \
  fleece-on-cow-error=break-guest-write
expect "ok *" begin s
nbdsh_vda "
h.pwrite (b'n' * 4096, 0)
for op in (lambda: h.pwrite (b'n' * 1048576, 0), lambda: h.zero (1048576, 0),
           lambda: h.trim (1048576, 0)):
  try:
    op ()
    assert False
  except nbd.Error as e:
    assert e.errnum == errno.ENOSPC, e
h.pwrite (b'o' * 4096, 0)
assert h.pread (1, 0) == b'o'"
[ "$(stat_of failed_requests)" = 3 ]
[ "$(stat_of lost_clusters s)" = 0 ]
compare 1024
expect ok end s
nbdsh_vda "h.pwrite (b'n' * 1048576, 0)"
stop "$export_pid"

# The live disk cannot be read where the guest writes: only that is lost.
cp "$tmp/before" "$disk"
start_export --filter=error file "$disk" error-pread=EIO \
  error-pread-rate=100% error-pread-file="$tmp/break"
expect "ok *" begin s
nbdsh_vda "h.pwrite (b'n' * 8192, 0)"
touch "$tmp/break"
nbdsh_vda "h.pwrite (b'n' * 8192, 8192)"
rm "$tmp/break"
[ "$(stat_of copied_clusters s)" = 2 ]
[ "$(stat_of lost_clusters s)" = 2 ]
compare 1022
stop "$export_pid"

# A scratch whose file system is full.
requires_tool mkfs.ext4
if [ "$(id -u)" = 0 ]; then
  truncate -s 4M "$tmp/fs"
  mkfs.ext4 -q "$tmp/fs"
  mkdir "$tmp/mnt"
  requires mount -o loop "$tmp/fs" "$tmp/mnt"
  trap 'umount "$tmp/mnt"; cleanup' EXIT
  state=$tmp/mnt/state
  mkdir -p "$state/exports/vda"
  rm -f "$tmp/snap.sock"
  start_front
  cp "$tmp/before" "$disk"
  start_export file "$disk"
  expect "ok *" begin s
  nbdsh_vda "h.pwrite (b'n' * 4194304, 0)"
  lost=$(stat_of lost_clusters s)
  [ "$lost" -gt 0 ] && [ "$lost" -lt 1024 ] || fail "$lost lost"
  [ "$(stat_of copied_clusters s)" = $((1024 - lost)) ]
  compare $((1024 - lost))
  stop "$export_pid"
  stop "$pid" || true
  for p in "${pids[@]}"; do stop "$p"; done
  umount "$tmp/mnt"
  trap cleanup EXIT
fi
