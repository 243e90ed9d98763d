#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: with fleece-tracking=durable checkpoints outlast the host's crash.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit
requires_python_nbd

truncate -s 200000001 "$disk"
cp --sparse=always "$disk" "$tmp/before"
dir=$state/exports/vda
log=$dir/activity.log
M=1048576

of () { "$PYTHON" "$abs_top_srcdir/tests/bmfile.py" "$@"; }
bits () { of "$1" bits; }
# is FILE FIELD VALUE
is () { [ "$(of "$1" "$2")" = "$3" ] || fail "$1: $2 is $(of "$1" "$2"), not $3"; }
write () { nbdsh_vda "h.pwrite (b'x' * $2, $1)"; }
checkpoint () { expect "ok *" begin x only-dirty dirty="$1"; }
durable () {
  start_export file "$disk" fleece-live="file:$disk" fleece-tracking=durable "$@"
}
# crash FILE...: the process goes, and the host seems to have gone with it; the
# disk was last written to before.
crash () {
  stop "$export_pid" KILL
  touch -d 2001-01-01 "$disk"
  for f; do
    printf 'another boot id.' | dd of="$f" bs=1 seek=3080 conv=notrunc status=none
  done
}
is_empty () { [ -z "$(bits "$log")" ]; }
is_clean () { [ "$(of "$1" clean)" = 1 ]; }
believed () { is "$1" state "$2"; }

# Nothing is logged before there is a checkpoint; then what is written to, with
# the ends of requests, and some that follow if one goes from front to end.
durable
write 0 4096
is_empty
checkpoint c1
is "$dir/c1.dirty" log "$(of "$log" uuid)"
write 0 4096
write $((40 * M - 1)) 2
[ "$(bits "$log")" = "0 9 10" ] || fail "logged: $(bits "$log")"
write $((44 * M)) 4096
[ "$(bits "$log")" = "0 9 10 11 12 13 14 15 16 17 18" ] ||
  fail "logged: $(bits "$log")"

# A crash: what the log has counts as changed, and nothing else.
is "$dir/c1.dirty" bits "0 10239 10240 11264"
crash "$dir/c1.dirty"
durable
believed "$dir/c1.dirty" active
grep -q "the regions of the activity log count as changed" "$tmp/vda.log"
"$PYTHON" - "$dir/c1.dirty" <<END || fail "c1 has $(bits "$dir/c1.dirty")"
import sys
sys.path.insert (0, "$abs_top_srcdir/tests")
from bmfile import File
assert File (sys.argv[1]).bits () == {
  c for r in [0, *range (9, 19)] for c in range (r * 1024, r * 1024 + 1024) }
END

# Once more, in the middle of making it good: killed, then a crash.
stop "$export_pid" KILL
crash "$dir/c1.dirty"
durable
believed "$dir/c1.dirty" active

# A new checkpoint, crashes of both: in the flip, and after.
checkpoint c2
is "$dir/c1.dirty" state frozen
wait_for 10 is_clean "$dir/c1.dirty"
is "$dir/c2.dirty" bits ""
is "$dir/c2.dirty" log "$(of "$log" uuid)"
crash "$dir/c2.dirty"
durable
believed "$dir/c1.dirty" frozen
believed "$dir/c2.dirty" active
[ "$(bits "$dir/c2.dirty" | wc -w)" = $((11 * 1024)) ]
crash "$dir/c1.dirty" "$dir/c2.dirty"
of "$dir/c1.dirty" clean=0 state=active
durable
believed "$dir/c1.dirty" frozen
believed "$dir/c2.dirty" active
crash "$dir/c1.dirty" "$dir/c2.dirty"
of "$dir/c1.dirty" clean=0
durable
believed "$dir/c1.dirty" frozen
believed "$dir/c2.dirty" active

# Cleaned when nobody has written for a while; then nothing is added.
stop "$export_pid"
durable fleece-log-idle=50ms
write 4096 1
wait_for 30 is_empty
checkpoint c3
write 4096 1
wait_for 30 is_empty
crash "$dir/c3.dirty"
durable
believed "$dir/c3.dirty" active
is "$dir/c3.dirty" bits 1

# Somebody wrote to the disk after the host had started.
crash "$dir/c3.dirty"
printf x | dd of="$disk" conv=notrunc status=none
durable
is "$dir/c3.dirty" state inconsistent
is "$dir/c3.dirty" reason "the live disk changed after the host had started, while nothing was in front of it"

