#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: with leave to, a client releases clusters by trimming, and the scratch
# shrinks; without, nothing is ever written.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit nbdinfo
requires_python_nbd

size=$((64 * 1048576 + 1000))
truncate -s $size "$tmp/vda.disk"
head -c $size /dev/urandom >"$tmp/vda.disk"
cp "$tmp/vda.disk" "$tmp/before"
new_snapshot vda s $size 65536
new_snapshot vda other $size 65536
m=$(map vda s)
scratch=$state/exports/vda/vda@s.scratch
"$play" write "$m" "$tmp/vda.disk" 0 $((40 * 1048576)) 1
"$play" write "$m" "$tmp/vda.disk" $((size - 10)) 10 2
start_backend
start_front --release vda@s

used () { echo $(($(stat -c %b "$scratch") * 512)); }
full=$(used)
[ "$full" -ge $((40 * 1048576)) ] || fail "the scratch has only $full bytes"

nbdinfo --json "$(front_uri vda@s)" | finds '"is_read_only": false'
nbdinfo --json "$(front_uri vda@s)" | finds '"can_trim": true'
nbdinfo --json "$(front_uri vda@other)" | finds '"is_read_only": true'
nbdinfo --json "$(front_uri vda@other)" | finds '"can_trim": false'

"$PYTHON" - "$tmp/front.sock" "$tmp/before" <<'PY'
import sys
from nbdwire import *
path, before = sys.argv[1], open(sys.argv[2], "rb").read()
C = 65536
for style in (SIMPLE, STRUCTURED, EXTENDED):
  w = Wire(path)
  if style == STRUCTURED: w.structured()
  if style == EXTENDED: w.extended()
  w.go("vda@s")
  # Still no writes, and no trims that make no sense.
  expect(EPERM, w.simple_command, CMD_WRITE, 0, 512, FLAG_PAYLOAD_LEN
         if style == EXTENDED else 0, bytes(512))
  expect(EPERM, w.simple_command, CMD_WRITE_ZEROES, 0, 512)
  expect(EINVAL, w.simple_command, CMD_TRIM, w.size, 1)
  expect(EINVAL, w.simple_command, CMD_TRIM, 0, 512, FLAG_FUA)
  # Less than a cluster is nothing to release.
  w.simple_command(CMD_TRIM, 1, C)
  w.simple_command(CMD_TRIM, 0, 0)
  w.simple_command(CMD_TRIM, w.size - 5, 5)
  assert w.read_data(0, 2 * C) == before[:2 * C]

w = Wire(path)
w.structured()
w.go("vda@s")
w.simple_command(CMD_TRIM, 3 * C - 1, 2 * C + 2)        # clusters 3 and 4
assert w.read_data(0, 3 * C) == before[:3 * C]
expect(EPERM, w.read_data, 3 * C, 1)
expect(EPERM, w.read_data, 5 * C - 1, 1)
assert w.read_data(5 * C, C) == before[5 * C:6 * C]
# Others see it, too.
v = Wire(path)
v.go("vda@s")
expect(EPERM, v.read_data, 3 * C, 1)
PY
[ "$(used)" -le $((full - 131072)) ] || fail "nothing was punched: $(used)"

# A pull that releases what it has, the whole disk, by a client of libnbd.
"$PYTHON" - "$(front_uri vda@s)" "$tmp/before" "$size" <<'PY'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
want, size = open(sys.argv[2], "rb").read(), int(sys.argv[3])
C = 65536
for at in range(6 * C, size, 1 << 20):
  n = min(1 << 20, size - at)
  assert h.pread(n, at) == want[at:at + n]
  h.trim(n, at)
h.trim(6 * C, 0)
try:
  h.pread(1, size - 1)
  assert False
except nbd.Error as e:
  assert e.errno == "EPERM", e
h.shutdown()
PY
[ "$(used)" -lt 65536 ] || fail "left in the scratch: $(used)"

# What was not yet copied is not copied any more (the filter sees the bits).
"$play" write "$m" "$tmp/vda.disk" $((50 * 1048576)) 65536 3
[ "$(used)" -lt 65536 ] || fail "a released cluster was copied"

# All at once: long, and others have their turn.
"$play" write "$(map vda other)" "$tmp/vda.disk" 0 $((40 * 1048576)) 4
echo >"$tmp/front.conf"
stop "$front"
printf 'release vda@other\n' >"$tmp/front.conf"
start_front --config "$tmp/front.conf"
"$PYTHON" - "$tmp/front.sock" <<'PY'
import sys
from nbdwire import *
w = Wire(sys.argv[1])
w.go("vda@other")
w.simple_command(CMD_TRIM, 0, w.size)
expect(EPERM, w.read_data, 0, 1)
expect(EPERM, w.read_data, w.size - 1, 1)
PY
[ "$(stat -c %b "$state/exports/vda/vda@other.scratch")" -lt 64 ] ||
  fail "left in the scratch"

# Leave is taken back: for new clients.
: >"$tmp/front.conf"
kill -HUP "$front"
wait_for 30 grep -q 'read again' "$tmp/front.log"
nbdinfo --json "$(front_uri vda@other)" | finds '"can_trim": false'
