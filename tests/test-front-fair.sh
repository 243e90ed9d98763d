#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: a client that asks for as much as it can does not keep others from
# theirs, neither one beside it nor a short request behind its long ones.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit

head -c 64M /dev/urandom >"$tmp/vda.disk"
new_snapshot vda s $((64 << 20)) 65536
start_backend
start_front
"$PYTHON" - "$tmp/front.sock" "$tmp/vda.disk" <<'PY'
import sys, threading
from nbdwire import *
path = sys.argv[1]
disk = open(sys.argv[2], "rb").read()
M = 1 << 20

# Four greedy ones, each with 16 MiB of long requests always under way.
stop = threading.Event()
got = [0] * 4
def greedy(i):
  w = Wire(path)
  w.structured()
  w.go("vda@s")
  for n in range(4):
    w.request(CMD_READ, n * 4 * M, 4 * M, cookie=n)
  while not stop.is_set():
    cookie, c = w.chunk()
    got[i] += len(c.data)
    if c.flags & DONE:
      w.request(CMD_READ, (cookie % 16) * 4 * M, 4 * M, cookie=cookie + 4)
  w.close()
threads = [threading.Thread(target=greedy, args=(i,)) for i in range(4)]
for t in threads:
  t.start()
while min(got) < 8 * M:
  assert all(t.is_alive() for t in threads)

# A modest one: for each of its requests, some turns of each of the others.
w = Wire(path)
w.structured()
w.go("vda@s")
before = sum(got)
for i in range(300):
  assert w.read_data(i * 4096, 4096) == disk[i * 4096:(i + 1) * 4096]
took = (sum(got) - before) / M / 300
stop.set()
for t in threads:
  t.join()
print("%.1f MiB went to the others for each short read; they got %s MiB" %
      (took, [g // M for g in got]), file=sys.stderr)
assert took < 64, took
assert max(got) < 8 * min(got), got

# Within one client: a short request that comes after 256 MiB of long ones is
# not answered after all of them.
w = Wire(path)
w.structured()
w.go("vda@s")
for n in range(4):
  w.request(CMD_READ, 0, 64 * M, cookie=n)
w.request(CMD_READ, 4096, 4096, cookie=77)
before, left = 0, 5
while left:
  cookie, c = w.chunk()
  if cookie == 77 and c.flags & DONE:
    short = before
    assert c.data[8:] == disk[4096:8192]
  before += len(c.data)
  left -= c.flags & DONE
print("it came after %d MiB of %d" % (short // M, before // M),
      file=sys.stderr)
assert short < 128 * M, short
PY
