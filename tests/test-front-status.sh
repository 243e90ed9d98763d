#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: the status shows each pulling client, once, with what it has read.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit nbdcopy

size=$((64 * 1048576))
head -c $size /dev/urandom >"$tmp/vda.disk"
"$track" new "$state" vda c1 - $size 65536
"$track" begin "$(dirty vda c1)"
new_snapshot vda s $size 65536
port=$(free_port)
start_backend
start_front --listen "tcp:127.0.0.1:$port" --allow '* address=127.0.0.1'

[ "$(front_status 'd["clients"]')" = '[]' ]
"$PYTHON" - "$tmp/front.sock" "$port" "$tmp/status.sock" "$front" <<'PY'
import json, os, socket, sys, time
from nbdwire import *
path, tcp, status, front = sys.argv[1], ("127.0.0.1", int(sys.argv[2])), \
  sys.argv[3], int(sys.argv[4])

def get():
  s = socket.socket(socket.AF_UNIX)
  s.connect(status)
  text = b"".join(iter(lambda: s.recv(65536), b""))
  assert text.endswith(b"\n") and text.count(b"\n") == 1
  return json.loads(text)

def wait_for(condition):
  deadline = time.monotonic() + 30
  while not condition(get()):
    assert time.monotonic() < deadline, get()
    time.sleep(0.05)

d = get()
assert d["pid"] == front and d["connections"] == 0 and not d["stopping"]
assert d["listen"][0] == {"address": "unix:" + path, "tls": "off"}
assert [l["tls"] for l in d["listen"]] == ["off", "off"]

# Four connections of one client are one pull; another address is another.
ws = []
for i in range(4):
  w = Wire(path)
  w.structured()
  w.set_contexts("vda@s", *(["base:allocation"] if i else
                            ["qemu:dirty-bitmap:c1"]))
  w.go("vda@s")
  ws.append(w)
other = Wire(tcp)
other.go("vda@s")
haggling = Wire(path)           # has not chosen anything: it is no pull
d = get()
assert d["connections"] == 6
mine, = [c for c in d["clients"] if c["pid"] == os.getpid()]
theirs, = [c for c in d["clients"] if c is not mine]
assert mine["address"] == "unix" and mine["connections"] == 4
assert mine["snapshot"] == "vda@s" and mine["identity"] is None
assert sorted(mine["contexts"]) == ["base:allocation", "qemu:dirty-bitmap:c1"]
assert mine["bytes"] == 0 and mine["part-read"] == 0
assert not mine["tls"]
assert theirs["address"] == "127.0.0.1" and theirs["pid"] is None
assert theirs["connections"] == 1 and theirs["contexts"] == []

# What is read counts, once; what is read again counts as bytes only.
M = 1 << 20
for i in range(16):
  ws[i % 4].read_data(i * M, M)
d = get()
mine, = [c for c in d["clients"] if c["pid"]]
assert mine["bytes"] == 16 * M and mine["part-read"] == 0.25, mine
for i in range(16):
  ws[0].read_data(0, M)
mine, = [c for c in get()["clients"] if c["pid"]]
assert mine["bytes"] == 32 * M and mine["part-read"] == 0.25, mine
ws[0].read_data(48 * M, 16 * M)
mine, = [c for c in get()["clients"] if c["pid"]]
assert mine["part-read"] == 0.5, mine

# A rate, while it goes on.
end = time.monotonic() + 3
while time.monotonic() < end:
  ws[1].read_data(0, M)
mine, = [c for c in get()["clients"] if c["pid"]]
assert mine["bytes-per-second"] > M, mine
assert mine["connected-seconds"] >= 3

for w in ws + [other, haggling]:
  w.close()
wait_for(lambda d: d["connections"] == 0 and d["clients"] == [])
assert get()["connected"] == 6

# Readers that do not read, and many of them, are no trouble.
lazy = []
for i in range(40):
  s = socket.socket(socket.AF_UNIX)
  s.connect(status)
  lazy.append(s)
w = Wire(path)
w.go("vda@s")
w.read_data(0, M)
for s in lazy:
  s.close()
wait_for(lambda d: d["connections"] == 1)
PY
