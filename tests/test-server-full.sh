#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# File systems that are really full: of the scratches, of the state, of the
# target.  The guest notices nothing, nobody reads what is wrong, and with some
# room everything goes on.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
. "$abs_top_srcdir/tests/clients.sh"
requires_tool nbdkit nbdcopy
[ "$(id -u)" = 0 ] || skip "mounting a file system needs root"

# small DIR SIZE: a file system of its own.
small () {
  mkdir "$1"
  requires mount -t tmpfs -o "mode=0700,size=$2" tmpfs "$1"
  mounts+=("$1")
}
# fill DIR: to the last page, also those that are just being freed; emptied by
# unfill.
fill () { wait_for 20 filled "$1"; }
filled () {
  dd if=/dev/zero of="$1/ballast" bs=4096 oflag=append conv=notrunc \
     status=none 2>/dev/null
  [ "$(df --output=avail "$1" | tail -n 1)" -eq 0 ]
}
unfill () { rm "$1/ballast"; }

size=$((16 << 20))
for disk in a b c; do head -c $size /dev/urandom >"$tmp/$disk.img"; done
small "$tmp/scratch" 2M
small "$tmp/target" 8M
small "$state" 4M
mkdir "$tmp/roomy"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img, scratch: $tmp/scratch, cluster-size: 4K}
  - {name: vdb, disk: $tmp/b.img, scratch: $tmp/scratch, cluster-size: 4K,
     on-cow-error: break-guest-write}
  - {name: vdc, disk: $tmp/c.img, scratch: $tmp/roomy, cluster-size: 4K}
X
start_daemon

# write_all EXPORT [FROM TO]: each cluster, one after the other; the number of
# writes that failed.
write_all () {
  guest "$1" "
failed = 0
for i in range (${2:-0}, ${3:-$((size / 4096))}):
  try: h.pwrite (os.urandom (4096), i * 4096)
  except nbd.Error: failed += 1
print (failed)"
}
# read_as EXPORT SNAPSHOT FILE: what can be read is right; the number of clusters
# that cannot.
read_as () {
  "$PYTHON" -c "
import nbd
h = nbd.NBD ()
h.connect_uri ('$(snapshot_uri "$1" "$2")')
lost = 0
with open ('$3', 'rb') as f:
  for i in range (0, $size, 4096):
    want = f.read (4096)
    try: got = h.pread (4096, i)
    except nbd.Error: lost += 1
    else: assert got == want, i
print (lost)"
}
snapshot_field () {
  nf --json snapshot list "$1" |
    json "[s for s in d['snapshots'] if s['name'] == '$2'][0]['$3']"
}

say "the scratches': break-snapshot, the guest writes on, the rest is kept"
nf backup vda "$tmp/a.out" --checkpoint c0 >/dev/null
cp "$tmp/a.img" "$tmp/then"
nf snapshot create vda s >/dev/null
[ "$(write_all vda)" = 0 ]
lost=$(read_as vda s "$tmp/then")
[ "$lost" -gt 0 ] || fail "2M kept 16M"
[ "$lost" -lt $((size / 4096)) ] || fail "nothing was kept"
[ "$(snapshot_field vda s clusters-lost)" = "$lost" ]
nf snapshot delete vda s

say "the same, of a job: incomplete, and the next one brings it"
cp "$tmp/a.img" "$tmp/then"
job=$(nf backup vda "$tmp/a.out" --since c0 --checkpoint c1 --speed 1 --detach)
nf job pause "$job" >/dev/null
wait_for 20 job_is "$job" paused
[ "$(write_all vda)" = 0 ]
nf job speed "$job" none >/dev/null
nf job resume "$job" >/dev/null
must_fail incomplete nf job wait "$job"
[ "$(wc -l <"$tmp/must_fail.err")" = 1 ]
lost=$(job_field "$job" bytes-lost)
[ "$lost" -gt 0 ] || fail "nothing was lost"
# What it did bring is of the instant.
"$PYTHON" - "$tmp/a.out" "$tmp/then" "$lost" <<'PY'
import sys
a, b = (open (name, "rb").read () for name in sys.argv[1:3])
differ = sum (a[i:i + 4096] != b[i:i + 4096] for i in range (0, len (b), 4096))
assert differ * 4096 <= int (sys.argv[3]), (differ, sys.argv[3])
PY
cp "$tmp/a.img" "$tmp/then"
nf backup vda "$tmp/a.out" --since c1 --checkpoint c2 >/dev/null
same "$tmp/then" "$tmp/a.out"
cases "faults" 2

