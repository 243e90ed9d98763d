#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Restore to a target: files, qcow2 images, NBD servers; interrupted and gone on
# with; and targets that are refused.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy qemu-img qemu-nbd

head -c 6M /dev/urandom >"$tmp/a.img"
truncate -s $(((12 << 20) + 1024)) "$tmp/a.img"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
X
start_daemon
cp --sparse=always "$tmp/a.img" "$tmp/day0"
nf backup vda "qcow2:$tmp/0.qcow2" >/dev/null
nf backup vda "$tmp/0.raw" >/dev/null

say "to anything"
for image in "$tmp/0.qcow2" "qcow2:$tmp/0.qcow2" "$tmp/0.raw"; do
  nf restore "$image" "$tmp/out.raw" >/dev/null
  same "$tmp/out.raw" "$tmp/day0"
  nf restore "$image" "qcow2:$tmp/out.qcow2" >/dev/null
  qemu-img compare -q -f raw -F qcow2 "$tmp/day0" "$tmp/out.qcow2"
  truncate -s $(((12 << 20) + 1024)) "$tmp/served"
  start_nbdkit served file "$tmp/served"
  nf restore "$image" "$(uri served)" >/dev/null
  stop "$pid"
  same "$tmp/served" "$tmp/day0"
  rm "$tmp/out.raw" "$tmp/out.qcow2" "$tmp/served"
done
(cd "$tmp" && nf restore ./0.raw ./out.raw >/dev/null)
same "$tmp/out.raw" "$tmp/day0"
# Over what is there, zeroes are zeroes again.
tr '\0' 'x' <"$tmp/day0" >"$tmp/out.raw"
nf restore "$tmp/0.qcow2" "$tmp/out.raw" >/dev/null
same "$tmp/out.raw" "$tmp/day0"
[ "$(stat -c %b "$tmp/out.raw")" -lt 16384 ]

say "interrupted"
job=$(nf restore "$tmp/0.raw" "$tmp/slow.raw" --speed 300K --detach)
wait_for 30 job_got_further "$job" 0
must_fail "job $job writes to it" nf restore "$tmp/0.raw" "$tmp/slow.raw"
must_fail "job $job writes to it" nf backup vda "$tmp/slow.raw"
must_fail "job $job reads it" nf backup vda "$tmp/0.raw"
kill -KILL "$(job_field "$job" pid)"
kill_daemon
start_daemon
nf job speed "$job" none >/dev/null
nf job wait "$job" >/dev/null
same "$tmp/slow.raw" "$tmp/day0"
[ "$(job_field "$job" kind)" = restore ]
job=$(nf restore "$tmp/0.qcow2" "$tmp/no.raw" --speed 300K --detach)
nf job cancel "$job" >/dev/null
must_fail 'cancelled' nf job wait "$job"

say "refused"
head -c 1M /dev/urandom >"$tmp/small"
md5=$(md5sum <"$tmp/small")
must_fail 'smaller than the disk: 1048576 bytes, not 12583936' \
  nf restore "$tmp/0.raw" "$tmp/small"
[ "$(md5sum <"$tmp/small")" = "$md5" ] || fail "it was changed"
must_fail 'is the live disk of export vda' nf restore "$tmp/0.raw" "$tmp/a.img"
must_fail 'is a socket of our own' nf restore "$tmp/0.raw" "$(guest_uri vda)"
must_fail 'what the source is read from|target is the source' \
  nf restore "$tmp/0.raw" "$tmp/0.raw"
must_fail 'its directory does not exist' nf restore "$tmp/0.raw" "$tmp/no/such"
must_fail 'is in a directory of our own' nf restore "$tmp/0.raw" "$state/x"
start_nbdkit ro -r file "$tmp/small"
must_fail 'read-only' nf restore "$tmp/0.raw" "$(uri ro)"
same "$tmp/a.img" "$tmp/day0"
[ -z "$(find "$run" -name 'job-*')" ] || fail "job files are left"

stop_daemon
