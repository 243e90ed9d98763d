#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# kill -9 of a filter between any two of its steps, once and twice.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit
requires_python_nbd

[ "${NBDFLEECE_SANITIZER:-no}" = no ] ||
  skip "sanitizers have nothing to say about processes that are killed"
# make crash-long has all pairs.
: "${NBDFLEECE_SINGLES:=1}" "${NBDFLEECE_PAIRS:=6}"
export NBDFLEECE_SEED=${NBDFLEECE_SEED:-$RANDOM}
say "NBDFLEECE_SEED=$NBDFLEECE_SEED"

start_front
export abs_top_srcdir abs_top_builddir NBDKIT
export NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
go () { "$PYTHON" "$abs_top_srcdir/tests/crash-points.py" "$tmp" "$@"; }

go "$NBDFLEECE_SINGLES" "$NBDFLEECE_PAIRS"

# It would be seen if a step were missing.
for mechanism in no-take-up no-dirty mark-before-copy; do
  if NBDFLEECE_BROKEN=$mechanism go 1 0 >"$tmp/out" 2>&1; then
    fail "$mechanism: not found"
  fi
  grep '^AssertionError: ' "$tmp/out" >&2 ||
    { cat "$tmp/out" >&2; fail "$mechanism: not by its effect"; }
  cases "mechanisms broken on purpose, and noticed" 1
done
