#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# A thousand snapshots, one after the other, of a disk that is written to: no
# process has more descriptors or memory after them, and no file is left.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_python_nbd

n=1000
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || n=100
truncate -s 64M "$tmp/a.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X
cycles_of () {
  "$PYTHON" "$abs_top_srcdir/tests/resources.py" cycles "$run" "$daemon" \
            "$(guest_uri vda)" "$1"
}
files () { ls "$state/exports/vda" "$run"; }
start_daemon
nf snapshot create vda stays --checkpoint c >/dev/null
files >"$tmp/before"
cycles_of $n
files | diff "$tmp/before" - || fail "files are left"
nf snapshot delete vda stays
no_snapshot_files
stop_daemon
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || exit 0

say "it would be seen if something stayed open"
NBDFLEECED=$abs_top_builddir/server/nbdfleeced-broken
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
NBDFLEECE_BROKEN=keep-ended start_daemon
if NBDFLEECE_PATIENCE=2 cycles_of 20 >"$tmp/out" 2>&1; then
  fail "keep-ended: not found"
fi
grep 'resources: descriptors, KiB, pid' "$tmp/out" >&2 ||
  { cat "$tmp/out" >&2; fail "keep-ended: not by its effect"; }
stop_daemon

say "and if files were left"
NBDFLEECE_BROKEN=files-left start_daemon
files >"$tmp/before"
nf snapshot create vda s >/dev/null
nf snapshot delete vda s
files | diff "$tmp/before" - >&2 && fail "files-left: not found"
stop_daemon
cases "mechanisms broken on purpose, and noticed" 2
