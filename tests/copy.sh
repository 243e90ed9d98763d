# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# What tests of the copier share, to be sourced after functions.sh.

state=$tmp/state
mkdir -p "$state"
play=$abs_top_builddir/tests/play-filter
bitmap=$abs_top_builddir/tests/play-copy-bitmap
: "${NBDFLEECE_SEED:=$RANDOM}"
RANDOM=$NBDFLEECE_SEED
say "NBDFLEECE_SEED=$NBDFLEECE_SEED"

# For servers that run programs: without the sanitizer that tests may have in
# nbdkit, which these would inherit.
bare_nbdkit=$(type -aP "$NBDKIT" | tail -n 1)

# make_image FILE LENGTH:KIND...: an image by its content, in order.  KIND is
# r (random data), 0 (zeroes that are written), - (a hole) or a character to
# fill it with; LENGTH is in bytes, or with K or M.
make_image () {
  "$PYTHON" - "$NBDFLEECE_SEED" "$@" <<'PY'
import random, sys
rng = random.Random (int (sys.argv[1]))
units = {"K": 1 << 10, "M": 1 << 20}
with open (sys.argv[2], "wb") as f:
  for part in sys.argv[3:]:
    length, kind = part.split (":")
    n = int (length.rstrip ("KM")) * units.get (length[-1], 1)
    if kind == "-":
      f.seek (n, 1)
      f.truncate (f.tell ())
    else:
      while n > 0:
        m = min (n, 1 << 20)
        f.write (rng.randbytes (m) if kind == "r" else bytes (m)
                 if kind == "0" else kind.encode () * m)
        n -= m
PY
}

# begin_snapshot NAME FILE CLUSTER: a snapshot of the live disk FILE; its map
# is in $map, and a copy of the disk as it was in $tmp/before.
begin_snapshot () {
  local size
  size=$(stat -c %s "$2")
  cp --sparse=always "$2" "$tmp/before"
  "$play" new "$state" vda "$1" "file:$2" "$size" "$3"
  map=$state/exports/vda/$1.map
  "$play" begin "$map"
}

# guest_writes FILE N MAX: random writes to the live disk in FILE.
guest_writes () {
  local i size offset length
  size=$(stat -c %s "$1")
  for ((i = 0; i < $2; i++)); do
    offset=$(((RANDOM * 32768 + RANDOM) % size)) length=$((1 + RANDOM % $3))
    [ $((offset + length)) -le "$size" ] || length=$((size - offset))
    "$play" write "$map" "$1" $offset $length $((RANDOM % 256))
  done
}

# copy ARGS...: must complete.  The result is in $tmp/result.json.
copy () {
  rm -f "$tmp/result.json"
  "$NBDFLEECE_COPY" --verbose --result="$tmp/result.json" "$@" \
    2>"$tmp/copy.log" || fail "status $?: $(tail -n 1 "$tmp/copy.log")"
  [ "$(result state)" = completed ] || fail "state is $(result state)"
}

# copy_ends STATUS ARGS...: must end with that status.
copy_ends () {
  local want=$1 status=0
  shift
  rm -f "$tmp/result.json"
  "$NBDFLEECE_COPY" --verbose --result="$tmp/result.json" "$@" \
    2>"$tmp/copy.log" || status=$?
  [ $status = "$want" ] || fail "status $status, not $want: $*"
}

# start_copy ARGS...: in the background, with progress in $tmp/progress, control
# at $tmp/control; its pid is in $copier.
start_copy () {
  rm -f "$tmp/result.json" "$tmp/progress" "$tmp/control"
  mkfifo "$tmp/control"
  start "$NBDFLEECE_COPY" --verbose --result="$tmp/result.json" \
        --progress="$tmp/progress" --control="$tmp/control" "$@" \
        2>"$tmp/copy.log"
  copier=$pid
}

# order JSON: a line to the control pipe, opened so that it does not wait for a
# copier that has ended already.
order () { echo "$1" 1<>"$tmp/control"; }

# field FILE KEY: a member of the last JSON document of a file, in text form.
field () {
  "$PYTHON" - "$1" "$2" <<'PY'
import json, sys
text = open (sys.argv[1]).read ()
try:
  doc = json.loads (text)
except ValueError:
  doc = json.loads (text.splitlines ()[-1])
v = doc[sys.argv[2]]
print ("null" if v is None else v if isinstance (v, str) else json.dumps (v))
PY
}
result () { field "$tmp/result.json" "$1"; }
progress () { field "$tmp/progress" "$1"; }

# has_state STATE: whether the running copy says so.
has_state () { [ -s "$tmp/progress" ] && [ "$(progress state)" = "$1" ]; }
# has_done BYTES: whether it has done so much.
has_done () { [ -s "$tmp/progress" ] && [ "$(progress bytes-done)" -ge "$1" ]; }

# ended STATUS: waits for the copy in the background, which must end so.
ended () {
  wait_for 60 dead "$copier"
  status=0
  wait "$copier" || status=$?
  [ $status = "$1" ] || fail "status $status, not $1: $(tail -n1 "$tmp/copy.log")"
}

# compare_nbd URI: the export begins with the disk as it was.
compare_nbd () {
  nbdcopy "$1" "$tmp/pulled"
  truncate -s "$(stat -c %s "$tmp/before")" "$tmp/pulled"
  same "$tmp/pulled" "$tmp/before"
  rm "$tmp/pulled"
}

# is EXPECTED KEY: about the result.
is () {
  local got
  got=$(result "$2")
  [ "$got" = "$1" ] || fail "$2 is $got, not $1"
}
# at_least N KEY
at_least () {
  local got
  got=$(result "$2")
  [ "$got" -ge "$1" ] || fail "$2 is $got, less than $1"
}
