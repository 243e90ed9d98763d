#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Plugin: each way a snapshot can fail has its own error, and only where it is.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit nbdinfo
requires_python_nbd

play=$abs_top_builddir/tests/play-filter
state=$tmp/state
mkdir "$state"
head -c 1M /dev/urandom >"$tmp/disk"
cp "$tmp/disk" "$tmp/before"
"$play" new "$state" vda s "file:$tmp/disk" 1048576 65536
map=$state/exports/vda/s.map
"$play" begin "$map"
"$play" write "$map" "$tmp/disk" 0 200000 1
"$play" lose "$map" 327680 1
"$play" release "$map" 65536 131072
start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"

"$PYTHON" - "$(uri s vda@s)" "$tmp/before" "$play" "$map" <<'PY'
import errno, nbd, subprocess, sys
uri, path, play, map = sys.argv[1:]
want = open (path, "rb").read ()
h = nbd.NBD ()
h.add_meta_context ("base:allocation")
h.connect_uri (uri)

def fails (count, offset, err):
  try:
    h.pread (count, offset)
  except nbd.Error as e:
    assert e.errnum == err, (e.errnum, err)
  else:
    assert False, ("read", offset)

# Clusters: 0 copied, 1 and 2 released, 3 copied, 4 live, 5 lost, 6... live.
assert h.pread (65536, 0) == want[:65536]
assert h.pread (131072, 196608) == want[196608:327680]
assert h.pread (655360, 393216) == want[393216:]
fails (1, 65536, errno.EPERM)
fails (2, 65535, errno.EPERM)
fails (1, 196607, errno.EPERM)
fails (512, 327680, errno.EIO)
fails (200000, 300000, errno.EIO)
# NBD has no extent that cannot be read: they are data.
def status (name, offset, entries, err):
  assert sum (entries[0::2]) == len (want)
  assert not any (entries[1::2]), entries
h.block_status (len (want), 0, status)

# The end of the snapshot reaches who is reading it.
subprocess.check_call ([play, "end", map])
fails (1, 0, errno.ESHUTDOWN)
fails (1, 900000, errno.ESHUTDOWN)
for request in (lambda: h.block_status (4096, 0, status),
                lambda: h.cache (4096, 0)):
  try:
    request ()
  except nbd.Error as e:
    assert e.errnum == errno.ESHUTDOWN, e
  else:
    assert False
PY
must_fail . nbdinfo --size "$(uri s vda@s)"

# The log tells the cluster; but a client cannot fill it.
wait_for 10 grep -q 'vda@s: cluster 1 was released' "$tmp/s.log"
"$play" new "$state" vda t "file:$tmp/disk" 1048576 65536
"$play" begin "$state/exports/vda/t.map"
"$play" lose "$state/exports/vda/t.map" 0 65536
start_nbdkit t "$NBDFLEECE_PLUGIN" dir="$state"
"$PYTHON" - "$(uri t vda@t)" <<'PY'
import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
for i in range (2000):
  try:
    h.pread (1, 0)
  except nbd.Error:
    pass
PY
wait_for 10 grep -q 'vda@t: cluster 0 is lost' "$tmp/t.log"
lines=$(wc -l <"$tmp/t.log")
[ "$lines" -lt 100 ] || fail "$lines lines in the log for 2000 errors"

# A live disk that is gone or has shrunk is refused: it would pass for a hole.
"$play" new "$state" vda u "file:$tmp/disk" 1048576 65536
"$play" begin "$state/exports/vda/u.map"
nbdinfo --size "$(uri s vda@u)"
truncate -s 1000000 "$tmp/disk"
must_fail . nbdinfo --size "$(uri s vda@u)"
rm "$tmp/disk"
must_fail . nbdinfo --size "$(uri s vda@u)"
mkdir "$tmp/disk"
must_fail . nbdinfo --size "$(uri s vda@u)"
