#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The control socket: what is no request gets an error and harms nobody.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"

truncate -s 1M "$tmp/a.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X
start_daemon
descriptors () { ls "/proc/$daemon/fd" | wc -l; }
before=$(descriptors)

cat >"$tmp/t.py" <<'PY'
import json, os, socket, sys, threading
path = sys.argv[1]
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(path)
    return s, s.makefile("rb")
def ask(f, s, line):
    s.sendall(line + b"\n")
    return json.loads(f.readline())
def code(reply):
    assert "result" not in reply, reply
    assert "\n" not in reply["error"]["message"]
    return reply["error"]["code"]

print("wrong lines, all on one connection that goes on", file=sys.stderr)
s, f = connect()
for line in [b"", b"x", b"{", b"[]", b"null", b'"status"', b"{}", b"\0",
             b'{"command":1}', b'{"command":null}', b'{"command":"status"} x',
             b'{"command":"status"}\0', b'{"command":"status","id":{}}',
             b'{"command":"status","id":"' + b"x" * 65 + b'"}',
             b'{"command":"status","x":1}', b'{"command":"\xff"}',
             b'{"command":"snapshot-create"}',
             b'{"command":"snapshot-create","exports":"vda","name":"x"}',
             b'{"command":"snapshot-create","exports":[],"name":"x"}',
             b'{"command":"snapshot-create","exports":[1],"name":"x"}',
             b'{"command":"snapshot-create","exports":["vda","vda"],"name":"x"}',
             b'{"command":"snapshot-create","exports":["vda"],"name":"x","deadline-ms":0}',
             b'{"command":"snapshot-create","exports":["vda"],"name":"x","deadline-ms":1e3}',
             b'{"command":"snapshot-create","exports":["vda"],"name":"x\\u0000y"}',
             b'{"command":"backup","export":"vda","target":"/x","speed":-1}',
             b'{"command":"backup","export":"vda","target":"/x","speed":"1M"}',
             b'{"command":"backup","export":"vda","target":"/x","sync":"some"}',
             b'{"command":"job-wait","job":1}',
             b"[" * 1000, b'{"command":' * 100]:
    assert code(ask(f, s, line)) == "bad-request", line
for line, want in [(b'{"command":"nonsense"}', "unknown-command"),
                   (b'{"command":"job-show","job":"x"}', "unknown-job"),
                   (b'{"command":"snapshot-list","export":"x"}', "unknown-export"),
                   (b'{"command":"snapshot-create","exports":["../a"],"name":"x"}', "unknown-export"),
                   (b'{"command":"snapshot-create","exports":["vda"],"name":"../x"}', "bad-name"),
                   (b'{"command":"backup","export":"vda","target":"x"}', "bad-target"),
                   (b'{"command":"backup","export":"vda","target":""}', "bad-target")]:
    assert code(ask(f, s, line)) == want, line
assert ask(f, s, b'{"command":"version","id":"a"}')["id"] == "a"
assert ask(f, s, b'{"id":-5,"command":"version"}')["id"] == -5

print("a line of just the right length, and one that is too long", file=sys.stderr)
line = b'{"command":"version"'
line += b" " * (65535 - len(line) - 1) + b"}"
assert len(line) + 1 == 65536
assert "result" in ask(f, s, line)
s.sendall(b"x" * 65536)
assert code(json.loads(f.readline())) == "too-large"
assert f.readline() == b""

print("many requests at once, answered in order", file=sys.stderr)
s, f = connect()
n = 500
def send():
    for i in range(n):
        s.sendall(b'{"command":"status","id":%d}\n' % i)
t = threading.Thread(target=send)
t.start()
for i in range(n):
    assert json.loads(f.readline())["id"] == i
t.join()

print("the sending side shut down: the replies still come", file=sys.stderr)
s, f = connect()
s.sendall(b'{"command":"version"}\n{"command":"status"}\n')
s.shutdown(socket.SHUT_WR)
assert "result" in json.loads(f.readline())
assert "result" in json.loads(f.readline())
assert f.readline() == b""

print("clients that never read hold up nobody", file=sys.stderr)
slow = []
for i in range(10):
    s, f = connect()
    s.setblocking(False)
    try:
        while True:
            s.send(b'{"command":"status"}\n' * 100)
    except BlockingIOError:
        pass
    slow.append(s)
s, f = connect()
assert "result" in ask(f, s, b'{"command":"version"}')
for x in slow:
    x.close()

print("too many clients", file=sys.stderr)
many = [connect() for i in range(100)]
def reply(s, f):
    try:
        s.sendall(b'{"command":"version"}\n')
    except BrokenPipeError:
        pass
    try:
        return json.loads(f.readline())
    except ConnectionResetError:
        return {"error": {"code": "busy"}}
replies = [reply(s, f) for s, f in many]
served = [r for r in replies if "result" in r]
refused = [r for r in replies if "error" in r]
# (the slow ones of before may not have been seen off yet)
assert 50 <= len(served) <= 64, len(served)
assert all(r["error"]["code"] == "busy" for r in refused)
for s, f in many:
    f.close()
    s.close()

print("cut off in the middle, a thousand times", file=sys.stderr)
for i in range(1000):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    try:
        s.sendall(b'{"command":"status"}\n{"comm')
    except (BrokenPipeError, ConnectionResetError):
        pass                    # one of too many at once
    s.close()
PY
"$PYTHON" "$tmp/t.py" "$run/control.sock"

say "nothing leaks"
wait_for 20 eval '[ "$(descriptors)" -le '"$before"' ]'
nf status >/dev/null
no_snapshot_files
stop_daemon
