#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleeced(8) has the options of --help with their texts, and no other.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"

# Both sides as lines OPTIONS|TEXT
"$NBDFLEECED" --help | sed -n 's/^  *\(-.*[^ ]\)   *\(.*\)$/\1|\2/p' |
  sed 's/ (default .*//' >"$tmp/help"

awk '
  function emit() { if (what != "") print what "|" text; what = text = "" }
  /^\.S[hs]/ { emit(); on = $2 == "Options"; next }
  !on || /^\.(\\"|Bl|El)/ { next }
  /^\.It/ { emit(); sub (/^\.It /, ""); gsub (/Ar /, ""); gsub (/Fl /, "-")
    gsub (/ , -/, ", --"); what = $0; next }
  { text = text (text == "" ? "" : " ") $0 }
  ' "$abs_top_srcdir/server/nbdfleeced.8" >"$tmp/manual"

diff <(cut -d'|' -f1 "$tmp/help") <(cut -d'|' -f1 "$tmp/manual") ||
  fail "options differ (<: --help, >: manual)"
[ "$(wc -l <"$tmp/help")" -ge 7 ] || fail "--help was not understood"
while IFS='|' read -r what text <&3 && IFS='|' read -r _ manual <&4; do
  case $manual in
    "$text"*) ;;
    *) fail "$what: '$manual' does not begin with '$text'" ;;
  esac
done 3<"$tmp/help" 4<"$tmp/manual"
