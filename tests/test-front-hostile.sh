#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: hostile connections, limits, clients that are slow or do not read: a
# pull works meanwhile and after, memory and descriptors come back, and nothing
# that a client does, nor the end of the front, is the end of the backend.

# `make hostile' has ten thousand connections.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit nbdcopy psktool

head -c 8M /dev/urandom >"$tmp/vda.disk"
"$track" new "$state" vda cp1 - 8388608 4096
"$track" begin "$(dirty vda cp1)"
"$track" dirty-every "$(dirty vda cp1)" 2
new_snapshot vda s 8388608 4096
psktool -u somebody -p "$tmp/keys.psk" >/dev/null
port=$(free_port)
start_backend
start_front --max-connections 200 --max-connections-per-client 100 \
            --listen "tcp:127.0.0.1:$port tls=allow psk=$tmp/keys.psk" \
            --allow "vda address=127.0.0.1"
pull () {
  nbdcopy "$(front_uri vda@s)" "$tmp/copy"
  same "$tmp/copy" "$tmp/vda.disk"
  rm "$tmp/copy"
}
pull

# The sanitizers make every connection some times as dear.
n=${NBDFLEECE_CONNECTIONS:-1500}
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || n=500
start "$PYTHON" "$abs_top_srcdir/tests/front-hostile.py" \
      "$tmp/front.sock" "$port" "$front" "$backend" "$n"
hostile=$pid
while alive "$hostile"; do pull; done
wait "$hostile"
cases "hostile connections" "$n"
pull
alive "$front"
[ "$(front_status 'd["connections"]')" -le 1 ] || fail "clients are left"

# Limits: what is too much is closed at once, and the rest goes on.
stop "$front"
start_front --max-connections 6 --max-connections-per-client 4 \
            --listen "tcp:127.0.0.1:$port" --allow "vda address=127.0.0.1" \
            --handshake-timeout 1 --idle-timeout 2
"$PYTHON" - "$tmp/front.sock" "$port" <<'PY'
import sys, time
from nbdwire import *
path, tcp = sys.argv[1], ("127.0.0.1", int(sys.argv[2]))

def goes_on(w):
  w.go("vda@s")
  w.read_data(0, 512)

def refused(where):
  w = Wire(where, None)
  expect_closed(w)

local = [Wire(path) for i in range(4)]
refused(path)                   # the fifth of one process
remote = [Wire(tcp) for i in range(2)]
refused(tcp)                    # the seventh in all
for w in local + remote:
  goes_on(w)
local.pop().close()
deadline = time.monotonic() + 10
while True:
  try:
    goes_on(Wire(path))
    break
  except Closed:
    assert time.monotonic() < deadline
for w in local + remote:
  w.close()
PY

# Too slow: handshakes that never end, however they drip, and idle clients.
"$PYTHON" - "$tmp/front.sock" <<'PY'
import struct, sys, time
from nbdwire import *
path = sys.argv[1]

def drip(w, data):
  start = time.monotonic()
  for byte in data:
    try:
      w.send(bytes([byte]))
    except ConnectionError:
      return time.monotonic() - start
    time.sleep(0.1)
  raise AssertionError("it was left in peace")

w = Wire(path)
data = struct.pack(">QII", IHAVEOPT, OPT_LIST, 0) * 10
took = drip(w, data)
assert 0.5 < took < 8, took
w = Wire(path)                  # says nothing at all
assert w.ended()
w = Wire(path)                  # haggles for ever
start = time.monotonic()
try:
  while time.monotonic() < start + 10:
    w.list()
    time.sleep(0.05)
  raise AssertionError("it was left in peace")
except (Closed, ConnectionError):
  pass
w = Wire(path)                  # idle
w.go("vda@s")
start = time.monotonic()
assert w.ended()
assert time.monotonic() - start > 1.5
w = Wire(path)                  # does not read what it asked for
w.go("vda@s")
for i in range(40):
  w.request(CMD_READ, 0, 1 << 20)
time.sleep(4)
assert w.ended()
PY

# A client that does not read costs little and holds up nobody.
stop "$front"
start_front
"$PYTHON" - "$tmp/front.sock" "$front" <<'PY'
import os, sys, time
from nbdwire import *
path, front = sys.argv[1], int(sys.argv[2])

def resident():
  with open("/proc/%d/status" % front) as f:
    return [int(line.split()[1]) for line in f
            if line.startswith("VmRSS")][0]

ALL = ("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:cp1")
def stuck(style):
  w = Wire(path)
  if style != SIMPLE:
    w.structured() if style == STRUCTURED else w.extended()
    w.set_contexts("vda@s", *ALL)
  w.go("vda@s")
  w.sock.settimeout(0.2)
  try:
    for i in range(10000):
      if i % 3 == 0 and style != SIMPLE:
        w.request(CMD_BLOCK_STATUS, 0, 8 << 20)
      else:
        w.request(CMD_READ, i, 1 << 20)
  except TimeoutError:
    return w                    # it is not read from any more
  raise AssertionError("ten thousand requests were taken")

before = resident()
clients = [stuck(style) for style in (SIMPLE, STRUCTURED, EXTENDED)
           for i in range(5)]
cost = (resident() - before) / len(clients)
print("%d KiB for each" % cost, file=sys.stderr)
assert cost < 1024 or os.environ.get("NBDFLEECE_SANITIZER", "no") != "no"
w = Wire(path)
w.structured()
w.go("vda@s")
start = time.monotonic()
for i in range(200):
  w.read_data(i * 4096, 4096)
assert time.monotonic() - start < 10
PY
pull

# The front is told to end while clients do not read: the backend is not cut off
# in the middle of its replies, which it may not survive.
for round in 1 2 3; do
  cat >"$tmp/stuck.py" <<'PY'
import sys
from nbdwire import *
path, ready = sys.argv[1:]
ws = []
for i in range(12):
  w = Wire(path)
  w.structured()
  w.go("vda@s")
  for n in range(40):
    w.request(CMD_READ, n, 1 << 20)
  ws.append(w)
open(ready, "w").close()
sys.stdin.read()
PY
  rm -f "$tmp/ready" "$tmp/hold"
  mkfifo "$tmp/hold"
  exec 8<>"$tmp/hold"
  start "$PYTHON" "$tmp/stuck.py" "$tmp/front.sock" "$tmp/ready" <&8
  stuck=$pid
  wait_for 60 test -e "$tmp/ready"
  stop "$front" "${NBDFLEECE_FRONT_SIGNAL:-TERM}"
  alive "$backend" || fail "the backend did not survive the front's end"
  stop "$stuck" KILL
  exec 8>&-
  start_front
  pull
done
alive "$backend"
