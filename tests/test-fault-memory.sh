#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# No memory is to be had, in one process after the other: no write of a guest is
# lost, no backup is wrong, and all goes on once there is some again.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_python_nbd
[ "${NBDFLEECE_SANITIZER:-no}" = no ] ||
  skip "a sanitizer allocates in its own way"

fault=$abs_top_builddir/tests/.libs/libfault.so
[ -e "$fault" ] || fault=$abs_top_builddir/tests/libfault.so
export NBDFLEECE_SEED=${NBDFLEECE_SEED:-$RANDOM}
say "NBDFLEECE_SEED=$NBDFLEECE_SEED"

memory () {
  local dir
  dir=$(mktemp -d "$tmp/memory-XXX")
  NBDFLEECE_PRELOAD=$fault "$PYTHON" "$abs_top_srcdir/tests/fault-memory.py" \
    "$dir" "$@"
}
memory filter restart copier plugin front

# It would be seen if a cluster that there was no memory to copy was not lost.
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
if NBDFLEECE_BROKEN=no-lost memory filter-broken >"$tmp/out" 2>&1; then
  fail "no-lost: not found"
fi
grep 'FAILED: filter-broken.*cluster .* is not as it was' "$tmp/out" >&2 ||
  { cat "$tmp/out" >&2; fail "no-lost: not by its effect"; }
cases "mechanisms broken on purpose, and noticed" 1