# Without the option the log does not count any more.
rm -f "$dir"/*.dirty
checkpoint c4
stop "$export_pid"
start_export file "$disk" fleece-live="file:$disk"
is "$dir/c4.dirty" log 00000000000000000000000000000000
crash "$dir/c4.dirty"
durable
is "$dir/c4.dirty" state inconsistent

# The log is damaged or gone: then nothing is believed that needs it.
for damage in "rm -f $log" "truncate -s 4000 $log"; do
  rm -f "$dir"/*.dirty
  checkpoint c5
  crash "$dir/c5.dirty"
  $damage
  durable
  is "$dir/c5.dirty" state inconsistent
  rm -f "$dir"/*.dirty
  checkpoint c6
  is "$dir/c6.dirty" log "$(of "$log" uuid)"
done

# Where a flush does not mean all that was written it cannot be had.
stop "$export_pid"
rm -f "$dir"/*
durable --filter=multi-conn multi-conn-mode=disable
grep -q "is flushed for each connection by itself: its checkpoints will not" \
  "$tmp/vda.log"
checkpoint c7
is "$dir/c7.dirty" log 00000000000000000000000000000000

# What follows preloads a library that a sanitizer's own might not get on with.
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || exit 0

# A bitmap cannot be flushed: it cannot be known what of it is on disk, for a
# second try would succeed without what the first one has lost.
fault=$abs_top_builddir/tests/.libs/libfault.so
[ -e "$fault" ] || fault=$abs_top_builddir/tests/libfault.so
export NBDFLEECE_FAULT=$tmp/fault
stop "$export_pid"
rm -f "$dir"/*
NBDFLEECE_PRELOAD=$fault durable fleece-log-idle=50ms
checkpoint c8
write 4096 1
wait_for 30 is_empty
echo "nbdkit sync c8.dirty 5" >"$NBDFLEECE_FAULT"
write $((100 * M)) 1
wait_for 30 grep -q "cannot be relied on" "$tmp/vda.log"
rm "$NBDFLEECE_FAULT"
unbound () { [ "$(of "$dir/c8.dirty" log)" = 00000000000000000000000000000000 ]; }
wait_for 30 unbound
write 8192 1
crash "$dir/c8.dirty"
durable
is "$dir/c8.dirty" state inconsistent

# It would be seen if that were forgotten: then the bitmap is believed.
good=$NBDFLEECE_FILTER
broken=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
stop "$export_pid"
rm -f "$dir"/*
NBDFLEECE_FILTER=$broken NBDFLEECE_BROKEN=flush-tried-again \
  NBDFLEECE_PRELOAD=$fault durable fleece-log-idle=50ms
checkpoint c8
echo "nbdkit sync c8.dirty 5" >"$NBDFLEECE_FAULT"
write $((100 * M)) 1
wait_for 30 grep -q "and that is forgotten" "$tmp/vda.log"
rm "$NBDFLEECE_FAULT"
wait_for 30 is_empty
is "$dir/c8.dirty" log "$(of "$log" uuid)"
crash "$dir/c8.dirty"
NBDFLEECE_FILTER=$good durable
is "$dir/c8.dirty" state active

# The log hangs: so does who wants a region, whatever cow-timeout says, since
# what went on would be known to nobody after a crash.
stop "$export_pid"
rm -f "$dir"/*
durable
stop "$export_pid"              # now the log is opened by its name
NBDFLEECE_PRELOAD=$fault durable fleece-cow-timeout=50ms
checkpoint c9
write 0 1
echo "nbdkit sync activity.log hang" >"$NBDFLEECE_FAULT"
write 1 1
start nbdsh_vda "h.pwrite (b'x', 100 * $M)"
waits=$pid
wanted () { [ "$(bits "$log")" = "0 25" ]; }
wait_for 30 wanted
nbdsh_vda "import time; time.sleep (0.3)" # six times as long
alive "$waits" || fail "a write went on without the log"
rm "$NBDFLEECE_FAULT"
wait_for 30 dead "$waits"
is "$dir/c9.dirty" log "$(of "$log" uuid)"

# It would be seen if nobody waited for it.
stop "$export_pid"
rm -f "$dir"/*
NBDFLEECE_FILTER=$broken durable
stop "$export_pid"
NBDFLEECE_FILTER=$broken NBDFLEECE_BROKEN=log-not-flushed \
  NBDFLEECE_PRELOAD=$fault durable
checkpoint c9
write 0 1
echo "nbdkit sync activity.log hang" >"$NBDFLEECE_FAULT"
write $((100 * M)) 1            # which hung above
rm "$NBDFLEECE_FAULT"
cases "mechanisms broken on purpose, and noticed" 2
