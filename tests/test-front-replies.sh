#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: every request and reply, with simple replies and both header sizes.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit

size=$((80 * 1048576 + 777))
head -c $size /dev/urandom >"$tmp/vda.disk"
cp "$tmp/vda.disk" "$tmp/before"
"$track" new "$state" vda cp1 - $size 65536
"$track" begin "$(dirty vda cp1)"
"$track" dirty "$(dirty vda cp1)" $((3 * 65536)) 1
"$track" dirty "$(dirty vda cp1)" $((50 * 65536 + 100)) $((10 * 65536 - 100))
"$track" dirty "$(dirty vda cp1)" $((1000 * 65536)) 65536
new_snapshot vda s $size 65536
m=$(map vda s)
"$play" write "$m" "$tmp/vda.disk" $((5 * 65536)) $((3 * 65536)) 1
"$play" write "$m" "$tmp/vda.disk" $((100 * 65536 + 5)) 10 2
"$play" lose "$m" $((1000 * 65536)) 65536
"$play" release "$m" $((1010 * 65536)) 65536
start_backend
start_front

"$PYTHON" "$abs_top_srcdir/tests/front-replies.py" "$tmp/front.sock" "$tmp/before"
