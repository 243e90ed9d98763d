#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: a snapshot that ends, a backend that is killed, a front that is told to
# end: clients get their data, or a clean error.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit nbdcopy nbdinfo

size=$((48 * 1048576))
head -c $size /dev/urandom >"$tmp/vda.disk"
new_snapshot vda s1 $size 65536
new_snapshot vda s2 $size 65536
start_backend
start_front

# A snapshot ends while clients use it: ESHUTDOWN for what they ask from then
# on, then the end; nothing of it can be opened any more.
"$PYTHON" - "$tmp/front.sock" "$play" "$(map vda s1)" <<'PY'
import subprocess, sys
from nbdwire import *
path, play, map = sys.argv[1:]
ws = []
for style in (SIMPLE, STRUCTURED, EXTENDED):
  w = Wire(path)
  if style != SIMPLE:
    w.structured() if style == STRUCTURED else w.extended()
    w.set_contexts("vda@s1", "base:allocation", "qemu:allocation-depth")
  w.go("vda@s1")
  w.read_data(0, 4096)
  ws.append(w)
choosing = Wire(path)
choosing.info("vda@s1")
idle = Wire(path)
idle.go("vda@s1")
subprocess.check_call([play, "end", map])
for w in ws:
  text = expect(ESHUTDOWN, w.read_data, 0, 4096)
  assert w.style == SIMPLE or text == "the snapshot has ended"
  expect(ESHUTDOWN, w.read_data, 0, 5 << 20)
  expect(ESHUTDOWN, w.simple_command, CMD_CACHE, 0, 4096)
  if w.style != SIMPLE:
    expect(ESHUTDOWN, w.status, 0, 4096)
  expect(EINVAL, w.read_data, w.size, 1)
expect(ERR_UNKNOWN, choosing.go, "vda@s1")
assert [n for n, _ in choosing.list()] == ["vda@s2"]
w = Wire(path)
expect(ERR_UNKNOWN, w.go, "vda@s1")
# Who does not ask is let go some time later, so that the files can go.
assert idle.ended()
PY

# It ends in the middle of a stream of reads.
start nbdcopy "$(front_uri vda@s2)" null:
"$PYTHON" - "$tmp/front.sock" "$play" "$(map vda s2)" <<'PY'
import subprocess, sys
from nbdwire import *
path, play, map = sys.argv[1:]
w = Wire(path)
w.structured()
w.go("vda@s2")
good = bad = 0
for i in range(60):
  w.request(CMD_READ, i << 16, 1 << 16, cookie=i)
for i in range(2000):
  if i == 200:
    subprocess.check_call([play, "end", map])
  c, chunk = w.chunk()
  if chunk.kind == T_OFFSET_DATA:
    good += 1
  else:
    assert w.error_of(chunk) == (ESHUTDOWN, "the snapshot has ended")
    bad += 1
  if i < 1940:
    w.request(CMD_READ, (i % 700) << 16, 1 << 16, cookie=c)
assert good >= 200 and bad > 1000, (good, bad)
PY
wait "$pid" || true             # it may have been quicker

# The backend is killed and comes back: nobody notices, in the middle of reads.
rm -r "$state/exports/vda"
new_snapshot vda s $size 65536
"$PYTHON" - "$tmp/front.sock" "$tmp/vda.disk" "$tmp/ready" >"$tmp/reads.log" <<'PY' &
import os, random, sys, time
from nbdwire import *
path, disk, ready = sys.argv[1:]
want = open(disk, "rb").read()
ws = []
for style in (SIMPLE, STRUCTURED, EXTENDED):
  w = Wire(path)
  if style == STRUCTURED: w.structured()
  if style == EXTENDED: w.extended()
  w.set_contexts("vda@s", "base:allocation") if style != SIMPLE else None
  w.go("vda@s")
  ws.append(w)
done = 0
deadline = time.monotonic() + 60
while not (os.path.exists(ready) and done > 50):
  assert time.monotonic() < deadline
  for w in ws:
    n = random.choice((4096, 300000, 1 << 20, 5 << 20))
    at = random.randrange(len(want) - n)
    assert w.read_data(at, n) == want[at:at + n]
    if w.style != SIMPLE:
      assert w.read_data(at, n, FLAG_DF) == want[at:at + n]
      assert sum(n for n, _ in w.status(0, 1 << 20)[1]) == 1 << 20
    if os.path.exists(ready): done += 1
PY
reader=$!
pids+=("$reader")
for i in 1 2 3 4 5 6; do
  sleep 0.3                     # of work, not to wait for something
  stop "$backend" KILL
  start_backend
done
touch "$tmp/ready"
wait_for 90 dead "$reader"
wait "$reader" || { cat "$tmp/reads.log"; fail "a reader failed"; }

# It does not come back: an error, after some patience; then again it works.
stop "$backend"
rm -f "$tmp/backend.sock"
"$PYTHON" - "$tmp/front.sock" <<'PY'
import sys
from nbdwire import *
w = Wire(sys.argv[1])
text = expect(ERR_UNKNOWN, w.go, "vda@s")
assert text == "the snapshot cannot be read now", text
assert [n for n, _ in w.list()] == ["vda@s"]
PY
start_backend
nbdcopy "$(front_uri vda@s)" "$tmp/copy"
same "$tmp/copy" "$tmp/vda.disk"

# Told to end: what was asked for is answered, haggling is refused, and then
# there is nothing left.
"$PYTHON" - "$tmp/front.sock" "$front" "$tmp/vda.disk" <<'PY'
import os, signal, sys
from nbdwire import *
path, front, disk = sys.argv[1], int(sys.argv[2]), sys.argv[3]
want = open(disk, "rb").read(60 << 16)
w = Wire(path)
w.structured()
w.go("vda@s")
for i in range(60):
  w.request(CMD_READ, i << 16, 1 << 16, cookie=i)
haggling = Wire(path)
haggling.list()
cookie, c = w.chunk()
got = {cookie: c}
os.kill(front, signal.SIGTERM)
while len(got) < 60:
  cookie, c = w.chunk()
  got[cookie] = c
for i in range(60):
  assert got[i].data[8:] == want[i << 16:(i + 1) << 16]
expect_closed(w)
expect(ERR_SHUTDOWN, haggling.list)
expect(ERR_SHUTDOWN, haggling.go, "vda@s")
assert haggling.option(OPT_ABORT) == []
PY
wait_for 20 dead "$front"
status=0
wait "$front" || status=$?
[ $status = 0 ] || fail "ended with status $status"
[ ! -e "$tmp/front.sock" ] && [ ! -e "$tmp/status.sock" ] || fail "sockets are left"

# Killed, it leaves sockets, which the next one takes over; two at once cannot
# be.
start_front
stop "$front" KILL
rm -f "$tmp/status.sock"
start_front
must_fail 'Address already in use' "$NBDFLEECE_FRONT" --state "$state" \
  --backend "$tmp/backend.sock" --listen "unix:$tmp/front.sock"
[ "$(stat -c %a "$tmp/front.sock")" = 600 ] || fail "mode of the socket"
nbdinfo --size "$(front_uri vda@s)" >/dev/null
