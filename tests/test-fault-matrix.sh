#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Error × place × policy: what the guest, the reader, the job and the next
# incremental see (tests/fault-matrix).

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit nbdcopy
requires_python_nbd

fault=$abs_top_builddir/tests/.libs/libfault.so
[ -e "$fault" ] || fault=$abs_top_builddir/tests/libfault.so
export NBDFLEECE NBDKIT abs_top_srcdir

matrix () {
  local dir
  dir=$(mktemp -d "$tmp/matrix-XXX")
  NBDFLEECE_PRELOAD=$fault "$PYTHON" "$abs_top_srcdir/tests/fault-matrix.py" \
    "$dir" "$@"
}
matrix "$@"

# It would be seen if lost clusters were not marked.
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
if NBDFLEECE_BROKEN=no-lost matrix scratch-write >"$tmp/out" 2>&1; then
  fail "no-lost: not found"
fi
grep 'FAILED: cluster .* of the snapshot is not as it was' "$tmp/out" >&2 ||
  { cat "$tmp/out" >&2; fail "no-lost: not by its effect"; }
cases "mechanisms broken on purpose, and noticed" 1
