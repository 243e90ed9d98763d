#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Verify by manifest: a backup is proved when its snapshot, and its source, are
# gone, by its job or by the file alone; a chain of qcow2 images, compressed or
# not; also of jobs whose copier and daemon were killed; and a flipped byte.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img qemu-nbd
requires_python_nbd

mkdir "$tmp/b"
head -c 6M /dev/urandom >"$tmp/a.img"
truncate -s 12M "$tmp/a.img"
head -c 3M /dev/urandom >"$tmp/c.img"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdc
    disk: $tmp/c.img
X
start_daemon

scribble () {
  "$PYTHON" - "$(guest_uri vda)" <<'PY'
import nbd, os, random, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
for i in range (20):
  h.pwrite (os.urandom (8192), random.randrange (h.get_size () // 8192) * 8192)
h.shutdown ()
PY
}
poke () { printf 'x' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }

say "a chain, each image by its own manifest"
nf backup vda "qcow2:$tmp/b/0.qcow2" --checkpoint c0 --manifest "$tmp/b/0.json" >/dev/null
cp --sparse=always "$tmp/a.img" "$tmp/day0"
for i in 1 2 3; do
  scribble
  options=
  [ $i != 2 ] || options='--compress zstd'
  (cd "$tmp/b" && nf backup vda "qcow2:$i.qcow2" --since c$((i - 1)) --checkpoint c$i \
    --backing $((i - 1)).qcow2 $options --manifest $i.json >out)
  cp --sparse=always "$tmp/a.img" "$tmp/day$i"
done
for i in 0 1 2 3; do
  qemu-img compare -q -f raw -F qcow2 "$tmp/day$i" "$tmp/b/$i.qcow2"
  nf verify $((i + 1)) "qcow2:$tmp/b/$i.qcow2" >"$tmp/out"
  grep -q "$i.qcow2 is the same as manifest $tmp/b/$i.json" "$tmp/out"
  nf verify --manifest "$tmp/b/$i.json" "$tmp/b/$i.qcow2" >/dev/null
done
[ "$(job_field 3 backing)" = "$tmp/b/1.qcow2" ]
[ "$(job_field 3 compress)" = zstd ]
# And each day, from the chain.
for i in 3 0 2 1; do
  nf restore "$tmp/b/$i.qcow2" "$tmp/out.raw" >/dev/null
  same "$tmp/out.raw" "$tmp/day$i"
done
must_fail 'differs from manifest .*1.json, first in the extent at byte' \
  nf verify --manifest "$tmp/b/1.json" "$tmp/b/0.qcow2"

say "several exports"
nf backup vda,vdc "$tmp/b/{export}.raw" --manifest "$tmp/b/{export}.json" >/dev/null
for d in vda vdc; do nf verify --manifest "$tmp/b/$d.json" "$tmp/b/$d.raw" >/dev/null; done
must_fail 'manifest: several exports need \{export\}' \
  nf backup vda,vdc "$tmp/b/{export}.raw" --manifest "$tmp/b/one.json"
must_fail 'backing: several exports need \{export\}' \
  nf backup vda,vdc "qcow2:$tmp/b/{export}.x" --backing "$tmp/b/0.qcow2"

say "killed in the middle"
job=$(nf backup vda "$tmp/b/k.raw" --manifest "$tmp/b/k.json" --speed 300K --detach)
wait_for 60 job_got_further "$job" $((300 << 10))
kill -KILL "$(job_field "$job" pid)"
wait_for 60 job_got_further "$job" $((1 << 20))
kill_daemon
start_daemon
stop "$daemon"
start_daemon
nf job speed "$job" none >/dev/null 2>&1 || true # it may have ended
nf job wait "$job" >/dev/null
same "$tmp/b/k.raw" "$tmp/a.img"
nf verify "$job" "$tmp/b/k.raw" >/dev/null
[ ! -e "$tmp/b/k.json.part" ]
job=$(nf backup vda "$tmp/b/x.raw" --manifest "$tmp/b/x.json" --speed 1M --detach)
wait_for 30 job_got_further "$job" 0
nf job cancel "$job" >/dev/null
must_fail 'cancelled' nf job wait "$job"
[ ! -e "$tmp/b/x.json.part" ] && [ ! -e "$tmp/b/x.json" ]
must_fail "job $job has not completed: cancelled" nf verify "$job" "$tmp/b/x.raw"

say "a byte that was flipped, and the source is long gone"
stop_daemon
rm "$tmp/a.img"
head -c 12M /dev/zero >"$tmp/a.img"
start_daemon
nf verify --manifest "$tmp/b/k.json" "$tmp/b/k.raw" >/dev/null
poke "$tmp/b/k.raw" 5000000
status=0
nf --json verify --manifest "$tmp/b/k.json" "$tmp/b/k.raw" >"$tmp/json" || status=$?
[ $status = 1 ]
json "(d['job']['first-difference'] <= 5000000 and d['job']['state'] == 'failed'
  and d['job']['manifest'].endswith ('/k.json'))" <"$tmp/json" | finds True

say "refused"
must_fail 'there is no job 999' nf verify 999 "$tmp/b/k.raw"
job=$(nf backup vdc "$tmp/b/plain.raw" --detach)
nf job wait "$job" >/dev/null
must_fail "job $job made no manifest, and its snapshot is gone" \
  nf verify "$job" "$tmp/b/plain.raw"
must_fail 'No such file' nf verify --manifest "$tmp/b/nothing" "$tmp/b/k.raw"
must_fail 'not a manifest of a backup, or damaged' \
  nf verify --manifest "$tmp/b/k.raw" "$tmp/b/k.raw"
must_fail 'TARGET alone' nf verify --manifest "$tmp/b/k.json" 3 "$tmp/b/k.raw"
must_fail 'expected EXPORT@SNAPSHOT' nf verify vda "$tmp/b/k.raw"
echo precious >"$tmp/precious"
must_fail 'there is such a file, and it is no manifest' \
  nf backup vdc "$tmp/b/p.raw" --manifest "$tmp/precious"
[ "$(cat "$tmp/precious")" = precious ] || fail "it was overwritten"
must_fail 'is the live disk of export vdc' \
  nf backup vdc "$tmp/b/p.raw" --manifest "$tmp/c.img"
must_fail 'go with a qcow2: target' \
  nf backup vdc "$tmp/b/p.raw" --backing "$tmp/b/0.qcow2"
must_fail 'go with a qcow2: target' nf backup vdc "$tmp/b/p.raw" --compress zlib
must_fail 'expected zlib, zstd' nf backup vdc "qcow2:$tmp/b/p" --compress lzma
must_fail 'No such file' nf backup vdc "qcow2:$tmp/b/p" --backing "$tmp/b/none"
must_fail 'of another size|of export vda, not of vdc' \
  nf backup vdc "qcow2:$tmp/b/p" --backing "$tmp/b/0.qcow2"
[ ! -e "$tmp/b/p" ] || fail "an image is left"

stop_daemon
