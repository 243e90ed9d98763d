#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Plugin: shows exactly the snapshots that exist at the time of asking.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit nbdinfo
requires_python_nbd

play=$abs_top_builddir/tests/play-filter
state=$tmp/state
mkdir "$state"
truncate -s 1M "$tmp/disk"

new () { "$play" new "$state" "$1" "$2" "file:$tmp/disk" 1048576 4096; }
map () { echo "$state/exports/$1/$2.map"; }
listed () {
  nbdinfo --list --json "$(uri s)" |
    "$PYTHON" -c 'import json, sys
for e in sorted (json.load (sys.stdin)["exports"], key=lambda e: e["export-name"]):
  print (e["export-name"])'
}
expect () {
  local got
  got=$(listed | tr '\n' ' ')
  [ "$got" = "${*:+$* }" ] || fail "listed '$got', not '$*'"
}

# An empty state directory is one.
start_nbdkit s "$NBDFLEECE_PLUGIN" dir="$state"
"$PYTHON" - "$(uri s)" <<'PY'
import nbd, sys
h = nbd.NBD ()
h.set_opt_mode (True)
h.connect_uri (sys.argv[1])
names = []
h.opt_list (lambda name, text: names.append (name))
assert names == [], names
PY

# Only what has begun and has not ended.
new vda monday
new vda tuesday
new vdb monday
"$play" begin "$(map vda monday)"
"$play" begin "$(map vdb monday)"
expect vda@monday vdb@monday
"$play" begin "$(map vda tuesday)"
expect vda@monday vda@tuesday vdb@monday
"$play" end "$(map vda monday)"
expect vda@tuesday vdb@monday

# The description says which instant it is, to the millisecond, in UTC.
text=$(nbdinfo --json "$(uri s vda@tuesday)")
echo "$text" | finds -E \
  '"description": "vda@tuesday as of 20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z"' ||
  fail "no instant in the description: $text"
echo "$text" | finds '"is_read_only": true' || fail "not read-only: $text"
echo "$text" | finds '"can_multi_conn": true' || fail "one connection: $text"
echo "$text" | finds '"block_size_preferred": 4096' || fail "$text"

# What is no good is neither listed nor opened: a map under another's name,
# a truncated one, one of a newer version, a link, a directory.
cp "$(map vdb monday)" "$(map vdb renamed)"
head -c 5000 "$(map vdb monday)" >"$(map vdb short)"
cp "$(map vdb monday)" "$(map vdb newer)"
printf '\x02' | dd of="$(map vdb newer)" bs=1 seek=8 conv=notrunc status=none
ln -s monday.map "$(map vdb link)"
ln -s vdb "$state/exports/linked"
mkdir "$(map vdb dir)"
mkfifo "$(map vdb fifo)"
touch "$state/exports/vdb/.map" "$state/exports/vdb/a b.map" \
      "$state/exports/file"
expect vda@tuesday vdb@monday

for name in '' vda vda@ @monday vda@monday vda@wednesday vdc@monday \
            vdb@renamed vdb@short vdb@newer vdb@link vdb@dir vdb@fifo \
            linked@monday vda@../tuesday ../exports/vda@tuesday \
            vda@tuesday@x "vdb@a b" file@x
do
  must_fail . nbdinfo --size "$(uri s "$(printf %s "$name" | sed 's/ /%20/g')")"
done

# Why, for who runs it; by a server that has not said enough yet.
start_nbdkit why "$NBDFLEECE_PLUGIN" dir="$state"
must_fail . nbdinfo --size "$(uri why vdb@newer)"
wait_for 10 grep -q "snapshot 'vdb@newer': its map is no good: .*version" \
         "$tmp/why.log"

# Bad parameters end it at the start, with the reason.
must_fail 'dir=STATE is needed' nbdkit -f -U - "$NBDFLEECE_PLUGIN" --run false
must_fail "$tmp/none" nbdkit -f -U - "$NBDFLEECE_PLUGIN" dir="$tmp/none" --run false
must_fail 'Not a directory' nbdkit -f -U - "$NBDFLEECE_PLUGIN" "$tmp/disk" --run false
must_fail 'unknown parameter' nbdkit -f -U - "$NBDFLEECE_PLUGIN" "$state" x=1 --run false
must_fail 'given twice' nbdkit -f -U - "$NBDFLEECE_PLUGIN" dir="$state" dir="$state" --run false
nbdkit --help "$NBDFLEECE_PLUGIN" | finds '^dir=STATE'
nbdkit --dump-plugin "$NBDFLEECE_PLUGIN" | finds '^fleece_map_version=1$'
