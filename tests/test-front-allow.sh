#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: who may see what, by address; rules, listeners and limits that change
# while it runs; sockets that were open before.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit nbdinfo

for e in vda vdb vdc; do
  truncate -s 1M "$tmp/$e.disk"
  new_snapshot $e s 1048576 65536
done
start_backend
p4=$(free_port) p6=$(free_port) p7=$(free_port)
v6=yes
"$PYTHON" -c 'import socket; socket.socket(socket.AF_INET6).bind(("::1", 0))' \
  2>/dev/null || v6=no

rules () {
  { echo "listen tcp:127.0.0.1:$p4"
    [ $v6 = no ] || echo "listen tcp:[::1]:$p6"
    cat; } >"$tmp/new.conf"
  mv "$tmp/new.conf" "$tmp/front.conf"
}
reload () {
  : >"$tmp/front.log"
  kill -HUP "$front"
  wait_for 30 grep -q "${1:-were read again}" "$tmp/front.log"
}
sees () {                       # sees ADDRESS PORT EXPORT...
  local where=$1 port=$2 got
  shift 2
  got=$("$PYTHON" -c 'import sys
from nbdwire import *
w = Wire((sys.argv[1], int(sys.argv[2])))
names = [n for n, _ in w.list()]
for e in ("vda", "vdb", "vdc"):
  if e + "@s" in names: w.info(e + "@s")
  else: expect(ERR_UNKNOWN, w.info, e + "@s")
print(*names)' "$where" "$port")
  [ "$got" = "$*" ] || fail "$where:$port sees '$got', not '$*'"
}

rules </dev/null
start_front --config "$tmp/front.conf"
# No rule, no export; the unix socket is guarded by its mode.
sees 127.0.0.1 $p4
[ $v6 = no ] || sees ::1 $p6
[ "$(nbdinfo --list --json "$(front_uri)" | grep -c '"export-name"')" = 3 ]

rules <<'EOF'
allow vda address=127.0.0.1
allow vdb address=127.0.0.0/8
allow vdc address=127.0.0.2
allow vdc address=10.0.0.0/8
allow vdc address=::/0 certificate=nobody
EOF
reload
sees 127.0.0.1 $p4 vda@s vdb@s
[ $v6 = no ] || sees ::1 $p6

rules <<'EOF'
	allow   *    address=::1/128
allow vdc address=0.0.0.0/0
EOF
reload
sees 127.0.0.1 $p4 vdc@s
[ $v6 = no ] || sees ::1 $p6 vda@s vdb@s vdc@s

# /31 and the like: bits, not bytes.
rules <<'EOF'
allow vda address=127.0.0.0/31
allow vdb address=127.0.0.2/31
allow vdc address=126.0.0.0/7
EOF
reload
sees 127.0.0.1 $p4 vda@s vdc@s

# Who is connected stays, whatever the rules say now; and where it listens can
# change, too.
"$PYTHON" - $p4 $p7 "$tmp/front.conf" "$front" "$tmp/front.log" <<'PY'
import os, signal, sys, time
from nbdwire import *
p4, p7, conf, front, log = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]

def wait_for(text):
  deadline = time.monotonic() + 30
  while text not in open(log).read():
    assert time.monotonic() < deadline
    time.sleep(0.02)

w = Wire(("127.0.0.1", p4))
w.go("vda@s")
haggling = Wire(("127.0.0.1", p4))
assert len(haggling.list()) == 2
open(log, "w").close()
with open(conf, "w") as f:
  f.write("listen tcp:127.0.0.1:%d\nallow vda address=127.0.0.9\n" % p7)
os.kill(int(front), signal.SIGHUP)
wait_for("read again")
w.read_data(0, 4096)
assert haggling.list() == []
expect(ERR_UNKNOWN, haggling.go, "vda@s")
try:
  Wire(("127.0.0.1", p4))
  assert False, "it still listens there"
except ConnectionRefusedError:
  pass
Wire(("127.0.0.1", p7)).list()
PY

# A reload that is wrong changes nothing, and says where and why.
bad () {
  cp "$tmp/front.conf" "$tmp/good.conf"
  printf '%s\n' "$1" >>"$tmp/front.conf"
  reload "nothing has changed: .*$2"
  cp "$tmp/good.conf" "$tmp/front.conf"
  sees 127.0.0.1 $p7
}
bad 'allow vda' 'front.conf:3: allow: .*expected a condition'
bad "listen tcp:127.0.0.1:$p7" 'comes twice'
bad "listen tcp:192.0.2.1:$p4" '192.0.2.1'
bad 'state /' 'given twice'
bad 'nonsense 1' "unknown option 'nonsense'"
bad 'max-connections 0' 'expected a number'
reload

# Listening sockets that whoever starts it has opened before: clients wait in
# them while it is not there.
stop "$front"
cat >"$tmp/activate.py" <<'PY'
import os, socket, sys
port, path, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
u = socket.socket(socket.AF_UNIX)
u.bind(path)
u.listen(5)
t = socket.socket()
t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
t.bind(("127.0.0.1", port))
t.listen(5)
waiting = socket.create_connection(("127.0.0.1", port))
waiting_unix = socket.socket(socket.AF_UNIX)
waiting_unix.connect(path)
pid = os.fork()
if pid == 0:
  os.dup2(u.fileno(), 3)
  os.dup2(t.fileno(), 4)
  os.set_inheritable(3, True)
  os.set_inheritable(4, True)
  os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
  os.execv(command[0], command)
for s in (waiting, waiting_unix):
  s.settimeout(60)
  data = b""
  while len(data) < 18:
    data += s.recv(18 - len(data))
  assert data.startswith(b"NBDMAGICIHAVEOPT")
os.kill(pid, 15)
assert os.waitpid(pid, 0)[1] == 0
assert os.path.exists(path)     # it was not the front's to remove
PY
"$PYTHON" "$tmp/activate.py" "$p4" "$tmp/given.sock" "$NBDFLEECE_FRONT" \
  --state "$state" --backend "$tmp/backend.sock" \
  --listen "tcp:127.0.0.1:$p4" --listen "unix:$tmp/given.sock"
