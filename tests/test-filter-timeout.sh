#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: a scratch that hangs holds the guest for cow-timeout, once.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit
requires_python_nbd

hang=$abs_top_builddir/tests/.libs/libhang.so
[ -e "$hang" ] || hang=$abs_top_builddir/tests/libhang.so
make_disk $((4 * 1048576))
start_front

# Writes to a scratch hang while this file is there.
export NBDFLEECE_HANG=$tmp/hang
NBDFLEECE_PRELOAD=$hang start_export file "$disk" fleece-cow-timeout=200ms
expect "ok *" begin s
nbdsh_vda "h.pwrite (b'n' * 4096, 0)"
[ "$(stat_of copied_clusters s)" = 1 ]

# The write that hits it comes back, although the scratch never does; later
# ones do not wait at all (this many would be most of an hour).
touch "$NBDFLEECE_HANG"
nbdsh_vda "
for i in range (1, 900):
  h.pwrite (b'n' * 4096, i * 4096)
assert h.pread (1, 4096) == b'n'"
[ "$(stat_of copied_clusters s)" = 1 ]
[ "$(stat_of lost_clusters s)" = 899 ]

# When it comes back, so does the copying; what was lost stays lost, though
# the write that hung has now been done.
rm "$NBDFLEECE_HANG"
works () {
  nbdsh_vda "h.pwrite (b'n' * 4096, $1 * 4096)"
  [ "$(stat_of copied_clusters s)" -gt 1 ]
}
try=900
copies () { try=$((try + 1)); works $try; }
wait_for 30 copies
"$PYTHON" - "$(uri snap vda@s)" "$tmp/before" <<'PY'
import errno, nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
before = open (sys.argv[2], "rb").read ()
assert h.pread (4096, 0) == before[:4096]
assert h.pread (4096, len (before) - 4096) == before[-4096:]
for i in (1, 2, 899):
  try:
    h.pread (4096, i * 4096)
    assert False
  except nbd.Error as e:
    assert e.errnum == errno.EIO
PY
stop "$export_pid"

# The same with the other policy: the guest's write fails, nothing is lost.
rm -f "$state/exports/vda/"*
cp "$tmp/before" "$disk"
NBDFLEECE_PRELOAD=$hang start_export file "$disk" fleece-cow-timeout=200ms \
  fleece-on-cow-error=break-guest-write
expect "ok *" begin s
touch "$NBDFLEECE_HANG"
nbdsh_vda "
try:
  h.pwrite (b'n' * 4096, 0)
  assert False
except nbd.Error as e:
  assert e.errnum == errno.EIO"
same "$disk" "$tmp/before"
rm "$NBDFLEECE_HANG"
writes () { nbdsh_vda "h.pwrite (b'n' * 4096, 0)" 2>/dev/null; }
wait_for 30 writes
[ "$(stat_of lost_clusters s)" = 0 ]
stop "$export_pid"

# It must not hang at the end either, with a scratch that still does.
rm -f "$state/exports/vda/"*
NBDFLEECE_PRELOAD=$hang start_export file "$disk" fleece-cow-timeout=50ms
expect "ok *" begin s
touch "$NBDFLEECE_HANG"
nbdsh_vda "h.pwrite (b'n' * 4096, 0)"
expect ok end s
rm "$NBDFLEECE_HANG"
stop "$export_pid"

must_fail "must be a time" "$NBDKIT" --filter="$NBDFLEECE_FILTER" null 1M \
  fleece-export=a fleece-cow-timeout=soon
