#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleece-copy(1) has every option of --help, with its argument, default and
# sentence, and no other; every field of the result and every exit status.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"

page=$abs_top_srcdir/copier/nbdfleece-copy.1

# Lines KEY|ARGUMENT|DEFAULT|SENTENCE from both.
"$NBDFLEECE_COPY" --help | sed -n 's/^  --\([a-z-]*\)/\1 /p' |
  sed -E 's/^([a-z-]+) =?([A-Z,]*) +(.*)$/\1|\2|\3/
          s/^(.*)\|(.*) \[(.*)\]$/\1|\3|\2/
          s/^([^|]*\|[^|]*)\|([^|]*)$/\1||\2/' >"$tmp/help"
awk '$1 == ".Sh" { on = $2 == "OPTIONS" }
     on && /^\.It/ { key = line = $0; sub (/.*Fl -/, "", key); sub (/ .*/, "", key)
       arg = line; if (!sub (/.*= Ns Ar /, "", arg)) arg = ""
       def = ""; if (match (arg, / Bq /)) {
         def = substr (arg, RSTART + 4); arg = substr (arg, 1, RSTART - 1) }
       getline sentence
       sub (/\.$/, "", sentence)
       print key "|" arg "|" def "|" \
         tolower (substr (sentence, 1, 1)) substr (sentence, 2) }' "$page" |
  sed 's/|nBD /|NBD /' >"$tmp/manual"
[ "$(wc -l <"$tmp/help")" -gt 15 ] || fail "--help was not understood"
diff "$tmp/help" "$tmp/manual" || fail "they differ (<: --help, >: manual)"

make_image "$tmp/disk" 1M:r
begin_snapshot s "$tmp/disk" 65536
copy "map:$map" "$tmp/out"
for key in $("$PYTHON" -c 'import json, sys
print (*json.load (open (sys.argv[1])))' "$tmp/result.json"); do
  grep -Eq "^\.It Li (.*, )?$key( ,.*)?$" "$page" || fail "no field $key"
done
for status in 0 1 2 3 4; do
  grep -q "^\.It $status$" "$page" || fail "no exit status $status"
done
for state in $(sed -n '/state_names.JOB_STATES/,/}/s/.*"\(.*\)".*/\1/p' \
                   "$abs_top_srcdir/copier/job.c"); do
  [ "$state" = created ] || grep -q "^\.Li .*$state" "$page" ||
    fail "no state $state"
done
