#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleece(1) has every command and option of --help with its text, and no
# other; and docs/json.md has every command.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"

# Both sides as lines NAME AND ARGUMENTS|TEXT
"$NBDFLEECE" --help | awk '
  function emit() { if (what != "") print what "|" text; what = text = "" }
  /^(Usage|Options of)/ || /^$/ { emit(); next }
  /^  [^ ]/ { emit(); sub (/^ */, ""); what = $0; next }
  /^      -/ { emit(); sub (/^ */, ""); what = text = $0
    sub (/  .*/, "", what); sub (/^.*[^ ]   */, "", text)
    text = substr ($0, length (what) + 1); sub (/^ */, "", text); next }
  { sub (/^ */, ""); text = text (text == "" ? "" : " ") $0 }
  END { emit() }' >"$tmp/help"

awk '
  function emit() { if (what != "") print what "|" text; what = text = "" }
  /^\.Sh/ { emit(); on = $2 == "COMMANDS"; next }
  !on || /^\.(\\"|Bl|Pp)/ { next }
  /^\.(El|Ss)/ { emit(); next }
  /^\.It/ { emit(); sub (/^\.It /, "")
    gsub (/Op Ar [A-Z]+/, "[&]"); gsub (/Op OPTIONS/, "[OPTIONS]")
    gsub (/\[Op Ar /, "["); gsub (/(Cm|Ar) /, ""); gsub (/Fl /, "-")
    gsub (/ , -/, ", --"); gsub (/^--?s, /, "-s, "); what = $0; next }
  { sub (/^\.[A-Z][a-z] /, ""); text = text (text == "" ? "" : " ") $0 }
  ' "$abs_top_srcdir/cli/nbdfleece.1" >"$tmp/manual"

diff <(cut -d'|' -f1 "$tmp/help") <(cut -d'|' -f1 "$tmp/manual") ||
  fail "commands or options differ (<: --help, >: manual)"
[ "$(wc -l <"$tmp/help")" -gt 20 ] || fail "--help was not understood"
while IFS='|' read -r what text <&3 && IFS='|' read -r _ manual <&4; do
  case $manual in
    "$text"*) ;;
    *) fail "$what: '$manual' does not begin with '$text'" ;;
  esac
done 3<"$tmp/help" 4<"$tmp/manual"

sed -n 's/^  \([a-z][a-z ]*[a-z]\).*/\1/p' <("$NBDFLEECE" --help) |
while read -r command; do
  grep -q "^|.*\`$command\`.*|" "$abs_top_srcdir/docs/json.md" ||
    fail "docs/json.md does not have '$command'"
done
