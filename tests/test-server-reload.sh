#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# SIGHUP: what changed is applied, the rest is not touched; or nothing is.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdinfo qemu-img

for d in a b c d; do head -c 2M /dev/urandom >"$tmp/$d.img"; done
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
  - {name: vdb, disk: $tmp/b.img}
  - {name: vdc, disk: $tmp/c.img}
X
cp "$config" "$tmp/first.yaml"
start_daemon
nf snapshot create vda,vdb monday >/dev/null
a=$(pid_of vda) b=$(pid_of vdb) c=$(pid_of vdc)
backup=$(cat "$run/backup.pid")

reload () {
  local n
  n=$(grep -c 'read again\|nothing is changed' "$tmp/daemon.log" || true)
  kill -HUP "$daemon"
  wait_for 10 eval '[ "$(grep -c "read again\|nothing is changed" "$tmp/daemon.log")" -gt '"$n"' ]'
}
names () { nf --json status | json "' '.join(e['name'] for e in d['exports'])"; }

say "the same file: nothing"
reload
[ "$(pid_of vda) $(pid_of vdb) $(pid_of vdc)" = "$a $b $c" ]

say "one added, one removed, one changed, another order, another address"
port=$("$PYTHON" -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
write_config <<X
backup:
  listen:
    - tcp: 127.0.0.1:$port
  allow:
    - address: 127.0.0.1
exports:
  - {name: vdd, disk: $tmp/d.img}
  - {name: vdc, disk: $tmp/c.img, cluster-size: 64K}
  - {name: vda, disk: $tmp/a.img}
X
reload
[ "$(names)" = "vdd vdc vda" ]
wait_for 20 is_running vdd
wait_for 20 is_running vdc
wait_for 20 dead "$b"
wait_for 20 eval '[ ! -e "$run/vdb.sock" ]'
[ "$(pid_of vda)" = "$a" ]
[ "$(pid_of vdc)" != "$c" ]
[ "$(export_field vdc cluster-size)" = 65536 ]
nbdinfo --size "$(guest_uri vdd)" >/dev/null
[ "$(nf --json snapshot list | json "[s['export'] for s in d['snapshots']]")" = "['vda']" ]
[ -z "$(find "$state" -name '*vdb@*')" ]
wait_for 20 eval 'nbdinfo --size "nbd://127.0.0.1:$port/vda@monday" >"$tmp/size" 2>&1'
alive "$backup"                  # it has read its options again

say "a file that is wrong changes nothing"
c=$(pid_of vdc) d=$(pid_of vdd)
for wrong in "  - {name: vdx, disk: $tmp/none}" "  - {name: vdx}" "nonsense: 1" \
             "  - {name: vdx, disk: $tmp/d.img}" "	" ; do
  cp "$config" "$tmp/good.yaml"
  { grep -v vda "$tmp/good.yaml"; printf '%s\n' "$wrong"; } >"$config"
  reload
  tail -n 1 "$tmp/daemon.log" | finds 'nothing is changed' || fail "$wrong"
  must_fail "$config" nf --json reload
  cp "$tmp/good.yaml" "$config"
done
sed "s|$run|$tmp/run2|" "$tmp/good.yaml" >"$config"
reload
tail -n 1 "$tmp/daemon.log" | finds 'run-dir cannot change'
rm "$config"
reload
[ "$(names)" = "vdd vdc vda" ]
[ "$(pid_of vda) $(pid_of vdc) $(pid_of vdd)" = "$a $c $d" ]

say "an export that a job needs cannot be removed"
cp "$tmp/good.yaml" "$config"
nf backup vda "$tmp/out" --speed 512K --detach >/dev/null
grep -v vda "$tmp/good.yaml" >"$config"
must_fail 'vda is missing, but a job' nf --json reload
nf job cancel 1 >/dev/null
nf job wait 1 >/dev/null || true
nf --json reload >"$tmp/reloaded"
[ "$(json "d['removed']" <"$tmp/reloaded")" = "['vda']" ]
wait_for 20 dead "$a"
no_snapshot_files

say "and back"
cp "$tmp/first.yaml" "$config"
wait_for 20 eval 'nf --json reload >"$tmp/reloaded" 2>&1'
for e in vda vdb vdc; do wait_for 20 is_running $e; done
[ "$(names)" = "vda vdb vdc" ]
stop_daemon
