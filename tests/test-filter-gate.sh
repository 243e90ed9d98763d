#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: the gate holds writes, drains them, and never for longer than said.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit nbdcopy
requires_python_nbd

make_disk $((8 * 1048576))
# delay-write is what a write in flight waits for.
start_export --filter=delay file "$disk" delay-write=300ms
start_front

# A session keeps its connection, and so the gate.
coproc session { exec "$abs_top_builddir/tests/ctl" "$tmp/vda.ctl" "$state" "file:$disk"; }
pids+=("$session_PID")
say_to () { echo "$*" >&"${session[1]}"; }
hear () {
  local want=$1 got
  read -r -t 60 got <&"${session[0]}" || fail "no answer"
  # shellcheck disable=SC2053
  [[ $got == $want ]] || fail "expected '$want', got '$got'"
}
held () { [ "$(stat_of held_requests)" -ge "$1" ]; }

# A frozen gate holds a write, and lets reads pass.
say_to freeze 60000
hear ok
nbdsh_vda "h.pwrite (b'x' * 4096, 0)" &
writer=$!
pids+=("$writer")
wait_for 30 held 1
nbdsh_vda "h.pread (4096, 0)"
same "$disk" "$tmp/before"
alive $writer || fail "the write went through a closed gate"

# Somebody else can neither close nor open nor use it.
expect "error EBUSY" freeze 1000
expect "error ESTALE" thaw
expect "error ESTALE" begin other frozen
expect "error EBUSY" begin other

# The instant of a frozen begin is before the held write.
say_to begin s1 frozen
hear "ok *"
wait $writer
nbdcopy "$(uri snap vda@s1)" "$tmp/s1"
same "$tmp/s1" "$tmp/before"
[ "$(head -c 1 "$disk")" = x ] || fail "the write was lost"
say_to thaw
hear "error ESTALE"

# A gate past its deadline is open, with nobody there to notice ...
say_to freeze 50
hear ok
nbdsh_vda "h.pwrite (b'y' * 4096, 0)"
say_to begin s2 frozen
hear "error ESTALE"
[ ! -e "$state/exports/vda/s2.map" ]
# ... and with a write that waits for it.
say_to freeze 400
hear ok
nbdsh_vda "h.pwrite (b'z' * 4096, 0)"
say_to thaw
hear "error ESTALE"

# Whoever holds it and goes away opens it.
say_to freeze 60000
hear ok
nbdsh_vda "h.pwrite (b'w' * 4096, 0)" &
writer=$!
pids+=("$writer")
wait_for 30 held 3
kill -KILL "$session_PID"
wait $writer
[ "$(head -c 1 "$disk")" = w ]

# A begin waits for the write in flight, and gives up at its deadline: then
# the snapshot is not there and the write is not hurt.
writes=$(stat_of writes)
nbdsh_vda "
c = h.aio_pwrite (nbd.Buffer.from_bytearray (b'v' * 4096), 0)
while h.aio_in_flight () and not os.path.exists ('$tmp/began'):
  h.poll (10)
while not h.aio_command_completed (c):
  h.poll (-1)
" &
writer=$!
pids+=("$writer")
in_flight () { [ "$(stat_of writes)" -ge "$1" ]; }
wait_for 30 in_flight $((writes + 1))
expect "error ETIMEDOUT" begin s3 ms=1
wait $writer
[ "$(head -c 1 "$disk")" = v ]
expect "ok *" begin s3
expect "ok 2" list

# Deadlines are checked.
expect "error EINVAL" freeze 0
expect "error EINVAL" freeze 60001
expect "error EINVAL" begin s4 ms=0
