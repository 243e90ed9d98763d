#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Restore to an export: raw images, chains of qcow2 and NBD servers; checkpoints
# and snapshots know of it; nobody else gets the disk meanwhile, nor after one
# that did not get to its end; and whatever is killed, it goes on.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img qemu-nbd
requires_python_nbd

: "${NBDFLEECE_SEED:=$RANDOM}"
RANDOM=$NBDFLEECE_SEED
say "NBDFLEECE_SEED=$NBDFLEECE_SEED"

size=$((12 << 20))
"$PYTHON" - "$tmp/a.img" "$NBDFLEECE_SEED" <<'PY'
import random, sys
rng = random.Random (int (sys.argv[2]))
with open (sys.argv[1], "wb") as f:
  f.write (rng.randbytes (4 << 20) + bytes (1 << 20))
  f.seek (9 << 20)
  f.write (rng.randbytes (3 << 20))
PY
qemu-img create -q -f qcow2 "$tmp/b.qcow2" 12M
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: {qcow2: $tmp/b.qcow2}
X
start_daemon

# scribble EXPORT N: a guest that comes, writes in N places and goes.
scribble () {
  "$PYTHON" - "$(guest_uri "$1")" "$2" $RANDOM <<'PY'
import nbd, random, sys
rng = random.Random (int (sys.argv[3]))
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
for i in range (int (sys.argv[2])):
  at = rng.randrange (h.get_size () // 4096) * 4096
  n = rng.choice ((4096, 65536, 300000))
  n = min (n, h.get_size () - at)
  if rng.random () < 0.3:
    h.zero (n, at)
  else:
    h.pwrite (rng.randbytes (n), at)
h.shutdown ()
PY
}
# guest_sees EXPORT FILE
guest_sees () {
  nbdcopy "$(guest_uri "$1")" "$tmp/seen"
  same "$tmp/seen" "$2"
  rm "$tmp/seen"
}
no_clients () { [ "$(export_field "$1" clients)" = 0 ]; }
# restore ARGS: waits until nbdkit has heard that the last guest has left.
restore () {
  wait_for 30 no_clients "${*: -1}"
  nf restore "$@"
}
guest_comes () { nbdinfo --size "$(guest_uri "$1")" >/dev/null 2>&1; }

say "a chain, each day of it, to either kind of disk"
cp --sparse=always "$tmp/a.img" "$tmp/day0"
nf backup vda "qcow2:$tmp/0.qcow2" --checkpoint day0 >/dev/null
for i in 1 2; do
  scribble vda 10
  cp --sparse=always "$tmp/a.img" "$tmp/day$i"
  nf snapshot create vda "day$i" --checkpoint "cp$i" >/dev/null
  nf snapshot delete vda "day$i" >/dev/null
done
nf backup vda "$tmp/day2.raw" --checkpoint day2 >/dev/null
nf checkpoint list vda >/dev/null
for what in day0:qcow2:$tmp/0.qcow2 day2:$tmp/day2.raw day0:$tmp/0.qcow2; do
  for disk in vda vdb; do
    scribble $disk 5
    restore "${what#*:}" $disk >"$tmp/out"
    grep -q "job [0-9]* completed: .* to $disk" "$tmp/out"
    guest_sees $disk "$tmp/${what%%:*}"
  done
done

say "a change like any other"
# A snapshot stays what it was, an incremental has what the restore has changed.
nf snapshot create vda before --checkpoint before >/dev/null
cp --sparse=always "$tmp/a.img" "$tmp/before"
nf backup vda "$tmp/base.raw" --checkpoint base >/dev/null
cp "$tmp/base.raw" "$tmp/inc.raw"
cp "$tmp/base.raw.nbdfleece" "$tmp/inc.raw.nbdfleece"
restore "$tmp/day2.raw" vda >/dev/null
guest_sees vda "$tmp/day2"
nbdcopy "$(snapshot_uri vda before)" "$tmp/seen"
same "$tmp/seen" "$tmp/before"
nf backup vda "$tmp/inc.raw" --since base >/dev/null
same "$tmp/inc.raw" "$tmp/day2"
nf snapshot delete vda before >/dev/null
# Zeroes of the image are holes of the disk again.
[ "$(stat -c %b "$tmp/a.img")" -le $((size / 512 - 4096)) ] ||
  fail "the disk has $(stat -c %b "$tmp/a.img") blocks"

say "from an NBD server"
start_nbdkit images file "$tmp/day0"
restore "$(uri images)" vda >/dev/null
guest_sees vda "$tmp/day0"

say "a guest is there"
"$PYTHON" - "$(guest_uri vda)" "$tmp/go" <<'PY' &
import nbd, os, sys, time
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
open (sys.argv[2] + ".in", "w").close ()
while not os.path.exists (sys.argv[2]):
  time.sleep (0.02)
PY
pids+=($!)
wait_for 30 test -e "$tmp/go.in"
must_fail 'export vda has 1 client: stop the guest' nf restore "$tmp/day2.raw" vda
touch "$tmp/go"
wait_for 30 no_clients vda
guest_sees vda "$tmp/day0"
[ ! -e "$state/exports/vda/restoring" ] || fail "it is marked"
[ "$(nf --json status | json "d['exports'][0]['restoring']")" = None ]

say "nobody comes in, whatever is killed"
job=$(restore --detach --speed 400K "$tmp/day2.raw" vda)
wait_for 30 job_got_further "$job" 0
guest_comes vda && fail "a guest was let in"
must_fail "export vda is being restored by job $job" nf restore "$tmp/day0" vda
must_fail "export vda is being restored by job $job" nf backup vda "$tmp/bad"
copier=$(job_field "$job" pid)
kill -KILL "$copier"
guest_comes vda && fail "a guest was let in"
is_another () { p=$(job_field "$job" pid); [ "$p" != None ] && [ "$p" != "$copier" ]; }
wait_for 30 is_another
wait_for 60 job_got_further "$job" $((1 << 20))
kill -KILL "$(pid_of vda)"
wait_for 60 job_got_further "$job" $((1200 << 10))
guest_comes vda && fail "a guest was let in"
kill_daemon
start_daemon
guest_comes vda && fail "a guest was let in"
stop_daemon_softly () { stop "$daemon"; [ "$status" -eq 0 ]; }
stop_daemon_softly
start_daemon
wait_for 60 is_running vda
guest_comes vda && fail "a guest was let in"
job_is "$job" running || job_is "$job" created || fail "$(job_field "$job" state)"
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
guest_sees vda "$tmp/day2"

say "cancelled: the disk is half restored, and that is not silent"
job=$(restore --detach --speed 300K "$tmp/0.qcow2" vda)
wait_for 30 job_got_further "$job" 0
nf job cancel "$job" >/dev/null
must_fail 'cancelled: export vda is only partly restored.*restore it again' \
  nf job wait "$job"
guest_comes vda && fail "a guest was let in"
stop_daemon
start_daemon
guest_comes vda && fail "a guest was let in"
[ "$(nf --json status | json "d['exports'][0]['restoring']")" = "$job" ]
nf status | finds "^export vda: no client is let in, because of restore job $job$"
restore "qcow2:$tmp/0.qcow2" vda >/dev/null
guest_sees vda "$tmp/day0"

say "refused, and the disk is as it was"
truncate -s 11M "$tmp/small"
truncate -s 13M "$tmp/large"
cp "$tmp/day2.raw" "$tmp/writing.raw"
sed 's/completed/writing/' "$tmp/day2.raw.nbdfleece" >"$tmp/writing.raw.nbdfleece"
while read -r pattern image; do
  must_fail "${pattern//_/ }" nf restore "$image" vda
done <<X
another_size_than_the_disk:_12582912_bytes,_not_11534336 $tmp/small
smaller_than_the_disk $tmp/large
No_such_file $tmp/nowhere
No_such_file qcow2:$tmp/nowhere
is_a_directory $tmp
not_a_qcow2_image qcow2:$tmp/day2.raw
has_not_completed $tmp/writing.raw
the_server|No_such_file nbd+unix:///?socket=$tmp/no.sock
X
must_fail 'there is no export vdx' nf restore "$tmp/day2.raw" vdx
must_fail 'expected EXPORT|too few' nf restore "$tmp/day2.raw"
guest_sees vda "$tmp/day0"
[ ! -e "$state/exports/vda/restoring" ] || fail "it is marked"
nothing_left () {
  [ -z "$(find "$state" -name '*.copy' -o -name '*.result' -o -name restoring)" ] &&
    [ -z "$(find "$run" -name 'job-*')" ]
}
nothing_left

stop_daemon
