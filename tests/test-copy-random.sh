#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: many small random jobs with faults, orders and deaths; each ends right.
# `make -C tests copy-random-long' runs thousands of them.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit
requires_python_nbd

seed=${NBDFLEECE_SEED:-$RANDOM}
say "NBDFLEECE_SEED=$seed"
jobs=150
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || jobs=30
mkdir "$tmp/state"
export PYTHONPATH=$abs_top_srcdir/tests
start "$PYTHON" "$abs_top_srcdir/tests/copy-random.py" "$tmp" \
      "${NBDFLEECE_JOBS:-$jobs}" "$seed"
status=0
wait "$pid" || status=$?
[ $status -eq 0 ] || fail "status $status"
