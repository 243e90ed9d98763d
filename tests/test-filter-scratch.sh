#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: snapshots with a durable scratch outlast the host's crash, unless what
# that takes cannot be flushed.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit nbdcopy nbdinfo
requires_python_nbd

make_disk 5000001
start_front
dir=$state/exports/vda
of () { "$PYTHON" "$abs_top_srcdir/tests/bmfile.py" "$@"; }
write () { nbdsh_vda "h.pwrite (os.urandom ($2), $1)"; }
exact () {
  rm -f "$tmp/copy"
  nbdcopy "$(uri snap "vda@${1:-s}")" "$tmp/copy"
  same "$tmp/copy" "${2:-$tmp/before}"
}
nbdsh_snap () {
  "$PYTHON" -c "
import nbd
h = nbd.NBD ()
h.connect_uri ('$(uri snap vda@s)')
$1"
}
serve () { start_export file "$disk" fleece-live="file:$disk" "$@"; }
# crash: the process goes, and the host seems to have gone with it; the disk was
# last written to before.
crash () {
  stop "$export_pid" KILL
  touch -d 2001-01-01 "$disk"
  for f in "$dir"/*.map; do
    printf 'another boot id.' | dd of="$f" bs=1 seek=3080 conv=notrunc status=none
  done
}
# flags SNAPSHOT VALUE: 2 durable, 4 it outlasts, 8 it does not any more.
flags () {
  [ "$(of "$dir/$1.map" flags)" = "$2" ] ||
    fail "$1: flags are $(of "$dir/$1.map" flags), not $2"
}
afresh () {
  stop "$export_pid" KILL
  cp "$tmp/before" "$disk"
  rm -f "$dir"/*
  serve "$@"
  expect "ok *" begin s durable
}

# Of two snapshots the durable one is there after a crash, once and again; and
# through other ends of the process in between.
serve
expect "ok *" begin s durable
expect "ok *" begin other
flags s 6
flags other 0
write 100 70000
crash
serve
expect "ok 1" list
grep -q "vda@other: the snapshot is lost: the host stopped without closing it" \
  "$tmp/vda.log"
grep -q "vda@s: the host stopped without closing it: its scratch is durable" \
  "$tmp/vda.log"
exact
for how in KILL TERM crash KILL crash TERM crash; do
  write $((RANDOM * 100)) 100000
  if [ $how = crash ]; then crash; else stop "$export_pid" $how; fi
  serve
  expect "ok 1" list
  flags s 6
  write $((RANDOM * 100)) 1000
  exact
done
[ "$(stat_of lost_clusters s)" = 0 ]

# What is released is not copied any more, nor after a crash.
"$abs_top_builddir/tests/play-filter" release "$dir/s.map" 0 1048576
write 4096 4096
crash
serve
expect "ok 1" list
must_fail . nbdsh_snap "h.pread (4096, 4096)"

# It ends, for good.
expect ok end s keep
crash
serve
expect "ok 0" list

# Somebody else wrote to the disk after the crash.
afresh
crash
printf x | dd of="$disk" conv=notrunc status=none
serve
expect "ok 0" list
grep -q "the live disk changed after the host had started" "$tmp/vda.log"

# Killed before it could say that it outlasts: the next one says so.
afresh
of "$dir/s.map" flags=2
stop "$export_pid" KILL
serve
flags s 6
of "$dir/s.map" flags=2
crash
serve
expect "ok 0" list

# A disk that cannot be flushed.
cat >"$tmp/plugin.sh" <<'END'
case $1 in
  get_size) stat -c %s "$disk" ;;
  pread) dd if="$disk" iflag=skip_bytes,count_bytes skip="$4" count="$3" status=none ;;
  pwrite) dd of="$disk" oflag=seek_bytes conv=notrunc seek="$4" status=none ;;
  can_write) exit 0 ;;
  *) exit 2 ;;
esac
END
chmod +x "$tmp/plugin.sh"
stop "$export_pid" KILL
rm -f "$dir"/*
export disk
start_export sh "$tmp/plugin.sh"
expect "ok *" begin s durable
flags s 10
grep -q "vda@s will not outlast a crash of the host" "$tmp/vda.log"

# What follows preloads a library that a sanitizer's own might not get on with.
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || exit 0
fault=$abs_top_builddir/tests/.libs/libfault.so
[ -e "$fault" ] || fault=$abs_top_builddir/tests/libfault.so
export NBDFLEECE_FAULT=$tmp/fault NBDFLEECE_PRELOAD=$fault

# The scratch cannot be flushed: what was to be kept then is lost, and nothing
# else; the guest does not notice.
afresh
write 0 8192
echo "nbdkit flush vda@s.scratch 5" >"$NBDFLEECE_FAULT"
write 65536 8192
rm "$NBDFLEECE_FAULT"
write 131072 8192
[ "$(stat_of lost_clusters s)" = 2 ] || fail "$(stat_of lost_clusters s) lost"
flags s 6
crash
serve
expect "ok 1" list
[ "$(stat_of lost_clusters s)" = 2 ]
must_fail "Input/output error" nbdsh_snap "h.pread (8192, 65536)"
nbdsh_snap "
with open ('$tmp/before', 'rb') as f:
  assert h.pread (65536, 0) == f.read (65536)
  f.seek (131072)
  assert h.pread (100000, 131072) == f.read (100000)"

# With break-guest-write the guest notices, and may try again.
afresh fleece-on-cow-error=break-guest-write
echo "nbdkit flush vda@s.scratch 28" >"$NBDFLEECE_FAULT"
must_fail "No space left" nbdsh_vda "h.pwrite (b'x' * 4096, 0)"
rm "$NBDFLEECE_FAULT"
write 0 4096
exact

# It hangs: cow-timeout.
afresh fleece-cow-timeout=100ms
echo "nbdkit flush vda@s.scratch hang" >"$NBDFLEECE_FAULT"
write 0 4096
[ "$(stat_of lost_clusters s)" = 1 ]
rm "$NBDFLEECE_FAULT"

# The map cannot be flushed: the snapshot is one like any other, and a crash
# finds that on disk.
afresh
write 0 4096
echo "nbdkit sync s.map 5" >"$NBDFLEECE_FAULT"
write 4096 4096
rm "$NBDFLEECE_FAULT"
noted () { expect "ok *" hello; [ "$(of "$dir/s.map" flags)" = 10 ]; }
wait_for 10 noted
wait_for 10 grep -q "vda@s will not outlast a crash of the host" "$tmp/vda.log"
exact
crash
serve
expect "ok 0" list

# It hangs, and so does who waits for it, whatever cow-timeout says; others do
# not, and those that wait share what comes then.
afresh fleece-cow-timeout=50ms
write 0 4096
echo "nbdkit sync s.map hang" >"$NBDFLEECE_FAULT"
start nbdsh_vda "h.pwrite (b'x', 100000)"
waits=$pid
is_copied () { [[ " $(of "$dir/s.map" bits) " == *" 24 "* ]]; }
wait_for 10 is_copied
write 0 4096
nbdsh_vda "import time; time.sleep (0.3)" # six times as long
alive "$waits" || fail "a write went on without the map"
rm "$NBDFLEECE_FAULT"
wait_for 30 dead "$waits"
[ "$(stat_of lost_clusters s)" = 0 ]
exact
