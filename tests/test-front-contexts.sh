#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: a dirty bitmap is offered for each checkpoint that leads up to the
# snapshot without a gap, and for no other; it is the union of all since.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit

size=$((16 * 1048576))
ask () { "$PYTHON" "$abs_top_srcdir/tests/front-contexts.py" "$tmp/front.sock" "$@"; }
offers () {
  local got
  got=$(ask list "$1")
  [ "$got" = "$2" ] || fail "$1 offers '$got', not '$2'"
}
is_dirty () {
  local got
  got=$(ask dirty "$1" "$2")
  [ "$got" = "$3" ] || fail "$1: dirty since $2: '$got', not '$3'"
  [ "$(ask dirty "$1" "$2" extended)" = "$3" ] || fail "$1 $2: extended"
}

# checkpoint EXPORT NAME PARENT [SNAPSHOT]: begins, with a cluster of its own
# dirty; the one before is frozen.
n=0
checkpoint () {
  "$track" new "$state" "$1" "$2" "$3" ${5:-$size} 65536
  "$track" begin "$(dirty "$1" "$2")" ${4:+"$(map "$1" "$4")"}
  [ "$3" = - ] || "$track" freeze "$(dirty "$1" "$3")"
  n=$((n + 1))
  "$track" dirty "$(dirty "$1" "$2")" $((n * 65536)) 65536
}

start_backend
truncate -s $size "$tmp/vda.disk"
cp "$tmp/vda.disk" "$tmp/vdb.disk"
start_front

# No checkpoint, or none before the snapshot: none is offered.
new_snapshot vda s0 $size 65536
offers vda@s0 ''
checkpoint vda c1 - s0
offers vda@s0 ''

# Between two checkpoints: since the last one, as far as is known now.
new_snapshot vda s1 $size 65536
offers vda@s1 c1
is_dirty vda@s1 c1 65536-131072
"$track" dirty "$(dirty vda c1)" $size 0      # nothing
"$track" dirty "$(dirty vda c1)" $((size - 1)) 1
is_dirty vda@s1 c1 "65536-131072 $((size - 65536))-$size"

# With a checkpoint: exactly up to it, and that one itself is not offered.
new_snapshot vda s2 $size 4096
checkpoint vda c2 c1 s2
offers vda@s2 c1
is_dirty vda@s2 c1 "65536-131072 $((size - 65536))-$size"
offers vda@s1 c1                # what was ACTIVE is FROZEN now

# The union of all since, newest checkpoint first.
new_snapshot vda s3 $size 65536
checkpoint vda c3 c2 s3
new_snapshot vda s4 $size 65536
checkpoint vda c4 c3 s4
offers vda@s4 'c3 c2 c1'
is_dirty vda@s4 c3 196608-262144
is_dirty vda@s4 c2 131072-262144
is_dirty vda@s4 c1 "65536-262144 $((size - 65536))-$size"
offers vda@s3 'c2 c1'
is_dirty vda@s3 c2 131072-196608
new_snapshot vda s5 $size 65536
offers vda@s5 'c4 c3 c2 c1'

# Other cluster sizes among them.
"$track" new "$state" vda c5 c4 $size 4096
"$track" begin "$(dirty vda c5)"
"$track" freeze "$(dirty vda c4)"
"$track" dirty "$(dirty vda c5)" 4096 1
new_snapshot vda s6 $size 65536
offers vda@s6 'c5 c4 c3 c2 c1'
is_dirty vda@s6 c5 4096-8192
is_dirty vda@s6 c1 "4096-8192 65536-327680 $((size - 65536))-$size"
offers vda@s5 'c4 c3 c2 c1'

# A deleted checkpoint is a link like the others, and not offered; ...
c3=$("$track" delete "$(dirty vda c3)")
offers vda@s6 'c5 c4 c2 c1'
is_dirty vda@s6 c2 "4096-8192 131072-327680"
offers vda@s4 'c2 c1'
is_dirty vda@s4 c1 "65536-262144 $((size - 65536))-$size"
[ -z "$(ask dirty vda@s4 c3 2>/dev/null)" ] || fail "a deleted checkpoint was found"
# ... also the newest, which nothing follows yet; ...
c5=$("$track" delete "$(dirty vda c5)")
offers vda@s6 'c4 c2 c1'
is_dirty vda@s6 c4 "4096-8192 262144-327680"
mv "$c5" "$(dirty vda c5)"
# ... and when the one before has its bits, and is followed by the one after.
"$track" dirty "$(dirty vda c2)" $((3 * 65536)) 65536
"$track" follow "$(dirty vda c4)" "$(dirty vda c2)"
offers vda@s4 'c2 c1'
is_dirty vda@s4 c2 131072-262144
offers vda@s5 'c4 c2 c1'
mv "$c3" "$(dirty vda c3)"
"$track" follow "$(dirty vda c4)" "$(dirty vda c3)"
offers vda@s4 'c3 c2 c1'
# The name of a deleted one says which it is.
cp "$(dirty vda c3)" "$(dirname "$c3")/.00000000-0000-0000-0000-000000000000.dirty"
offers vda@s4 'c3 c2 c1'

