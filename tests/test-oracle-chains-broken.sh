#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The oracle of backups finds what it is there for: with tracking broken, or
# copy-before-write, it says so.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"
requires_tool nbdkit nbdcopy qemu-img qemu-nbd
requires_python_nbd

[ "${NBDFLEECE_SANITIZER:-no}" = no ] ||
  skip "sanitizers have nothing to say about broken code"
NBDFLEECE_ROUNDS=100
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
NBDFLEECE_PLUGIN=$abs_top_builddir/plugin/.libs/nbdkit-fleece-broken-plugin.so

# found MECHANISM PATTERN: a run that long fails, and says why.
found () {
  NBDFLEECE_BROKEN=$1 chains 300 2>"$tmp/said" && fail "$1: not found"
  grep -E "^chains: FAILED: .*($2)" "$tmp/said" >"$tmp/why" || {
    cat "$tmp/said" >&2
    fail "$1: found, but not by its effect ($2)"
  }
  say "$1: $(head -n 1 "$tmp/why") "
  cases "mechanisms broken on purpose, and noticed" 1
}

found no-dirty 'tracking has missed|is not what it may be'
found dirty-after-write 'tracking has missed|is not what it may be'
found mark-after-write 'is not what it may be'
