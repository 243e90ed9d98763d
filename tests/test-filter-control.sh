#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: begin and end under I/O, and hostile messages on the control socket.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit nbdcopy
requires_python_nbd

make_disk 3000000
umask 000
start_export file "$disk" fleece-id=who-i-am
start_front
[ "$(stat -c %a "$tmp/vda.ctl")" = 600 ]
expect "ok 3000000 4096 $export_pid 0 who-i-am no" hello

# Several at once; each has its own instant.
expect "ok *" begin a
[ "$(stat -c %a "$state/exports/vda/a.map" "$state/exports/vda/vda@a.scratch" | sort -u)" = 600 ]
nbdsh_vda "h.pwrite (b'1' * 10000, 5000)"
cp "$disk" "$tmp/b"
expect "ok *" begin b
nbdsh_vda "h.pwrite (b'2' * 10000, 2990000)"
for s in a b; do
  nbdcopy "$(uri snap vda@$s)" "$tmp/copy-$s"
done
same "$tmp/copy-a" "$tmp/before"
same "$tmp/copy-b" "$tmp/b"
[ "$(stat_of copied_clusters a)" = 7 ]
[ "$(stat_of copied_clusters b)" = 4 ]
[ "$(stat_of writes)" = 2 ]
[ "$(stat_of written_bytes)" = 20000 ]
[ "$(stat_of cow_requests)" = 2 ]

# A client that has a snapshot open when it ends gets a clean error.
"$PYTHON" - "$(uri snap vda@a)" "$tmp" <<'PY' &
import errno, nbd, os, sys, time
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pread (4096, 0)
open (sys.argv[2] + "/open", "w").close ()
deadline = time.monotonic () + 60
while not os.path.exists (sys.argv[2] + "/ended"):
  assert time.monotonic () < deadline
  time.sleep (0.01)
for at in (0, 8192, 2000000):
  try:
    h.pread (4096, at)
    assert False
  except nbd.Error as e:
    assert e.errnum == errno.ESHUTDOWN, e
PY
reader=$!
pids+=("$reader")
wait_for 60 test -e "$tmp/open"
expect ok end a
touch "$tmp/ended"
wait $reader
expect "error ENOENT" end a
# What an ended snapshot cost stays counted; its scratch is gone.
[ "$(stat_of copied_clusters)" = 11 ]
[ "$(stat_of scratch_bytes)" = "$(stat_of scratch_bytes b)" ]
expect "error ENOENT" stats a
expect "error ENOENT" untrack
expect "error EEXIST" begin b
# The sockets of its clients can be told only by that of a listener.
expect "error EOPNOTSUPP" hang-up

# Bad messages: an error, that connection closed, nobody else hurt.
"$PYTHON" - "$tmp/vda.ctl" "$state/exports/vda/b.map" "$tmp" <<'PY'
import array, errno, os, random, socket, struct, sys

path, b_map, tmp = sys.argv[1:]
seed = int (os.environ.get ("NBDFLEECE_SEED") or random.randrange (2**32))
print ("NBDFLEECE_SEED=%d" % seed)
random.seed (seed)
MAGIC, VERSION = 0x464c4342, 1
HELLO, FREEZE, THAW, BEGIN, END, STATS, UNTRACK, LIST = range (1, 9)

def connect ():
  s = socket.socket (socket.AF_UNIX, socket.SOCK_SEQPACKET)
  s.connect (path)              # waits while the backlog is full
  s.settimeout (30)
  return s

def request (op, flags=0, ms=1000, magic=MAGIC, version=VERSION):
  return struct.pack ("=IHHQII16s", magic, version, op, 77, flags, ms, bytes (16))

def error_of (reply):
  magic, version, op, cookie, error = struct.unpack_from ("=IHHQi", reply)
  assert magic == MAGIC and version == VERSION
  return error

def ask (s, packet, fds=()):
  anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array ("i", fds))] if fds else []
  s.sendmsg ([packet], anc)
  return s.recv (65536)

assert error_of (ask (connect (), request (HELLO))) == 0

# Not a request: EPROTO, then closed.
good = request (HELLO)
for bad in (b"x", good[:-1], good + b"y", request (HELLO, magic=1),
            request (HELLO, version=2), bytes (len (good)), b"z" * 60000):
  s = connect ()
  assert error_of (ask (s, bad)) == errno.EPROTO, bad[:20]
  assert s.recv (1) == b""

# Valid, and nonsense.
s = connect ()
assert error_of (ask (s, request (99))) == errno.ENOTSUP
assert error_of (ask (s, request (0))) == errno.ENOTSUP
assert error_of (ask (s, request (BEGIN, 1))) == errno.EINVAL
assert error_of (ask (s, request (BEGIN, 0))) == errno.EINVAL
assert error_of (ask (s, request (BEGIN, 0x80000001))) == errno.EINVAL

# Descriptors of the wrong number and kind.
nul = os.open ("/dev/null", os.O_RDWR)
d = os.open ("/tmp", os.O_RDONLY)
big = os.open (tmp + "/disk", os.O_RDWR)
short = os.open (tmp + "/short", os.O_RDWR | os.O_CREAT)
begun = os.open (b_map, os.O_RDWR)
r, w = os.pipe ()
assert error_of (ask (s, request (BEGIN, 1), [nul])) == errno.EINVAL
for a in (nul, d, big, short, begun, r):
  for b in (nul, d, big, short, r):
    e = error_of (ask (s, request (BEGIN, 1), [a, b]))
    assert e != 0, (a, b)
t = connect ()
assert error_of (ask (t, request (HELLO), [nul] * 4)) == errno.EPROTO
assert t.recv (1) == b""

# Files that lie about their sizes: every word of a real header, changed.
header = bytearray (open (b_map, "rb").read ())
state = 3072
header[state:state + 4] = struct.pack ("=I", 0)
for i in range (300):
  h = bytearray (header)
  if i < 100:
    at = random.randrange (0, 300)
  else:
    at = random.randrange (0, len (h))
  n = random.choice ((1, 4, 8))
  h[at:at + n] = random.choice ((b"\xff" * n, bytes (n), os.urandom (n)))
  if i % 7 == 0:
    h = h[:random.randrange (len (h))]
  f = os.open (tmp + "/lie", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
  os.write (f, h)
  # The scratch is too small, so nothing begins even if the map will do.
  assert error_of (ask (s, request (BEGIN, 1), [f, short])) != 0
  os.close (f)

# A crowd: more clients than it takes, then they go and it serves again.
crowd = []
for i in range (40):
  try:
    crowd.append (connect ())
  except OSError:
    break
for c in crowd:
  c.close ()
for i in range (2000):
  t = connect ()
  try:
    t.send (os.urandom (random.randrange (1, 200)))
  except (BrokenPipeError, ConnectionResetError):
    pass                        # one client too many
  t.close ()
PY

# It serves as before, has the one snapshot, and has no descriptor more.
serves () { ctl hello >/dev/null 2>&1; }
wait_for 30 serves
expect "ok 1" list
few () { [ "$(find "/proc/$export_pid/fd" -type l | wc -l)" -lt 40 ]; }
wait_for 10 few
rm "$tmp/copy-b"
nbdcopy "$(uri snap vda@b)" "$tmp/copy-b"
same "$tmp/copy-b" "$tmp/b"
