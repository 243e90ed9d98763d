#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Idle guests do not hold up an end or a new configuration: nbdkit hangs up on
# them, and what it keeps is closed cleanly.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img
requires_python_nbd

head -c 3M /dev/urandom >"$tmp/a.img"
cp "$tmp/a.img" "$tmp/a.before"
qemu-img create -q -f qcow2 "$tmp/b.qcow2" 3M
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
X

# Guests that have written and then ask for nothing, over several connections,
# until they are hung up on.
cat >"$tmp/idle.py" <<'PY'
import nbd, sys
uri, ready = sys.argv[1:]
handles = []
for i in range(3):
    h = nbd.NBD()
    h.connect_uri(uri)
    h.pwrite(b"x" * 5000, 4096 * i)
    handles.append(h)
open(ready, "w").close()
for h in handles:
    while not h.aio_is_dead() and not h.aio_is_closed():
        h.poll(-1)
PY
start_idle () {
  rm -f "$tmp/$1.ready"
  start "$PYTHON" "$tmp/idle.py" "$(guest_uri "$1")" "$tmp/$1.ready" \
    2>/dev/null
  idle+=("$pid")
  wait_for 60 test -e "$tmp/$1.ready"
}
all_hung_up () {
  local p
  for p in "${idle[@]}"; do dead "$p" || return 1; done
}
none_was_killed () {
  ! grep 'does not end, killing it' "$tmp/daemon.log" ||
    fail "nbdkit was killed"
}

start_daemon
nf snapshot create vda,vdb monday >/dev/null
idle=()
start_idle vda
start_idle vdb

say "another configuration"
pid_before=$(pid_of vda)
sed -i 's/name: vda/&\n    trim: defer/' "$config"
nf reload >/dev/null
has_new_pid () { [ "$(pid_of vda)" != "$pid_before" ]; }
wait_for 50 has_new_pid
wait_for 20 is_running vda
wait_for 10 dead "${idle[0]}"
none_was_killed

say "the end"
start_idle vda
stop_daemon
wait_for 10 all_hung_up
none_was_killed
# CLEAN, so it outlives the host, too.
[ "$(od -An -tu4 -j 3076 -N 4 "$state/exports/vda/monday.map" | tr -d ' ')" = 1 ]

say "all is there"
start_daemon
nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled"
same "$tmp/a.before" "$tmp/pulled"
cmp -n 5000 "$tmp/a.img" <(head -c 5000 /dev/zero | tr '\0' x)
stop_daemon
