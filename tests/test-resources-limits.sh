#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# No descriptor is to be had, in one process after the other: what needs one
# fails and says so, the guest and what is open go on, and all goes on once there
# are some again.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool nbdcopy prlimit

head -c 8M /dev/urandom >"$tmp/a.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img, cluster-size: 4K}
X
start_daemon
cp "$tmp/a.img" "$tmp/then"
nf snapshot create vda s --checkpoint c >/dev/null

# A guest that has been there before, and does not stop.
cat >"$tmp/guest.py" <<'PY'
import nbd, os, random, sys
uri, stop, seed = sys.argv[1:]
h = nbd.NBD()
h.connect_uri(uri)
r = random.Random(int(seed))
n = 0
while not os.path.exists(stop):
    data, at = r.randbytes(r.randrange(1, 9000)), r.randrange(0, 8 << 20)
    data = data[:(8 << 20) - at]
    h.pwrite(data, at)
    assert h.pread(len(data), at) == data
    n += 1
    print(n, flush=True)
PY
seed=${NBDFLEECE_SEED:-$RANDOM}
say "NBDFLEECE_SEED=$seed"
start "$PYTHON" "$tmp/guest.py" "$(guest_uri vda)" "$tmp/guest.stop" $seed >"$tmp/guest"
guest=$pid
rounds () { wc -l <"$tmp/guest"; }
goes_on () {
  local n
  n=$(rounds)
  wait_for 60 eval '[ $(rounds) -gt '$((n + 10))' ]'
}
goes_on

# without_files PID COMMAND...: PID cannot have one descriptor more meanwhile.
without_files () {
  local p=$1 limit n=0
  shift
  limit=$(prlimit --nofile --noheadings -o SOFT --pid "$p")
  # The lowest that is free; those above stay open.
  while [ -e "/proc/$p/fd/$n" ]; do n=$((n + 1)); done
  prlimit --nofile=$n: --pid "$p"
  "$@"
  goes_on
  prlimit --nofile="$limit": --pid "$p"
}
snapshot_is_right () {
  nbdcopy "$(snapshot_uri vda s)" "$tmp/pulled"
  same "$tmp/pulled" "$tmp/then"
}

say "the daemon"
# Who has no connection waits for one; who has one gets an error.
cat >"$tmp/asks.py" <<'PY'
import os, sys, time
sys.path.insert(0, sys.argv[3])
from resources import Control, Wrong
control = Control(sys.argv[1])
control.ask("status")
print("connected", flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
try:
    control.ask("snapshot-create", exports=["vda"], name="t")
    sys.exit("there were descriptors enough")
except Wrong as e:
    assert "Too many open files" in str(e), e
PY
start "$PYTHON" "$tmp/asks.py" "$run" "$tmp/ask" "$abs_top_srcdir/tests" >"$tmp/asks"
asks=$pid
wait_for 30 test -s "$tmp/asks"
d_fails () {
  : >"$tmp/ask"
  wait_for 30 dead "$asks"
  wait "$asks" || fail "no clean error"
}
without_files "$daemon" d_fails
snapshot_is_right
nf snapshot create vda t >/dev/null
nf snapshot delete vda t

say "the export"
e_fails () { must_fail 'Too many open files|its nbdkit does not answer' nf snapshot create vda t; }
without_files "$(pid_of vda)" e_fails
snapshot_is_right
nf snapshot create vda t >/dev/null
nf snapshot delete vda t

say "the front: new clients wait"
f_waits () {
  nbdcopy "$(snapshot_uri vda s)" "$tmp/waited" &
  waits=$!
  pids+=("$waits")
  wait_for 30 grep -q 'Too many open files; new clients wait' "$tmp/daemon.log"
}
without_files "$(cat "$run/backup.pid")" f_waits
wait "$waits" || fail "who waited did not get it"
same "$tmp/waited" "$tmp/then"
[ "$(grep -c 'new clients wait' "$tmp/daemon.log")" = 1 ] || fail "said too often"

say "the snapshot server: it may end, and is started again"
b_fails () { timeout 2 nbdinfo --size "$(snapshot_uri vda s)" >/dev/null 2>&1 || true; }
server=$(cat "$run/backup.data.pid")
limit=$(prlimit --nofile --noheadings -o SOFT --pid "$server")
prlimit --nofile=4: --pid "$server"
b_fails
goes_on
prlimit --nofile="$limit": --pid "$server" 2>/dev/null || true
wait_for 60 eval 'snapshot_is_right 2>"$tmp/err"'

: >"$tmp/guest.stop"
wait_for 60 dead "$guest"
wait "$guest" || fail "the guest"

say "the copier of a job: it fails or waits, and is not completed by mistake"
cat >"$tmp/few" <<X
#!/bin/sh
[ ! -e "$tmp/few.now" ] || ulimit -n 8
exec "$NBDFLEECE_COPY" "\$@"
X
chmod +x "$tmp/few"
stop_daemon
cp "$tmp/a.img" "$tmp/then"
: >"$tmp/few.now"
NBDFLEECE_COPY=$tmp/few start_daemon
must_fail . nf backup vda "$tmp/out" --checkpoint d
rm "$tmp/few.now"
nf backup vda "$tmp/out" --checkpoint e >/dev/null
same "$tmp/out" "$tmp/then"
nf snapshot delete vda s
no_snapshot_files
stop_daemon
cases "processes without descriptors" 5
