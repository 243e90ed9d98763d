#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Plugin: a live disk behind an NBD server, which may be picky, and restarted.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit nbdcopy nbdinfo
requires_python_nbd

play=$abs_top_builddir/tests/play-filter
state=$tmp/state
mkdir "$state"
size=$((24 * 1048576 + 512))
truncate -s $size "$tmp/disk"
head -c 5M /dev/urandom | dd of="$tmp/disk" bs=1M seek=1 conv=notrunc status=none
head -c 5M /dev/urandom | dd of="$tmp/disk" bs=1M seek=16 conv=notrunc status=none
cp --sparse=always "$tmp/disk" "$tmp/before"
"$play" new "$state" vda s "$(uri live x)" $size 65536
map=$state/exports/vda/s.map
"$play" begin "$map"

start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"

# Nobody there yet: the client is told no, and not kept waiting.
must_fail . nbdinfo --size "$(uri s vda@s)"

# The server insists on blocks of 512 bytes and requests of at most 128 KiB.
live () {
  start_nbdkit live --filter=blocksize-policy file "$tmp/disk" \
    blocksize-minimum=512 blocksize-preferred=4096 blocksize-maximum=128K \
    blocksize-error-policy=error
  live=$pid
}
live
"$play" write "$map" "$tmp/disk" 2000000 1000000 3
"$play" write "$map" "$tmp/disk" 10000000 1000 3
nbdcopy "$(uri s vda@s)" "$tmp/copy"
same "$tmp/copy" "$tmp/before"
nbdinfo --map --totals "$(uri s vda@s)" | finds 'hole,zero'

# Many threads at once, at every alignment; and the server is restarted while
# the connections to it are idle, then again.
"$PYTHON" - "$(uri s vda@s)" "$tmp/before" "$tmp" <<'PY' &
import nbd, os, random, sys, time
uri, path, tmp = sys.argv[1:]
want = open (path, "rb").read ()
h = nbd.NBD ()
h.add_meta_context ("base:allocation")
h.connect_uri (uri)

def round_of_reads ():
  jobs = []
  for i in range (200):
    a = random.randrange (len (want))
    n = random.randrange (1, min (len (want) - a, 300000) + 1)
    buf = nbd.Buffer (n)
    jobs.append ((h.aio_pread (buf, a), buf, a, n))
    while h.aio_in_flight () > 12:
      h.poll (-1)
  for cookie, buf, a, n in jobs:
    while not h.aio_command_completed (cookie):
      h.poll (-1)
    assert buf.to_bytearray () == want[a:a+n], (a, n)

round_of_reads ()
for i in ("1", "2"):
  open (tmp + "/want-restart." + i, "w").close ()
  deadline = time.monotonic () + 60
  while not os.path.exists (tmp + "/restarted." + i):
    assert time.monotonic () < deadline
    time.sleep (0.01)
  round_of_reads ()
PY
reader=$!
pids+=("$reader")
for i in 1 2; do
  wait_for 60 test -e "$tmp/want-restart.$i"
  stop "$live" KILL
  live
  touch "$tmp/restarted.$i"
done
wait_for 60 dead "$reader"
wait "$reader" || fail "the reader failed"

# Gone for good: an error, and the reason in the log.
"$PYTHON" - "$(uri s vda@s)" "$tmp" "$live" <<'PY'
import errno, nbd, os, signal, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pread (4096, 0)
os.kill (int (sys.argv[3]), signal.SIGKILL)
try:
  h.pread (4096, 20000000)
except nbd.Error as e:
  assert e.errnum == errno.EIO, e
else:
  assert False
h.pread (4096, 2031616)         # copied: needs no live disk
PY
wait_for 10 grep -q 'vda@s: reading 4096 bytes at 20000000' "$tmp/s.log"

# Another disk in its place is not mistaken for the same one, neither by who
# reads it already nor by who comes new.
live
truncate -s 32M "$tmp/other"
"$PYTHON" - "$(uri s vda@s)" "$tmp" <<'PY' &
import errno, nbd, os, sys, time
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pread (4096, 0)
open (sys.argv[2] + "/connected", "w").close ()
deadline = time.monotonic () + 60
while not os.path.exists (sys.argv[2] + "/exchanged"):
  assert time.monotonic () < deadline
  time.sleep (0.01)
try:
  h.pread (4096, 20000000)
except nbd.Error as e:
  assert e.errnum == errno.EIO, e
else:
  assert False, "read another disk"
PY
reader=$!
pids+=("$reader")
wait_for 60 test -e "$tmp/connected"
stop "$live" KILL
start_nbdkit live file "$tmp/other"
touch "$tmp/exchanged"
wait_for 60 dead "$reader"
wait "$reader" || fail "the reader failed"
stop "$pid"
truncate -s 1M "$tmp/other"
start_nbdkit live file "$tmp/other"
must_fail . nbdinfo --size "$(uri s vda@s)"
