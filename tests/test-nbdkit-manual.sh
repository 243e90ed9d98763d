#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter and plugin: --help and the manual page name the same parameters.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit man

compare () {
  grep -oE '^[a-z-]+=' "$tmp/help" | sort >"$tmp/in-help"
  [ -s "$tmp/in-help" ] || fail "$1: no parameters in --help"
  sed -nE 's/^\.It Cm ([a-z-]+=).*/\1/p' "$abs_top_srcdir/$1" | sort >"$tmp/in-man"
  diff "$tmp/in-help" "$tmp/in-man" || fail "$1 and --help differ"
  MANROFFSEQ='' LC_ALL=C MANWIDTH=80 man --warnings -E UTF-8 -l \
    "$abs_top_srcdir/$1" 2>&1 >/dev/null | tee "$tmp/warnings" >&2
  [ ! -s "$tmp/warnings" ] || fail "$1: man warns"
}

"$NBDKIT" --help --filter="$NBDFLEECE_FILTER" null >"$tmp/all"
sed -n '/^filter: fleece/,$p' "$tmp/all" | sed '/^plugin:/,$d' >"$tmp/help"
compare filter/nbdkit-fleece-filter.1

reconnect=$(dirname "$NBDFLEECE_FILTER")/nbdkit-fleece-reconnect-filter.so
"$NBDKIT" --help --filter="$reconnect" null >"$tmp/all"
sed -n '/^filter: fleece/,$p' "$tmp/all" | sed '/^plugin:/,$d' >"$tmp/help"
compare filter/nbdkit-fleece-reconnect-filter.1

"$NBDKIT" --help "$NBDFLEECE_PLUGIN" | sed -n '/^plugin: fleece/,$p' >"$tmp/help"
compare plugin/nbdkit-fleece-plugin.1
