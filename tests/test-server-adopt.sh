#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The daemon is killed; everything goes on; the next daemon takes it over.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img
requires_python_nbd

head -c 8M /dev/urandom >"$tmp/a.img"
qemu-img create -q -f qcow2 "$tmp/b.qcow2" 8M
truncate -s 8M "$tmp/c.img"
cp "$tmp/a.img" "$tmp/a.before"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
  - name: vdc
    disk: $tmp/c.img
X
start_daemon
nf snapshot create vda,vdb monday >/dev/null
pids_of_all () { (cd "$run" && grep . ./*.pid); }
pids_of_all >"$tmp/before"

# A guest that never stops and never connects again: each line of $tmp/guest is
# a round.
cat >"$tmp/guest.py" <<'PY'
import nbd, os, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
n = 0
while not os.path.exists(sys.argv[2]):
    block = bytes([n % 251]) * 4096
    h.pwrite(block, n % 2048 * 4096)
    assert h.pread(4096, n % 2048 * 4096) == block
    n += 1
    print(n, flush=True)
PY
start "$PYTHON" "$tmp/guest.py" "$(guest_uri vda)" "$tmp/guest.stop" \
      >"$tmp/guest"
guest=$pid
rounds () { wc -l <"$tmp/guest"; }
goes_on () {
  local n
  n=$(rounds)
  wait_for 20 eval '[ $(rounds) -gt '$((n + 10))' ]'
}

say "killed, while a guest writes and backup software reads"
goes_on
kill_daemon
goes_on
nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled"
same "$tmp/a.before" "$tmp/pulled"

say "the next one finds everything"
start_daemon
goes_on
pids_of_all | diff "$tmp/before" -
[ "$(nf --json snapshot list | json "len(d['snapshots'])")" = 2 ]
nf snapshot create vda tuesday >/dev/null
nf snapshot delete vda tuesday
nf snapshot delete vdb monday
grep -q "vda: found running, pid $(pid_of vda)" "$tmp/daemon.log"

say "killed again, and again, at once"
for i in 1 2 3; do
  kill_daemon
  start "$NBDFLEECED" -f -c "$config" 2>>"$tmp/daemon.log"
  daemon=$pid
done
kill_daemon
start_daemon
goes_on
pids_of_all | diff "$tmp/before" -

say "adopted nbdkits are watched, and their socket is the same"
: >"$tmp/guest.stop"
wait_for 20 dead "$guest"
wait "$guest"
inode=$(stat -c %i "$run/vda.sock")
"$PYTHON" - "$(guest_uri vda)" "$run/vda.pid" <<'PY'
import nbd, os, signal, sys
os.kill(int(open(sys.argv[2]).read()), signal.SIGKILL)
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"y" * 4096, 0)
PY
[ "$(stat -c %i "$run/vda.sock")" = "$inode" ]
wait_for 20 is_running vda
nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled"
same "$tmp/a.before" "$tmp/pulled"
kill -KILL "$(cat "$run/vdb.qemu.pid")" "$(cat "$run/backup.pid")" \
     "$(cat "$run/backup.data.pid")"
wait_for 20 is_running vdb
wait_for 20 eval 'nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled" 2>"$tmp/err"'
same "$tmp/a.before" "$tmp/pulled"

say "the nbdkit died, too, while nobody watched"
kill_daemon
kill -KILL "$(cat "$run/vda.pid")"
start_daemon
is_running vda
nbdcopy "$(snapshot_uri vda monday)" "$tmp/pulled"
same "$tmp/a.before" "$tmp/pulled"

say "another configuration: only what it concerns is started again"
pids_of_all >"$tmp/before"
kill_daemon
sed "/c.img/a\    trim: defer" "$config" >"$tmp/new"
mv "$tmp/new" "$config"
start_daemon
pids_of_all >"$tmp/after"
[ "$(diff "$tmp/before" "$tmp/after" | sed -n 's,^> ..\(.*\).pid:.*,\1,p' || true)" = vdc ]

say "an export that is gone from it is stopped, its snapshots removed"
old=$(pid_of vda)
kill_daemon
sed '/vda/,/a.img/d' "$config" >"$tmp/new"
mv "$tmp/new" "$config"
start_daemon
dead "$old"
[ ! -e "$run/vda.sock" ]
no_snapshot_files

say "one that is ending, and still has its image locked, is waited for"
kill_daemon
kill -KILL "$(cat "$run/vdb.qemu.pid")"
wait_for 20 dead "$(cat "$run/vdb.qemu.pid")"
mkfifo "$tmp/go"
exec 5<>"$tmp/go"
start "$abs_top_builddir/tests/linger" "$tmp/b.qcow2" "$tmp/lingers" \
      "$tmp/go" 5>&-
linger=$pid
wait_for 20 test -e "$tmp/lingers"
echo "$linger" >"$run/vdb.qemu.pid"
start "$NBDFLEECED" -f -v -c "$config" 2>>"$tmp/daemon.log" 5>&-
daemon=$pid
waits_or_died () {
  dead "$daemon" || grep -qs "^Pid:[[:space:]]*$linger$" /proc/"$daemon"/fdinfo/*
}
wait_for 30 waits_or_died
exec 5>&-
wait_for 60 daemon_serves_or_died
alive "$daemon" || fail "the daemon ended"
is_running vdb

say "a pidfile of somebody else means nothing"
stop_daemon
sleep 1000 &
pids+=($!)
mkdir -p "$run"
echo $! >"$run/vdc.pid"
start_daemon
alive "${pids[-1]}"
[ "$(pid_of vdc)" != "${pids[-1]}" ]
stop_daemon
alive "${pids[-1]}"

say "a daemon that cannot start leaves alone what ran"
start_daemon
pids_of_all >"$tmp/before"
kill_daemon
cp "$config" "$tmp/old.yaml"
cat >>"$config" <<X
  - name: vdx
    disk: {plugin: file, options: {file: $tmp/none}}
X
must_fail 'vdx.*none' "$NBDFLEECED" -f -c "$config"
cp "$tmp/old.yaml" "$config"
start_daemon
pids_of_all | diff "$tmp/before" -
stop_daemon
