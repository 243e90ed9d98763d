#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# kill -9 of anything at any time, while guests write and jobs run: snapshots
# and backups stay exact, guests find their data, and nothing is left over.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img
requires_python_nbd

seed=${NBDFLEECE_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
say "NBDFLEECE_SEED=$seed"
RANDOM=$seed

head -c 16M /dev/urandom >"$tmp/a.img"
head -c 16M /dev/urandom >"$tmp/raw"
qemu-img convert -f raw -O qcow2 "$tmp/raw" "$tmp/b.qcow2"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
  - {name: vdb, disk: {qcow2: $tmp/b.qcow2}}
X
start_daemon

# A guest: writes, reads back what it wrote before, and connects again when it
# has to.  A write that was not answered may or may not be there.
cat >"$tmp/guest.py" <<'PY'
import nbd, os, random, sys, time
uri, stop, seed, hold, held = sys.argv[1:]
r = random.Random(seed)
known, rounds, again = {}, 0, 0
def connect():
    end = time.monotonic() + 60
    while True:
        h = nbd.NBD()
        try:
            h.connect_uri(uri)
            return h
        except nbd.Error:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
h = connect()
while not os.path.exists(stop):
    if os.path.exists(hold):
        open(held, "w").close()
        time.sleep(0.001)
        continue
    at = r.randrange(4096)
    block = r.randbytes(4096)
    try:
        old = h.pread(4096, at * 4096)
        assert at not in known or old in known[at], "block %d" % at
        known[at] = [old, block]
        h.pwrite(block, at * 4096)
        known[at] = [block]
        rounds += 1
    except nbd.Error:
        if h.aio_is_ready():
            raise
        h = connect()
        again += 1
print("%d writes, %d connections" % (rounds, again + 1))
PY
for e in vda vdb; do
  start "$PYTHON" "$tmp/guest.py" "$(guest_uri $e)" "$tmp/stop" "$seed$e" \
        "$tmp/hold" "$tmp/$e.held" >"$tmp/$e.guest"
  eval "guest_$e=$pid"
done

# The victims, each by the pid that somebody wrote down.
kill_one () {
  local what=$1 files
  case $what in
    daemon) kill_daemon; start_daemon; return ;;
    both) kill -KILL "$(cat "$run/vda.pid")"; kill_daemon; start_daemon; return ;;
    copier) files=("$run"/job-*.copy.pid) ;;
    *) files=("$run/$what.pid") ;;
  esac
  for f in "${files[@]}"; do
    [ ! -e "$f" ] || kill -KILL "$(cat "$f")" 2>/dev/null || true
  done
}
victims=(daemon both copier vda vdb vdb.qemu backup backup.data)

# begin EXPORT TARGET: a job that takes a while; it is in $job.
begin () {
  job=$(nf backup "$@" --speed 6M --detach | grep -o '[0-9]*' | head -n1)
}
all_up () { is_running vda && is_running vdb; }

for round in 1 2 3 4; do
  wait_for 60 all_up
  # Nobody writes for a moment, so that a snapshot and a job have the same
  # instant and can be compared.
  rm -f "$tmp"/vd?.held
  : >"$tmp/hold"
  wait_for 60 test -e "$tmp/vda.held" -a -e "$tmp/vdb.held"
  nf snapshot create vda,vdb "s$round" >/dev/null
  begin vda "$tmp/vda.out"; first=$job
  begin vdb "qcow2:$tmp/vdb.out"; second=$job
  rm "$tmp/hold"
  nbdcopy "$(snapshot_uri vda "s$round")" "$tmp/vda.then"
  nbdcopy "$(snapshot_uri vdb "s$round")" "$tmp/vdb.then"
  for i in 1 2 3 4 5; do
    kill_one "${victims[RANDOM % ${#victims[@]}]}"
    wait_for 60 all_up
  done
  for e in vda vdb; do
    wait_for 30 eval 'nbdcopy "$(snapshot_uri '$e' s'$round')" "$tmp/now" 2>"$tmp/err"'
    same "$tmp/$e.then" "$tmp/now"
  done
  for id in "$first" "$second"; do
    nf job wait "$id" >/dev/null || { nf job show "$id"; fail "job $id"; }
  done
  same "$tmp/vda.then" "$tmp/vda.out"
  qemu-img compare -q -f raw -F qcow2 "$tmp/vdb.then" "$tmp/vdb.out"
  nf snapshot delete vda "s$round"
  nf snapshot delete vdb "s$round"
  rm -f "$tmp"/vd?.out
done

say "the guests"
: >"$tmp/stop"
wait_for 60 dead "$guest_vda"
wait_for 60 dead "$guest_vdb"
wait "$guest_vda" || fail "guest of vda: $(cat "$tmp/vda.guest")"
wait "$guest_vdb" || fail "guest of vdb: $(cat "$tmp/vdb.guest")"
cat "$tmp"/*.guest >&2

say "nothing is left over"
no_snapshot_files
[ -z "$(find "$state/jobs" "$run" -name '*.copy' -o -name '*.result' -o -name 'job-*')" ]
stop_daemon
