#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: the handshake, byte by byte, against the protocol's specification.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit

head -c 1000001 /dev/urandom >"$tmp/vda.disk"
cp "$tmp/vda.disk" "$tmp/vdb.disk"
new_snapshot vda monday 1000001 4096
new_snapshot vda tuesday 1000001 65536
new_snapshot vdb monday 1000001 4096
"$play" new "$state" vdb later "file:$tmp/vdb.disk" 1000001 4096 # not begun
"$track" new "$state" vda cp1 - 1000001 4096
"$track" begin "$(dirty vda cp1)" "$(map vda monday)"
start_backend
start_front

"$PYTHON" "$abs_top_srcdir/tests/front-handshake.py" "$tmp/front.sock" "$tmp/vda.disk"
