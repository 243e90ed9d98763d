#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: connections over TCP are watched, so that a host that is gone without
# a word is noticed.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit

make_image "$tmp/disk" 4M:r
begin_snapshot s "$tmp/disk" 65536

# A port that nobody has; somebody may take it before nbdkit does.
serve () {
  port=$("$PYTHON" -c 'import socket
s = socket.socket ()
s.bind (("127.0.0.1", 0))
print (s.getsockname ()[1])')
  rm -f "$tmp/t.pid"
  start "$NBDKIT" -f --exit-with-parent -P "$tmp/t.pid" -i 127.0.0.1 \
        -p "$port" memory 4M 2>"$tmp/t.log"
  wait_for 30 nbdkit_started t "$pid"
  [ -s "$tmp/t.pid" ]
}
for try in 1 2 3 4 5; do
  serve && break
  [ $try -lt 5 ] || fail "no port"
done

# The kernel's list: remote address in the third field, and 02 in the sixth if
# the keepalive timer runs.
watched () {
  awk -v to="0100007F:$(printf %04X "$port")" \
    '$3 == to && $4 == "01" { n++; if ($6 ~ /^02:/) w++ }
     END { exit !(n > 0 && n == w) }' /proc/net/tcp
}
start_copy --speed=10 "map:$map" "nbd://127.0.0.1:$port"
wait_for 30 has_done 65536
order '{"command":"pause"}'
wait_for 30 watched
order '{"command":"speed","bytes-per-second":0}'
order '{"command":"resume"}'
ended 0
