#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Daemon: its processes run as another user, with nothing of root's left, do
# all that they have to, and nothing else.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
[ "$NBDFLEECE_SANITIZER" = no ] || skip "reports of sanitizers are files"
[ "$(id -u)" = 0 ] || skip "only root can run processes as somebody else"
requires_tool setpriv qemu-img nbdcopy nbdinfo
requires_python_nbd
requires id nobody
user=nobody uid=$(id -u nobody) gid=$(id -g nobody)

# What they execute has to be where the user gets to.
chmod 0711 "$tmp"
mkdir -m 0755 "$tmp/bin"
install -m 0755 "$(dirname "$NBDFLEECE_FILTER")"/nbdkit-fleece-*filter.so \
        "$NBDFLEECE_PLUGIN" "$NBDFLEECE_FRONT" "$tmp/bin"
NBDFLEECE_FILTER=$tmp/bin/nbdkit-fleece-filter.so
NBDFLEECE_PLUGIN=$tmp/bin/nbdkit-fleece-plugin.so
NBDFLEECE_FRONT=$tmp/bin/nbdfleece-front
NBDKIT_REAL=$NBDKIT

mkdir -m 0711 "$tmp/scratch"
mkdir -m 0700 "$tmp/secret"
head -c 4M /dev/urandom >"$tmp/a.img"
head -c 4M /dev/urandom >"$tmp/b.img"
qemu-img create -q -f qcow2 "$tmp/c.qcow2" 4M
echo secret >"$tmp/secret.key"
chmod 0600 "$tmp"/*.img "$tmp/c.qcow2" "$tmp/secret.key"
ls -ln "$tmp" >"$tmp/before.ls"

conf () {
  write_config <<X
user: ${1:-$user}
exports:
  - {name: vda, disk: $tmp/a.img, tracking: durable}
  - {name: vdb, disk: $tmp/b.img, scratch: ${2:-$tmp/scratch}}
  - {name: vdc, disk: {qcow2: $tmp/c.qcow2}}
  - {name: vdm, disk: {plugin: memory, options: {size: 4M}}}
X
}

say "refused, with one line that says why"
refused () {
  must_fail "$1" "$NBDFLEECED" -f -c "$config"
  [ "$(wc -l <"$tmp/must_fail.err")" = 1 ] || fail "more than one line"
  refusals=$((refusals + 1))
}
refusals=0
conf no-such-user-here
refused 'user: no-such-user-here: there is no such user$'
conf root
refused 'user: root: has the rights of root, expected a user that has not$'
conf
sed -i 's/^user:.*/&\ngroup: no-such-group-here/' "$config"
refused 'group: no-such-group-here: there is no such group$'
conf
sed -i 's/^user:.*/group: nogroup/' "$config"
refused "group: without 'user', expected both$"
conf
refused "a.img: user $user may not read and write it: Permission denied$"
[ "$(stat -c %u "$tmp/a.img")" = 0 ] || fail "the disk was given away"
chown $uid "$tmp"/*.img "$tmp/c.qcow2"
chmod 0700 "$tmp/scratch"
refused "scratch: .*: user $user may not pass through it: Permission denied$"
chmod 0777 "$tmp/scratch"
refused "scratch: .*: user $user may make files there, and must not"
chmod 0711 "$tmp/scratch"
chmod 0700 "$tmp"
refused "user $user may not read and write it: Permission denied$"
chmod 0711 "$tmp"
cases "users and directories refused" $refusals

# In the place of nbdkit and the front: tries what it can with the rights that
# it was started with, says how it went where the daemon logs it, and goes on as
# what it is.
cat >"$tmp/probe.py" <<'PY'
import errno, os, signal, socket, sys
role, tmp, state, run, daemon = sys.argv[1:]
own = {"vda": "/a.img", "vdb": "/b.img"}.get(role, "/none")

def opened(path, flags):
    return lambda: os.close(os.open(path, flags))

def connected(path, type=socket.SOCK_STREAM):
    def connect():
        with socket.socket(socket.AF_UNIX, type) as s:
            s.connect(path)
    return connect

def renamed():
    os.symlink("/etc/passwd", state + "/exports/vda/x")
    os.rename(state + "/exports/vda/x", state + "/exports/vda/first.map")

rw, ro = os.O_RDWR, os.O_RDONLY
tries = {
    "shadow": opened("/etc/shadow", ro),
    "secret": opened(tmp + "/secret.key", ro),
    "passwd": opened("/etc/passwd", rw),
    "record": opened(state + "/exports/vda/disk", ro),
    "jobs": lambda: os.listdir(state + "/jobs"),
    "lock": opened(run + "/lock", rw),
    "options": opened(run + "/backup.conf", rw),
    "pid file": opened(run + "/vda.pid", rw),
    "log": opened(run + "/vda.log", ro),
    "control": connected(run + "/control.sock"),
    "control of the filter": connected(run + "/vda.ctl", socket.SOCK_SEQPACKET),
    "guest": connected(run + "/vda.sock"),
    "state directory": lambda: os.mkdir(state + "/new"),
    "run directory": lambda: os.mkdir(run + "/new"),
    "own directory": lambda: os.mkdir(state + "/exports/vda/new"),
    "new file": opened(state + "/exports/vda/new.map", rw | os.O_CREAT),
    "new scratch": opened(tmp + "/scratch/new", rw | os.O_CREAT),
    "remove": lambda: os.unlink(state + "/exports/vda/first.map"),
    "rename": renamed,
    "root": lambda: os.setuid(0),
    "groups": lambda: os.setgroups([0]),
    "kill": lambda: os.kill(int(daemon), 0),
}
# Those that only Landlock keeps from him: the user is the same.
if role != "none":
    if role != "vda":
        tries["live disk"] = opened(tmp + "/a.img", rw)
        tries["truncate"] = lambda: os.truncate(tmp + "/a.img", 4 << 20)
    if role not in ("vda", "front"):
        tries["map"] = opened(state + "/exports/vda/first.map", rw)
        tries["tracking"] = opened(state + "/exports/vda/c.dirty", rw)
        tries["activity"] = opened(state + "/exports/vda/activity.log", rw)
    if role not in ("vdb", "front"):
        tries["scratch"] = opened(tmp + "/scratch/vdb@first.scratch", rw)
for name, what in tries.items():
    try:
        what()
        print("probe: could:", role, name)
    except OSError as e:
        print("probe: could not:" if e.errno in (errno.EACCES, errno.EPERM)
              else "probe: odd: %d:" % e.errno, role, name)
if own != "/none":
    os.close(os.open(tmp + own, rw))
    print("probe: its own:", role)
PY
chmod 0644 "$tmp/probe.py"
cat >"$tmp/bin/nbdkit" <<X
#!/bin/bash
case "\$*" in
  *" dir="*) role=server ;;
  *fleece-export=vda*) role=vda ;;
  *fleece-export=vdb*) role=vdb ;;
  *) role= ;;
esac
[ -z "\$role" ] || [ ! -e "$tmp/probing" ] ||
  "$PYTHON" "$tmp/probe.py" \$role "$tmp" "$state" "$run" $$ >&2
exec "$NBDKIT_REAL" "\$@"
X
cat >"$tmp/bin/front" <<X
#!/bin/bash
case "\$*" in
  *--check*) ;;
  *) [ ! -e "$tmp/probing" ] ||
       "$PYTHON" "$tmp/probe.py" front "$tmp" "$state" "$run" $$ >&2 ;;
esac
exec "$NBDFLEECE_FRONT" "\$@"
X
chmod 0755 "$tmp/bin/"*
NBDKIT=$tmp/bin/nbdkit NBDFLEECE_FRONT=$tmp/bin/front

processes=(vda vdb vdc vdm vdc.qemu backup backup.data)
# has FILE PATTERN: of a process; that the pattern is not there is told.
has () {
  finds -E "$2" <"/proc/$1/status" || {
    say "pid $1 ($(tr '\0' ' ' <"/proc/$1/cmdline")): not $2"
    return 1
  }
}
# rights_ok: all processes have the rights of the user, and no others.
rights_ok () {
  local name pid
  for name in "${processes[@]}"; do
    pid=$(cat "$run/$name.pid")
    has $pid "^Uid:.$uid.$uid.$uid.$uid$" &&
      has $pid "^Gid:.$gid.$gid.$gid.$gid$" &&
      has $pid "^Groups:.($gid )*$" &&
      has $pid "^NoNewPrivs:.1" || return 1
    for set in Inh Prm Eff Bnd Amb; do
      has $pid "^Cap$set:.0+$" || return 1
    done
  done
}
nbdsh () { "$PYTHON" -m nbd "$@"; }
guest_writes () {     # EXPORT OFFSET BYTE
  nbdsh -u "$(guest_uri "$1")" \
        -c "h.pwrite(bytes([$3]) * 65536, $2)" -c 'h.flush()'
}

say "a daemon that forgets about it would be seen"
NBDFLEECED_REAL=$NBDFLEECED
NBDFLEECED=$abs_top_builddir/server/nbdfleeced-broken
NBDFLEECE_BROKEN=no-drop start_daemon
! rights_ok 2>"$tmp/not-dropped" || fail "nobody would notice"
stop_daemon
NBDFLEECED=$NBDFLEECED_REAL

say "who is who"
start_daemon
rights_ok || fail "these rights are not what they ought to be"
daemon_uid=$(awk '/^Uid:/ { print $2 }' "/proc/$daemon/status")
[ "$daemon_uid" = 0 ] || fail "the daemon is not root"
cases "processes with the user's rights only" ${#processes[@]}
for f in control.sock vda.sock vdb.sock vda.ctl vdm.ctl backup.sock backup.ctl
do
  [ "$(stat -c '%u %a' "$run/$f")" = "0 600" ] || fail "$f: not root's alone"
done

say "a story: writes, snapshots, pulls, pushes, incremental"
guest_writes vda 0 1
nf snapshot create vda,vdb,vdc,vdm first --checkpoint c
cp "$tmp/a.img" "$tmp/first.raw"
guest_writes vda 65536 2
guest_writes vdb 0 3
guest_writes vdc 0 4
guest_writes vdm 0 5
nbdcopy "$(snapshot_uri vda first)" "$tmp/pulled.raw"
same "$tmp/pulled.raw" "$tmp/first.raw"
for e in vdb vdc vdm; do
  nbdcopy "$(snapshot_uri $e first)" "$tmp/pulled-$e.raw"
done
[ -z "$(tr -d '\0' <"$tmp/pulled-vdc.raw" | head -c 1)" ] ||
  fail "the snapshot of vdc has new data"
nf backup vda "$tmp/full.raw" --checkpoint d
same "$tmp/full.raw" "$tmp/a.img"
guest_writes vda 1048576 6
nf backup vda "qcow2:$tmp/inc.qcow2" --sync incremental --since d \
   --backing "$tmp/full.raw" --checkpoint e
qemu-img compare -q "$tmp/inc.qcow2" -f qcow2 -F raw "$tmp/a.img"
nf backup vdc "$tmp/c.raw"
guest_writes vdc 65536 7
nf snapshot create vdb freed --release
nbdsh -u "$(snapshot_uri vdb freed)" -c 'h.trim(65536, 0)'

say "a map that leads elsewhere is not followed by root"
head -c 4M /dev/urandom >"$tmp/roots"
chmod 0600 "$tmp/roots"
# forge LIVE SCRATCH: a map of the user's that names these.
forge () {
  "$PYTHON" - "$state/exports/vda/first.map" "$tmp/forged.map" "$@" <<'PY'
import os, struct, sys, zlib
map, forged, live, scratch = sys.argv[1:]
data = bytearray(open(map, "rb").read())
def put(at, size, what):
    data[at:at + size] = what.ljust(size, b"\0")
if live:
    put(288, 1024, live.encode())
if scratch:
    st = os.stat(scratch)
    put(1312, 1024, scratch.encode())
    data[3136:3152] = struct.pack("=QQ", st.st_dev, st.st_ino)
data[2336:2340] = struct.pack("=I", zlib.crc32(data[:2336]))
open(forged, "wb").write(data)
PY
  chown $uid "$tmp/forged.map"
}
copy_forged () {
  rm -f "$tmp"/forged.raw*
  "$NBDFLEECE_COPY" --quiet --live="file:$tmp/a.img" "map:$tmp/forged.map" \
                    "$tmp/forged.raw"
}
forge "" ""
copy_forged
same "$tmp/forged.raw" "$tmp/first.raw"
forge "file:$tmp/roots" ""
must_fail 'names another live disk' copy_forged
forge "" "$tmp/roots"
must_fail 'roots: not the file that it was begun with' copy_forged
chown $uid "$tmp/roots"
copy_forged
rm "$tmp/roots"

say "the rest of the time nobody of them may do anything else"
touch "$tmp/probing"
: >"$tmp/daemon.log"
for name in vda vdb backup.data backup; do
  kill -KILL "$(cat "$run/$name.pid")"
done
for role in vda vdb server front; do
  wait_for 60 finds "probe:.* $role kill" "$tmp/daemon.log"
done
rm "$tmp/probing"
wait_for 60 is_running vda
wait_for 60 is_running vdb
finds 'probe: its own: vda' "$tmp/daemon.log" || fail "vda has lost its disk"
! grep 'probe: odd' "$tmp/daemon.log" || fail "refused for another reason"
if finds "has no Landlock" "$tmp/daemon.log"; then
  grep 'probe: could:' "$tmp/daemon.log" |
    finds -vE '(live disk|truncate|map|tracking|activity|scratch)$' &&
    fail "too much is possible"
else
  ! grep 'probe: could:' "$tmp/daemon.log" || fail "that ought to be refused"
fi
cases "accesses refused to unprivileged processes" \
      "$(grep -c 'probe: could not' "$tmp/daemon.log")"

say "the snapshot server is no guest, though it has to reach the socket"
as_user () { setpriv --reuid=$uid --regid=$gid --clear-groups -- "$@"; }
as_user nbdinfo --size "nbd+unix:///vdm@live?socket=$run/vdm.sock"
must_fail 'no export named|refused' as_user nbdinfo --size "$(guest_uri vdm)"
must_fail 'no export named|refused' \
          as_user nbdinfo --size "nbd+unix:///?socket=$run/vdm.sock"
nbdinfo --size "$(guest_uri vdm)"
[ "$(grep -c "refused to the user" "$tmp/daemon.log")" -ge 2 ] ||
  fail "it was not refused for what it is"

say "killed, and adopted"
before=$(pid_of vda)
kill_daemon
start_daemon
[ "$(pid_of vda)" = "$before" ] || fail "vda was started again"
rights_ok || fail "these rights are not what they ought to be"
guest_writes vda 2097152 8
nf backup vda "$tmp/full.raw" --sync incremental --since d
same "$tmp/full.raw" "$tmp/a.img"

say "reloaded"
must_fail 'user cannot change while the daemon runs' \
          eval 'sed -i "s/^user:.*/user: daemon/" "$config"; nf reload'
conf
mkdir -m 0711 "$tmp/scratch2"
conf $user "$tmp/scratch2"
nf reload
wait_for 60 is_running vdb
wait_for 60 [ -e "$run/backup.data.pid" ]
nf snapshot create vdb elsewhere
[ "$(stat -c %u "$tmp/scratch2/vdb@elsewhere.scratch")" = "$uid" ] ||
  fail "the scratch is not the user's"
nbdcopy "$(snapshot_uri vdb elsewhere)" "$tmp/elsewhere.raw"
same "$tmp/elsewhere.raw" "$tmp/b.img"

say "stopped, and root's again"
nf snapshot delete vdb elsewhere
stop_daemon
sed -i '/^user:/d' "$config"
start_daemon
[ "$(awk '/^Uid:/ { print $2 }' "/proc/$(pid_of vda)/status")" = 0 ] ||
  fail "vda runs as somebody else"
nbdcopy "$(snapshot_uri vda first)" "$tmp/pulled.raw"
same "$tmp/pulled.raw" "$tmp/first.raw"
[ -z "$(find "$state" -type f ! -uid 0)" ] || fail "files of the user are left"
stop_daemon
