# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# For tests that kill the daemon or copiers at failpoints: sourced after
# functions.sh.

requires_tool nbdkit nbdcopy
requires_python_nbd

export abs_top_srcdir NBDKIT NBDFLEECE
export NBDFLEECED=$abs_top_builddir/server/nbdfleeced-broken
export NBDFLEECE_COPY=$abs_top_builddir/copier/nbdfleece-copy-broken
export NBDFLEECE_SEED=${NBDFLEECE_SEED:-$RANDOM}
say "NBDFLEECE_SEED=$NBDFLEECE_SEED"

# crash daemon|copier PAIRS: at each point, and at so many pairs (make
# crash-long has all).
crash () {
  mkdir -p "$tmp/crash"
  "$PYTHON" "$abs_top_srcdir/tests/crash-daemon.py" "$tmp/crash" "$1" \
            "${NBDFLEECE_PAIRS:-$2}"
}

# notices WHO MECHANISM PATTERN: it would be seen if that were missing.
notices () {
  local who=$1
  shift
  if NBDFLEECE_BROKEN=$1 NBDFLEECE_PAIRS=0 crash "$who" 0 >"$tmp/out" 2>&1; then
    fail "$1: not found"
  fi
  grep -E "crash-daemon: FAILED.*($2)" "$tmp/out" >&2 ||
    { cat "$tmp/out" >&2; fail "$1: not by its effect"; }
  cases "mechanisms broken on purpose, and noticed" 1
}
