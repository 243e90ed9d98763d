# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# For tests of nbdfleece-front: sourced after functions.sh.

state=$tmp/state
play=$abs_top_builddir/tests/play-filter
track=$abs_top_builddir/tests/play-tracking
export PYTHONPATH=$abs_top_srcdir/tests PYTHONDONTWRITEBYTECODE=1
export PYTHONUNBUFFERED=1
mkdir -p "$state"

map () { echo "$state/exports/$1/$2.map"; }
dirty () { echo "$state/exports/$1/$2.dirty"; }

# new_snapshot EXPORT SNAPSHOT SIZE CLUSTER-SIZE: begun, of $tmp/EXPORT.disk.
new_snapshot () {
  "$play" new "$state" "$1" "$2" "file:$tmp/$1.disk" "$3" "$4"
  "$play" begin "$(map "$1" "$2")"
}

# start_backend: the snapshot server; its pid is in $backend.
start_backend () {
  start_nbdkit backend -r "$NBDFLEECE_PLUGIN" dir="$state"
  backend=$pid
}

# start_front [ARGS]: on $tmp/front.sock, ready for clients; its pid is in
# $front, its messages are in $tmp/front.log.
start_front () {
  start "$NBDFLEECE_FRONT" --state "$state" --backend "$tmp/backend.sock" \
        --listen "unix:$tmp/front.sock" --status "$tmp/status.sock" "$@" \
        2>>"$tmp/front.log"
  front=$pid
  wait_for 30 front_is_up
  alive "$front" || fail "the front ended"
}
front_is_up () { [ -S "$tmp/status.sock" ] || dead "$front"; }

# front_uri [EXPORT@SNAPSHOT]
front_uri () { uri front "${1:-}"; }

# free_port: one of 127.0.0.1 that nobody used just now.
free_port () {
  "$PYTHON" -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# front_status [EXPRESSION]: of the status document d, in Python.
front_status () {
  "$PYTHON" - "$tmp/status.sock" "${1:-d}" <<'PY'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
d = json.loads(b"".join(iter(lambda: s.recv(65536), b"")))
print(eval(sys.argv[2]))
PY
}
