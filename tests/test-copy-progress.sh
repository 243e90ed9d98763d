#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: progress on a pipe that is read, not read, or left by its reader; the
# fields and what they add up to; the result file.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit

make_image "$tmp/disk" 8M:r 4M:- 4M:0
size=$((16 << 20))
begin_snapshot s "$tmp/disk" 65536
start_nbdkit t memory 16M

say "the lines"
copy --progress="$tmp/lines" --speed=8M "map:$map" "$(uri t)"
"$PYTHON" - "$tmp/lines" "$tmp/result.json" <<'PY'
import json, sys
docs = [json.loads (s) for s in open (sys.argv[1])]
result = json.load (open (sys.argv[2]))
keys = {"state": str, "bytes-total": int, "bytes-done": int, "bytes-read": int,
        "bytes-written": int, "bytes-zero": int, "bytes-skipped": int,
        "bytes-offloaded": int, "bytes-recopied": int, "bytes-lost": int,
        "bytes-per-second": int, "eta-seconds": (int, type (None)),
        "offload": str, "flush": str, "error": (str, type (None))}
assert len (docs) >= 4, len (docs)
last = 0
for d in docs + [result]:
  for k, t in keys.items ():
    assert isinstance (d[k], t), (k, d)
  assert set (d) - set (keys) <= {"lost-ranges", "lost-ranges-total"}, d
  assert last <= d["bytes-done"] <= d["bytes-total"] == 16 << 20
  last = d["bytes-done"]
states = [d["state"] for d in docs]
assert states[0] == "running" and states[-2:] == ["flushing", "completed"]
r = result
assert r["bytes-done"] == 16 << 20 and r["eta-seconds"] == 0
assert r["bytes-read"] == 12 << 20 and r["bytes-written"] == 8 << 20
assert r["bytes-zero"] == 8 << 20 and r["bytes-skipped"] == 0
assert 0 < r["bytes-per-second"] <= 12 << 20
PY
[ "$(stat -c %a "$tmp/result.json")" = 600 ]
[ "$(stat -c %a "$tmp/lines")" = 600 ]

say "a pipe that nobody reads, then fills"
mkfifo "$tmp/pipe"
copy --progress="$tmp/pipe" "map:$map" "$(uri t)"
# Full before it begins: opened by us so that it keeps what is in it.
exec 8<>"$tmp/pipe"
dd if=/dev/zero bs=4096 count=100 oflag=nonblock status=none >&8 2>/dev/null ||
  true
copy --progress="$tmp/pipe" "map:$map" "$(uri t)"
exec 8<&-

say "a reader that goes and comes back"
start_copy --speed=4M --progress="$tmp/pipe" "map:$map" "$(uri t)"
head -n 2 "$tmp/pipe" >"$tmp/first"
head -n 2 "$tmp/pipe" >"$tmp/second"
order '{"command":"cancel"}'
ended 4
[ "$(wc -l <"$tmp/first")" = 2 ] && [ "$(wc -l <"$tmp/second")" = 2 ]
"$PYTHON" -c 'import json, sys
for f in sys.argv[1:]:
  json.loads (open (f).read ().splitlines ()[0])' "$tmp/first" "$tmp/second"

say "a result that cannot be written is told, and the copy is good"
rm -f "$tmp/result.json"
"$NBDFLEECE_COPY" --result="$tmp/no/result" "map:$map" "$tmp/out" \
  2>"$tmp/err"
grep -q 'no/result: result: No such file' "$tmp/err"
same "$tmp/out" "$tmp/before"
copy_ends 1 --progress="$tmp/no/lines" "map:$map" "$tmp/out"

say "an old result is replaced, and nothing is left beside it"
echo old >"$tmp/result.json"
"$NBDFLEECE_COPY" --result="$tmp/result.json" "map:$map" "$tmp/out"
is completed state
[ ! -e "$tmp/result.json.new" ]

say "what a person sees"
script -qec "'$NBDFLEECE_COPY' --speed=8M 'map:$map' '$(uri t)'" /dev/null \
       </dev/null >"$tmp/typescript"
tr '\r' '\n' <"$tmp/typescript" >"$tmp/screen"
grep -Eq '^ *[0-9]+% \[=* *\] .* of 16.0 MiB, .*/s' "$tmp/screen"
grep -Eq 'completed: 16.0 MiB in [0-9.]+ s .*8.0 MiB of data, 8.0 MiB of zeroes' \
     "$tmp/screen"
script -qec "'$NBDFLEECE_COPY' -q 'map:$map' '$(uri t)'" /dev/null \
       </dev/null >"$tmp/typescript"
[ ! -s "$tmp/typescript" ] || fail "--quiet is not quiet"
