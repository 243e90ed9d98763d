#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The oracle finds what it is there for: each mechanism broken, each time.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"

[ "${NBDFLEECE_SANITIZER:-no}" = no ] ||
  skip "sanitizers have nothing to say about broken code"
NBDFLEECE_ROUNDS=100
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
NBDFLEECE_PLUGIN=$abs_top_builddir/plugin/.libs/nbdkit-fleece-broken-plugin.so

# finds MECHANISM PATTERN ARGS...: the run fails, and says why.  Everything
# here is found within seconds; the rounds are there for a bad day.
finds () {
  local mechanism=$1 pattern=$2
  shift 2
  NBDFLEECE_BROKEN=$mechanism oracle "$@" 2>"$tmp/said" &&
    fail "$mechanism: not found"
  grep -E "^oracle: (FAILED: )?.*($pattern)" "$tmp/said" >"$tmp/why" || {
    cat "$tmp/said" >&2
    fail "$mechanism: found, but not by its effect ($pattern)"
  }
  say "$mechanism: $(head -n 1 "$tmp/why")"
  cases "mechanisms broken on purpose, and noticed" 1
}

data='must be|is not what it may be|is torn|is no cut'

# The same build with nothing broken passes.
NBDFLEECE_BROKEN= oracle 30

finds no-inflight "$data" 2000
finds mark-before-copy "$data" 2000
finds mark-after-write "$data" 2000
finds no-gate "$data" 2000 frozen=0
finds no-lost "$data" 2000 scratch-limit=200K
finds no-take-up "END of .* failed|$data" 2000 kill-every=5 chaos=export
finds end-late "$data" 5000
finds trim-after-write "$data" 2000 trim=defer
finds no-recheck "$data" 2000