say "the scratches': break-guest-write, the snapshot is whole"
cp "$tmp/b.img" "$tmp/then"
nf snapshot create vdb s >/dev/null
[ "$(write_all vdb)" -gt 0 ]
[ "$(read_as vdb s "$tmp/then")" = 0 ]
nf snapshot delete vdb s
[ "$(write_all vdb)" = 0 ]
cases "faults" 1

say "the state's: what begins is refused in one line, what is there goes on"
cp "$tmp/c.img" "$tmp/then"
nf backup vdc "$tmp/c.out" --checkpoint k0 >/dev/null
nf snapshot create vdc before >/dev/null
fill "$state"
refused () {
  must_fail 'No space left' "$@"
  [ "$(wc -l <"$tmp/must_fail.err")" = 1 ] || fail "more than one line"
}
refused nf snapshot create vdc more
refused nf backup vdc "$tmp/c.out2" --checkpoint k1
refused nf backup vdc "$tmp/c.out" --since k0
[ ! -e "$tmp/c.out2" ] || fail "a target was made for nothing"
[ "$(checkpoints vdc)" = k0 ]
[ "$(write_all vdc)" = 0 ]
[ "$(read_as vdc before "$tmp/then")" = 0 ]
kill_daemon
start_daemon
[ "$(read_as vdc before "$tmp/then")" = 0 ]
changed vdc k0 $size
nf snapshot delete vdc before
unfill "$state"
cp "$tmp/c.img" "$tmp/then"
nf backup vdc "$tmp/c.out" --since k0 --checkpoint k1 >/dev/null
same "$tmp/then" "$tmp/c.out"
[ -z "$(find "$state" "$tmp/scratch" "$tmp/roomy" -name '*.map' -o \
  -name '*.scratch' -o -name '*.copy' -o -name 'begin-*')" ]
cases "faults" 3

say "the state's, under a job: it goes on, and its end is on record in the end"
[ "$(write_all vdc 0 2000)" = 0 ]
cp "$tmp/c.img" "$tmp/then"
job=$(nf backup vdc "$tmp/c.out" --since k1 --checkpoint k2 --speed 1 --detach)
fill "$state"
[ "$(write_all vdc 0 4000)" = 0 ]
nf job speed "$job" none >/dev/null
wait_for 60 cmp -s "$tmp/then" "$tmp/c.out"
unfill "$state"
nf job wait "$job" >/dev/null
same "$tmp/then" "$tmp/c.out"
cp "$tmp/c.img" "$tmp/then"
nf backup vdc "$tmp/c.out" --since k2 >/dev/null
same "$tmp/then" "$tmp/c.out"
cases "faults" 1

say "the target's: report, and enospc until there is room"
must_fail 'No space left' nf backup vdc "$tmp/target/out"
[ "$(wc -l <"$tmp/must_fail.err")" = 1 ]
rm -f "$tmp/target/out"*
cp "$tmp/c.img" "$tmp/then"
job=$(nf backup vdc "$tmp/target/out" --on-target-error enospc --detach)
wait_for 60 job_is "$job" stopped-on-error
job_field "$job" error | finds 'No space left'
[ "$(write_all vdc 0 500)" = 0 ]
nf job resume "$job" >/dev/null
wait_for 60 job_is "$job" stopped-on-error
mount -o remount,size=32M "$tmp/target"
nf job resume "$job" >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/then" "$tmp/target/out"
cases "faults" 2

say "not marked as lost: it is seen"
stop_daemon
export NBDFLEECE_BROKEN=no-lost
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so \
  start_daemon
cp "$tmp/a.img" "$tmp/then"
nf snapshot create vda s >/dev/null
[ "$(write_all vda)" = 0 ]
must_fail AssertionError read_as vda s "$tmp/then"
cases "mechanisms broken on purpose, and noticed" 1
