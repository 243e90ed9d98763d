#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The front as the daemon keeps it: whatever dies, who reads goes on and who
# connects waits; rules, limits and addresses change while clients read.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy nbdinfo
requires_python_nbd
export PYTHONPATH=$abs_top_srcdir/tests PYTHONDONTWRITEBYTECODE=1

ports=($("$PYTHON" -c 'import socket
s = [socket.socket() for i in range(2)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])'))
head -c 16M /dev/urandom >"$tmp/a.img"
configure () { # PORT LINES...
  local port=$1
  shift
  { printf 'backup:\n  listen: [{tcp: "127.0.0.1:%s"}]\n' "$port"
    [ $# = 0 ] || printf '  %s\n' "$@"
    printf 'exports:\n  - {name: vda, disk: %s}\n' "$tmp/a.img"; } | write_config
}
configure "${ports[0]}" 'allow: [{address: 127.0.0.1}]'
start_daemon
nf snapshot create vda s >/dev/null
tcp_uri () { echo "nbd://127.0.0.1:$1/vda@s"; }

# A client that reads all of it over and over, on one connection, comparing; its
# rounds are counted in FILE.
cat >"$tmp/reader.py" <<'PY'
import nbd, os, sys
uri, disk, count, stop = sys.argv[1:]
want = open(disk, "rb").read()
h = nbd.NBD()
h.connect_uri(uri)
rounds = 0
while not os.path.exists(stop):
    for at in range(0, len(want), 1 << 20):
        assert h.pread(1 << 20, at) == want[at:at + (1 << 20)], at
    rounds += 1
    with open(count + ".new", "w") as f:
        f.write(str(rounds))
    os.rename(count + ".new", count)
h.shutdown()
PY
start_reader () { # NAME URI
  start "$PYTHON" "$tmp/reader.py" "$2" "$tmp/a.img" "$tmp/$1.rounds" "$tmp/stop"
  eval "$1=$pid"
  wait_for 60 test -s "$tmp/$1.rounds"
}
rounds_over () { [ "$(cat "$tmp/$1.rounds")" -gt "$2" ]; }
# goes_on NAME: it has read all of it once more, begun after now.
goes_on () {
  local n
  n=$(cat "$tmp/$1.rounds")
  wait_for 60 rounds_over "$1" $((n + 1))
}
start_reader local "$(snapshot_uri vda s)"
start_reader remote "$(tcp_uri "${ports[0]}")"

say "the snapshot server killed: nobody notices"
for i in 1 2 3; do
  old=$(cat "$run/backup.data.pid")
  kill -KILL "$old"
  goes_on local
  goes_on remote
  [ "$(cat "$run/backup.data.pid")" != "$old" ]
done

say "the daemon killed, and another one: nobody notices"
front=$(cat "$run/backup.pid")
kill_daemon
goes_on local
start_daemon
goes_on remote
[ "$(cat "$run/backup.pid")" = "$front" ]

say "another address, other rules: who reads goes on"
configure "${ports[1]}" 'allow: [{address: 127.0.0.0/31}]' 'max-request: 4M'
nf reload
[ "$(cat "$run/backup.pid")" = "$front" ]
goes_on local
goes_on remote
must_fail 'refused' nbdinfo "$(tcp_uri "${ports[0]}")"
[ "$(nbdinfo --json "$(tcp_uri "${ports[1]}")" |
     json "d['exports'][0]['block_size_maximum']")" = $((4 << 20)) ]
configure "${ports[1]}" 'max-connections-per-client: 2'
nf reload
must_fail 'no export|No such file' nbdinfo "$(tcp_uri "${ports[1]}")"
"$PYTHON" - "$run/backup.sock" <<'PY'
import sys
from nbdwire import *
w = [Wire(sys.argv[1]) for i in range(2)]
expect_closed(Wire(sys.argv[1], None))
for x in w:
    x.go("vda@s")
    x.read_data(0, 512)
PY
goes_on remote                  # rules are for who comes
configure "${ports[1]}" 'allow: [{address: 127.0.0.1}]'
nf reload

say "they have read what was there, all the time"
: >"$tmp/stop"
wait "$local" || fail "the local reader failed"
wait "$remote" || fail "the remote reader failed"
rm "$tmp/stop"

say "the front killed: who connects waits, also at an address that it opened"
for i in 1 2 3; do
  for uri in "$(snapshot_uri vda s)" "$(tcp_uri "${ports[1]}")"; do
    kill -KILL "$(cat "$run/backup.pid")"
    nbdcopy "$uri" "$tmp/copy"
    same "$tmp/copy" "$tmp/a.img"
  done
done
must_fail 'refused' nbdinfo "$(tcp_uri "${ports[0]}")"
start_reader last "$(snapshot_uri vda s)"
stop_daemon
wait "$last" && fail "it cannot have read without a server"
[ "$(cat "$tmp/last.rounds")" -ge 1 ]
