#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleece.yaml(5) has every key of the program's table with its type, first
# sentences, range and default, and no other; its examples are right.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"

page=$abs_top_srcdir/conf/nbdfleece.yaml.5

# Both sides as lines KEY TYPE|SENTENCES|Value: ...|Default: ... or Required
"$abs_top_builddir/tests/show-conf" | awk '
  function emit() { if (key != "") print key "|" text }
  /^[^ ]/ { emit(); sub (/:$/, "", $1); key = $1 " " $2; text = ""; next }
  /^    (Value:|Default:|Required$)/ { text = text "|" }
  { sub (/^    /, ""); text = text (text ~ /[|]$|^$/ ? "" : " ") $0 }
  END { emit() }' >"$tmp/table"

# The manual may say more, between the sentences of the table and Value.
awk '
  function emit() { if (key != "") print key "|" text }
  /^\.Sh/ { if (keys) emit(); keys = $2 == "KEYS"; next }
  !keys || /^\.\\"/ || /^\.(Bl|El)/ { next }
  /^\.It/ { emit(); key = $3 " " $6; text = ""; next }
  /^\.br/ { text = text "|"; next }
  { sub (/^\.[A-Z][a-z] /, "")
    text = text (text ~ /[|]$|^$/ ? "" : " ") $0 }' "$page" >"$tmp/manual"

diff <(cut -d'|' -f1 "$tmp/table") <(cut -d'|' -f1 "$tmp/manual") ||
  fail "keys or types differ (<: program, >: manual)"
diff <(cut -d'|' -f3- "$tmp/table") <(cut -d'|' -f3- "$tmp/manual") ||
  fail "values or defaults differ (<: program, >: manual)"
[ "$(wc -l <"$tmp/table")" -gt 10 ] || fail "the table was not understood"
while IFS='|' read -r key sentences _ <&3 &&
      IFS='|' read -r _ manual _ <&4; do
  case $manual in
    "$sentences"*) ;;
    *) fail "$key: '$manual' does not begin with '$sentences'" ;;
  esac
done 3<"$tmp/table" 4<"$tmp/manual"

# The example at the end, and that of the synopsis, can be read.
for section in SYNOPSIS EXAMPLES; do
  awk -v s="$section" '/^\.Sh/ { on = $2 == s } on && !/^\./' "$page" \
      >"$tmp/$section.yaml"
  "$abs_top_builddir/tests/show-conf" "$tmp/$section.yaml" >"$tmp/shown"
  [ -s "$tmp/shown" ]
done
