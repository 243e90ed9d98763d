#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Power cuts, anywhere, with a durable scratch: a snapshot that exists is found
# again, and has in each cluster what the disk had at its instant; and a job that
# copies it can go on.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
. "$abs_top_srcdir/tests/powercut.sh"
requires_tool nbdkit
requires_python_nbd

[ "${NBDFLEECE_SANITIZER:-no}" = no ] ||
  skip "what is recorded is the same with a sanitizer, and is slower"
# make crash-long has more of both.
: "${NBDFLEECE_ROUNDS:=1}" "${NBDFLEECE_CHOICES:=3}"

# All states after each cut, as far as they can be counted, of a short story; and
# some of a longer one, with several requests at once.
for ((round = 0; round < NBDFLEECE_ROUNDS; round++)); do
  record_scratch 8 4 1
  NBDFLEECE_EVERY=500 cut_power "$NBDFLEECE_CHOICES"
  record_scratch 48 24 4
  cut_power "$NBDFLEECE_CHOICES"
done

# Each mechanism broken: it must be seen.
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
NBDFLEECE_COPY=$abs_top_builddir/copier/nbdfleece-copy-broken
while read -r mechanism effect; do
  export NBDFLEECE_BROKEN=$mechanism
  found=no
  for try in 1 2 3 4 5; do
    record_scratch 48 24 4
    if ! cut_power 2 >"$tmp/out" 2>&1; then
      grep -E "powercut: FAILED: .*($effect)" "$tmp/out" ||
        { cat "$tmp/out" >&2; fail "$mechanism: not by its effect"; }
      found=yes
      break
    fi
  done
  [ $found = yes ] || fail "$mechanism: not found"
  say "$mechanism: found at try $try"
  cases "mechanisms broken on purpose, and noticed" 1
done <<'END'
scratch-not-flushed wrong data in the scratch
map-not-flushed new data at cluster
live-not-flushed new data at cluster
end-not-flushed new data at cluster
release-not-flushed wrong data in the scratch|new data
delivered-not-flushed wanted and released
END
