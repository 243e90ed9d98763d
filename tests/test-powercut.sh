#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Power cuts, anywhere: no checkpoint that is believed misses a change, and all
# are believed that somebody was told of.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
. "$abs_top_srcdir/tests/powercut.sh"
requires_tool nbdkit
requires_python_nbd

[ "${NBDFLEECE_SANITIZER:-no}" = no ] ||
  skip "what is recorded is the same with a sanitizer, and is slower"
# make crash-long has more of both.
: "${NBDFLEECE_ROUNDS:=1}" "${NBDFLEECE_CHOICES:=3}"

for ((round = 0; round < NBDFLEECE_ROUNDS; round++)); do
  record 3
  cut_power "$NBDFLEECE_CHOICES"
done

# Each mechanism broken: it must be seen.
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
for mechanism in no-log log-not-flushed live-not-flushed bitmaps-not-flushed \
                   no-dirty; do
  export NBDFLEECE_BROKEN=$mechanism
  found=no
  for try in 1 2 3 4 5; do
    record 3
    if ! cut_power 4 >"$tmp/out" 2>&1; then
      grep 'powercut: FAILED: .*a change is missing' "$tmp/out" ||
        { cat "$tmp/out" >&2; fail "$mechanism: not by its effect"; }
      found=yes
      break
    fi
  done
  [ $found = yes ] || fail "$mechanism: not found"
  say "$mechanism: found at try $try"
  cases "mechanisms broken on purpose, and noticed" 1
done
