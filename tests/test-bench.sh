#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The benchmark: every case runs and gives a figure; how large is not tested.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool fio nbdcopy qemu-img qemu-storage-daemon
requires sh -c 'fio --enghelp | grep -w nbd'
export PYTHONDONTWRITEBYTECODE=1

bench () { "$PYTHON" "$abs_top_srcdir/bench/run" "$@"; }

say "all cases, in a directory of ours, which is empty afterwards"
mkdir "$tmp/work"
bench --quick --build "$abs_top_builddir" --dir "$tmp/work" \
      --json "$tmp/out.json" >"$tmp/out.txt" 2>"$tmp/bench.log"
[ -z "$(ls -A "$tmp/work")" ] || fail "left behind: $(ls -A "$tmp/work")"
"$PYTHON" - "$tmp/out.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
cases = {r["case"].split(",")[0] for r in d["rows"]}
assert cases == {
    "guest I/O", "first touch", "guest 4k write", "pull with nbdcopy",
    "push to an NBD target", "incremental", "snapshot create",
    "resident besides the map"}, cases
for r in d["rows"]:
    assert 0 < r["min"] <= r["ratio"] <= r["max"], r
    assert r["verdict"] == ("pass" if r["ratio"] >= r["reach"][1] else "short") \
        or r["reach"][0] == "<=" if r["reach"] else r["verdict"] is None, r
PY
finds 'guest I/O, no snapshot, 4k random read, depth 1 ' <"$tmp/out.txt"

say "the page is written again from the results, and nothing else of it changes"
printf 'before\n%s\nold\n%s\nafter\n' '<!-- results: bench/run -->' \
       '<!-- end of results -->' >"$tmp/page.md"
bench --from "$tmp/out.json" --page "$tmp/page.md" >"$tmp/again.txt"
same "$tmp/out.txt" "$tmp/again.txt"
[ "$(head -n 1 "$tmp/page.md")" = before ]
[ "$(tail -n 1 "$tmp/page.md")" = after ]
finds -x old <"$tmp/page.md" && fail "the old results are still there"
finds -F '(page.svg)' <"$tmp/page.md"
"$PYTHON" -c 'import sys, xml.dom.minidom as m; m.parse (sys.argv[1])' \
          "$tmp/page.svg"

say "bad input"
must_fail 'nonsense is none of' bench --cases nonsense
must_fail 'nothing is built in' env -u NBDFLEECED "$PYTHON" \
          "$abs_top_srcdir/bench/run" --quick --build "$tmp/work"
must_fail 'has no .*results' bench --from "$tmp/out.json" --page "$tmp/out.txt"
must_fail 'No such file' bench --from "$tmp/none.json"
