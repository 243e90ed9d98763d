#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Starting and stopping the daemon: all four kinds of disks, modes, systemd.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool qemu-nbd qemu-img nbdinfo

head -c 3M /dev/urandom >"$tmp/a.img"
truncate -s 5M "$tmp/b.img"
qemu-img create -q -f qcow2 "$tmp/c.qcow2" 7M
start_nbdkit other memory 9M
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {plugin: file, options: {file: $tmp/b.img}}
  - name: vdc
    disk: {qcow2: $tmp/c.qcow2}
  - name: vdd
    disk: $(uri other)
X

say "-n checks and changes nothing"
"$NBDFLEECED" -n -c "$config"
[ ! -e "$run" ] && [ ! -e "$state" ] || fail "-n made something"

say "a socket for each disk, whatever the umask"
(umask 0; exec "$NBDFLEECED" -f -c "$config" 2>"$tmp/daemon.log") &
daemon=$!
pids+=("$daemon")
wait_for 60 daemon_serves_or_died
for e in vda:3 vdb:5 vdc:7 vdd:9; do
  [ "$(nbdinfo --size "$(guest_uri "${e%:*}")")" = $((${e#*:} << 20)) ]
  [ "$(nbdinfo --size "nbd+unix:///?socket=$run/${e%:*}.sock")" = \
    $((${e#*:} << 20)) ]
done
bad=$(find "$run" "$state" -perm /077)
[ -z "$bad" ] || fail "open to others: $bad"

say "SIGTERM stops everything in order"
stop_daemon
[ -z "$(leftovers | grep -vx "$(cat "$tmp/other.pid")" || true)" ]

say "without -f it returns when everything is up"
"$NBDFLEECED" -c "$config"
nf status >/dev/null
daemon=$(nf --json status | json "d['daemon']['pid']")
kill "$daemon"
wait_for 30 dead "$daemon"
[ -z "$(ls -A "$run")" ]

say "without -f it returns an error if something does not start"
sed "s|file: $tmp/b.img|file: $tmp/none|" "$config" >"$tmp/bad.yaml"
must_fail 'vdb.*none' "$NBDFLEECED" -c "$tmp/bad.yaml"
[ -z "$(ls -A "$run")" ] || fail "left: $(ls -A "$run")"
[ -z "$(leftovers | grep -vx "$(cat "$tmp/other.pid")" || true)" ]

say "systemd is told"
"$PYTHON" - "$tmp/notify" >"$tmp/notified" <<'PY' &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    m = s.recv(1000).decode().split("\n")[0]
    print(m, flush=True)
    if m == "STOPPING=1":
        break
PY
listener=$!
pids+=("$listener")
wait_for 10 test -S "$tmp/notify"
export NOTIFY_SOCKET=$tmp/notify
start_daemon
kill -HUP "$daemon"
wait_for 10 grep -q RELOADING "$tmp/notified"
stop_daemon
unset NOTIFY_SOCKET
wait_for 10 dead "$listener"
[ "$(tr '\n' ' ' <"$tmp/notified")" = "READY=1 RELOADING=1 READY=1 STOPPING=1 " ] ||
  fail "told: $(cat "$tmp/notified")"