# A link that is not to be trusted ends the chain: inconsistent, ...
"$track" doubt "$(dirty vda c3)"
offers vda@s6 'c5 c4'
offers vda@s4 ''
offers vda@s3 'c2 c1'
# ... not whole since the host stopped, ...
"$track" unsettle "$(dirty vda c1)"
offers vda@s3 c2
# ... of another file under its name, or gone.
mv "$(dirty vda c4)" "$tmp/c4"
offers vda@s6 c5
offers vda@s5 ''                # nothing tells how far c4 went
cp "$(dirty vda c2)" "$(dirty vda c4)"
offers vda@s6 c5
cp "$tmp/c4" "$(dirty vda c4)"
offers vda@s6 'c5 c4'
printf x | dd of="$(dirty vda c5)" bs=1 seek=100 conv=notrunc status=none
offers vda@s6 ''

# Tracking that ended before the snapshot does not reach it.
checkpoint vdb c1 -
"$track" freeze "$(dirty vdb c1)"
new_snapshot vdb s1 $size 65536
offers vdb@s1 ''
# A later checkpoint that does not follow from it is no bridge.
checkpoint vdb c2 -
offers vdb@s1 ''
new_snapshot vdb s2 $size 65536
offers vdb@s2 c2
# A bitmap of another disk size is of another disk.
rm "$(dirty vdb c2)"
checkpoint vdb c2 - '' $((size * 2))
offers vdb@s2 ''

# A bitmap that becomes inconsistent while a client is using it.
rm -r "$state/exports/vdb"
checkpoint vdb c1 -
new_snapshot vdb s $size 65536
"$PYTHON" - "$tmp/front.sock" "$track" "$(dirty vdb c1)" <<'PY'
import subprocess, sys
from nbdwire import *
w = Wire(sys.argv[1])
w.structured()
w.set_contexts("vdb@s", "qemu:dirty-bitmap:c1", "qemu:allocation-depth")
w.go("vdb@s")
assert w.status(0, 65536)
subprocess.check_call([sys.argv[2], "doubt", sys.argv[3]])
expect(EIO, w.status, 0, 65536)
assert w.read_data(0, 512) == bytes(512)
PY

# A disk of (nearly) 16 TiB: few requests, no time.
size=$(((16 << 40) - (1 << 20)))  # the longest file that ext4 has
truncate -s $size "$tmp/vdc.disk" 2>/dev/null ||
  skip "no file of 16 TiB can be made here"
"$track" new "$state" vdc c1 - $size $((1 << 15))
"$track" begin "$(dirty vdc c1)"
new_snapshot vdc s $size $((1 << 15))
"$track" new "$state" vdc c2 c1 $size $((1 << 15))
"$track" begin "$(dirty vdc c2)" "$(map vdc s)"
"$track" freeze "$(dirty vdc c1)"
"$track" dirty "$(dirty vdc c1)" $((1 << 40)) $((1 << 33))
"$track" dirty "$(dirty vdc c1)" $((size - 5)) 5
got=$(ask time vdc@s c1)
[ "$got" = "$((1 << 40))-$(((1 << 40) + (1 << 33))) $((size - (1 << 15)))-$size" ] ||
  fail "$got"
# And when it is full of holes, in some more.
"$track" dirty-every "$(dirty vdc c1)" 65536
"$PYTHON" - "$tmp/front.sock" <<'PY'
import sys, time
from nbdwire import *
w = Wire(sys.argv[1])
w.extended()
w.set_contexts("vdc@s", "qemu:dirty-bitmap:c1")
w.go("vdc@s")
start = time.monotonic()
extents, n = w.all_status(w.ids["qemu:dirty-bitmap:c1"])
took = time.monotonic() - start
print(len(extents), "extents,", n, "requests, %.3f s" % took, file=sys.stderr)
assert len(extents) > 16000 and n <= 4 and took < 2
PY
