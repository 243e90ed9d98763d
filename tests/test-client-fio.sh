#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# fio as the guest, which verifies what it wrote, under snapshots and backups.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/clients.sh"
requires_tool fio nbdcopy
requires sh -c 'fio --enghelp | grep -w nbd'

truncate -s 24M "$tmp/a.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X
start_daemon

# run_fio URI ARGS...: one job; verification errors are fatal.
run_fio () {
  local uri=$1
  shift
  fio --name=job --ioengine=nbd --thread --uri="$uri" --size=24M \
      --verify_fatal=1 --output="$tmp/fio.out" "$@" >"$tmp/fio.err" 2>&1 ||
    { cat "$tmp/fio.out" "$tmp/fio.err" >&2; fail "fio $*"; }
}

say "every block is written, and carries what it is"
run_fio "$(guest_uri vda)" --rw=randwrite --bs=4k --iodepth=16 --verify=pattern \
        --verify_pattern=%o --do_verify=0
cp "$tmp/a.img" "$tmp/then"
nf snapshot create vda then >/dev/null

say "it is rewritten at random and verified, while snapshots come and go"
fio --name=writer --ioengine=nbd --thread --uri="$(guest_uri vda)" \
    --size=24M --rw=randwrite --bs=4k --iodepth=16 \
    --time_based --runtime=600 --verify=crc32c --verify_backlog=256 \
    --verify_fatal=1 --output="$tmp/writer.out" >"$tmp/writer.err" 2>&1 &
writer=$!
pids+=("$writer")
for i in 1 2 3 4 5; do
  nf snapshot create vda "s$i" >/dev/null
  nf backup vda "$tmp/out$i" >/dev/null
  # A backup and a snapshot of a running disk have no common instant; both
  # must be readable, and the snapshot must not change.
  nbdcopy "$(snapshot_uri vda "s$i")" "$tmp/once"
  nbdcopy "$(snapshot_uri vda "s$i")" "$tmp/twice"
  same "$tmp/once" "$tmp/twice"
  nf snapshot delete vda "s$i"
  alive "$writer" || { cat "$tmp/writer.out" >&2; fail "fio ended"; }
done

say "the snapshot still verifies, block by block, and the live disk does not"
run_fio "$(snapshot_uri vda then)" --rw=randread --bs=4k --iodepth=16 \
        --verify=pattern --verify_pattern=%o
(run_fio "$(guest_uri vda)" --rw=randread --bs=4k --verify=pattern \
         --verify_pattern=%o) 2>"$tmp/out" &&
  fail "fio finds on the live disk what was there before"
nbdcopy "$(snapshot_uri vda then)" "$tmp/pulled"
same "$tmp/then" "$tmp/pulled"
kill -INT "$writer"
wait_for 60 dead "$writer"
! grep -q 'verify: bad\|err= *[1-9]' "$tmp/writer.out" "$tmp/writer.err" ||
  { cat "$tmp/writer.out" "$tmp/writer.err" >&2; fail "the guest read something else"; }
nf snapshot delete vda then
stop_daemon
