#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: the tools that people use, unchanged: listing, maps, full and
# incremental pulls.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit nbdinfo nbdcopy qemu-img qemu-io
requires_python_nbd

# An image with data and holes, not a multiple of anything.
size=$((24 * 1048576 + 1000))
make_disk () {
  truncate -s $size "$1"
  head -c 5000000 /dev/urandom | dd of="$1" bs=1M seek=3 conv=notrunc status=none
  head -c 2000000 /dev/urandom | dd of="$1" bs=1M seek=15 conv=notrunc status=none
  printf 'the end' | dd of="$1" bs=1 seek=$((size - 7)) conv=notrunc status=none
}
make_disk "$tmp/vda.disk"
incremental () { "$PYTHON" "$abs_top_srcdir/tests/front-incremental.py" "$@"; }

# guest_write OFFSET LENGTH BYTE: as the filter would have it.
guest_write () {
  local m
  "$track" dirty "$(dirty vda "$current")" "$1" "$2"
  for m in "$state"/exports/vda/*.map; do
    "$play" copy "$m" "$tmp/vda.disk" "$1" "$2"
  done
  "$play" write "$(map vda "$last")" "$tmp/vda.disk" "$1" "$2" "$3"
}

# Three backups: a full one with a checkpoint, and two increments.
start_backend
start_front
point () {                      # point NAME CHECKPOINT PARENT
  new_snapshot vda "$1" $size 65536
  "$track" new "$state" vda "$2" "$3" $size 65536
  "$track" begin "$(dirty vda "$2")" "$(map vda "$1")"
  [ "$3" = - ] || "$track" freeze "$(dirty vda "$3")"
  cp --sparse=always "$tmp/vda.disk" "$tmp/before-$1"
  last=$1 current=$2
}
point s1 c1 -
guest_write 5000000 100000 7
guest_write $((size - 1)) 1 8
guest_write 0 1 9
point s2 c2 c1
guest_write 20000000 70000 10
guest_write 5000000 10 11
point s3 c3 c2
guest_write 1000000 1000000 12

# Listing shows exactly what there is.
nbdinfo --list --json "$(front_uri)" >"$tmp/list.json"
"$PYTHON" - "$tmp/list.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
e = {e["export-name"]: e for e in d["exports"]}
assert list(e) == ["vda@s1", "vda@s2", "vda@s3"], list(e)
dirty = ["qemu:dirty-bitmap:" + c for c in ("c1", "c2", "c3")]
for name, want in (("vda@s1", []), ("vda@s2", dirty[:1]), ("vda@s3", dirty[:2])):
    x = e[name]
    assert x["is_read_only"] and x["can_multi_conn"] and x["can_cache"]
    assert not x["can_trim"] and not x["can_flush"]
    assert x["export-size"] == 24 * 1048576 + 1000
    assert x["block_size_maximum"] == 64 << 20
    assert x["block_size_preferred"] == 65536
    assert x["description"].startswith(name + " as of 20")
    assert sorted(x["contexts"]) == sorted(
        ["base:allocation", "qemu:allocation-depth"] + want), x["contexts"]
PY

# Pulls of all of it.
for s in s1 s2 s3; do
  nbdcopy "$(front_uri vda@$s)" "$tmp/copy"
  same "$tmp/copy" "$tmp/before-$s"
  nbdcopy --no-extents --connections=3 --requests=7 --request-size=262144 \
          "$(front_uri vda@$s)" "$tmp/copy"
  same "$tmp/copy" "$tmp/before-$s"
  nbdcopy --synchronous "$(front_uri vda@$s)" "$tmp/copy"
  same "$tmp/copy" "$tmp/before-$s"
  rm "$tmp/copy"
  qemu-img convert -f raw -O raw "$(front_uri vda@$s)" "$tmp/copy"
  truncate -s $size "$tmp/copy"
  same "$tmp/copy" "$tmp/before-$s"
  qemu-img compare -f raw -F raw "$(front_uri vda@$s)" "$tmp/before-$s"
  rm "$tmp/copy"
done
qemu-io -r -f raw -c "read -P 7 5000000 100000" "$(front_uri vda@s2)" \
  >"$tmp/qemu-io.out"
if grep -q 'failed' "$tmp/qemu-io.out"; then cat "$tmp/qemu-io.out"; fail qemu-io; fi

# Maps.
got=$(nbdinfo --map=qemu:dirty-bitmap:c1 "$(front_uri vda@s3)" | tr -s ' ' | tr '\n' ';')
want=" 0 65536 1 dirty; 65536 4915200 0 clean; 4980736 131072 1 dirty; 5111808 14876672 0 clean; 19988480 131072 1 dirty; 20119552 5046272 0 clean; 25165824 1000 1 dirty;"
[ "$got" = "$want" ] || fail "nbdinfo --map: $got"
got=$(nbdinfo --map=qemu:dirty-bitmap:c2 --totals "$(front_uri vda@s3)" | tr -s ' ')
grep -q '^ 196608 .* 1 dirty$' <<<"$got" || fail "totals: $got"
must_fail . nbdinfo --map=qemu:dirty-bitmap:c3 "$(front_uri vda@s3)"
nbdinfo --map "$(front_uri vda@s1)" | finds 'hole,zero' || fail "no holes"
nbdinfo --map=qemu:allocation-depth "$(front_uri vda@s1)" >"$tmp/depth"
grep -q ' 1  local$' "$tmp/depth" && grep -q ' 2  backing depth 2$' "$tmp/depth"

# QEMU's own way to look at a dirty bitmap: what is dirty shows as no data.
dirty_by_qemu () {
  qemu-img map --output=json --image-opts "driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=$tmp/front.sock,file.export=vda@$1,file.x-dirty-bitmap=qemu:dirty-bitmap:$2" |
    "$PYTHON" -c 'import json, sys
for e in json.load (sys.stdin):
  if not e["data"]: print ("%d:%d" % (e["start"], e["length"]), end=" ")'
}
got=$(dirty_by_qemu s3 c1)
[ "$got" = "0:65536 4980736:131072 19988480:131072 25165824:1000 25166824:24 " ] ||
  fail "x-dirty-bitmap: $got"
got=$(dirty_by_qemu s2 c1)
[ "$got" = "0:65536 4980736:131072 25165824:1000 25166824:24 " ] || fail "x-dirty-bitmap: $got"

# The chain of backups: full, then increments, by way of each or at once.
n=$(incremental "$(front_uri vda@s1)" "$tmp/backup")
[ "$n" -lt 10000000 ] || fail "the holes were read, too: $n"
same "$tmp/backup" "$tmp/before-s1"
cp "$tmp/backup" "$tmp/backup2"
n=$(incremental "$(front_uri vda@s2)" "$tmp/backup" c1)
[ "$n" = $((65536 * 3 + 1000)) ] || fail "read $n"
same "$tmp/backup" "$tmp/before-s2"
n=$(incremental "$(front_uri vda@s3)" "$tmp/backup" c2)
[ "$n" = $((65536 * 3)) ] || fail "read $n"
same "$tmp/backup" "$tmp/before-s3"
incremental "$(front_uri vda@s3)" "$tmp/backup2" c1
same "$tmp/backup2" "$tmp/before-s3"
