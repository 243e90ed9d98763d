#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The shape of the tree: who may include what, headers, lengths.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"

cd "$abs_top_srcdir"
bad=0
complain () { echo "$*" >&2; bad=1; }
warn () { echo "warning: $*" >&2; }

# What code in a folder may include besides its own headers.  tests, bench and
# fuzz look into everything.
may_include () {
  case $1 in
    common) ;;
    filter | plugin | copier | conf) echo common ;;
    server/front) echo common ;;
    server | cli) echo conf common ;;
  esac
}

# only PATTERN PLACE...: a system header that has its place.
only () {
  local pattern=$1 f
  shift
  { grep -El "^[[:space:]]*#[[:space:]]*include[[:space:]]*<$pattern>" \
         $sources || true; } | while read -r f; do
    case " $* tests/ bench/ fuzz/ " in
      *" ${f%%/*}/ "* | *" $f "*) ;;
      *) echo "$f: includes <$pattern>, which is for: $*" ;;
    esac
  done
}

sources=$(ls {common,conf,filter,plugin,copier,server,server/front,cli}/*.[ch] \
             {tests,bench,fuzz}/*.[ch] 2>/dev/null || true)
[ -n "$sources" ] || fail "no sources found in $PWD"

# Includes point one way.
for f in $sources; do
  folder=${f%/*}
  case ${f%%/*} in tests | bench | fuzz) continue ;; esac
  for h in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\(.*\)".*/\1/p' "$f"); do
    for place in $folder $(may_include "$folder") none; do
      [ ! -f "$place/$h" ] || break
    done
    [ "$place" != none ] || complain "$f: includes \"$h\", which is not in $folder/" \
      "$(may_include "$folder" | sed 's/[a-z]\+/or &\//g')"
  done
done

for line in \
  'nbdkit-[a-z]*\.h filter/ plugin/' \
  'ev\.h server/ copier/' \
  'libnbd\.h copier/ plugin/live_nbd.c' \
  'yaml\.h conf/'
do
  out=$(only $line)
  [ -z "$out" ] || complain "$out"
done

# The two lines every file starts with; then code says what it is.
for f in $sources; do
  head -n 2 "$f" | tr '\n' '|' | finds -Fx \
    '/* SPDX-FileCopyrightText: The nbdfleece authors| * SPDX-License-Identifier: BSD-3-Clause */|' ||
    complain "$f: does not start with the two SPDX lines"
  sed -n 4p "$f" | finds '^/\* [A-Za-z]' ||
    complain "$f: line 4 is not a sentence on what the file is"
done
for f in configure.ac Makefile.am */Makefile.am server/*/Makefile.am {tests,bench,fuzz}/*.sh; do
  [ -f "$f" ] || continue
  head -n 3 "$f" | finds 'SPDX-FileCopyrightText: The nbdfleece authors' &&
    head -n 3 "$f" | finds 'SPDX-License-Identifier: BSD-3-Clause' ||
    complain "$f: no SPDX lines"
done

# No tabs or trailing blanks in code.
for f in $sources; do
  ! grep -nE "$(printf '\t')|[[:space:]]$" "$f" /dev/null ||
    complain "$f: tab or trailing space"
done

# Under pipefail the command before it may be killed by SIGPIPE.
! grep -nE '[^|]\| *grep +-[A-Za-z]*q' $(grep -l functions.sh tests/*.sh) ||
  complain "use 'finds' at the end of a pipe"

# Every model has its test.
for f in tests/model/*.pml; do
  name=$(basename "$f" .pml)
  [ "$name" = map ] || [ -e "tests/test-model-$name.sh" ] ||
    complain "$f: no tests/test-model-$name.sh"
done

# Each function of common/ with an atomic says above it which step of a model
# that is, "Model: NAME STEP", or none.
for f in common/[a-z]*.[ch]; do
  [ "${f##*/}" != broken.c ] || continue
  awk -v f="$f" '/^}/ { model = 0 } /Model: [a-z]/ { model = 1 }
    /atomic_(load|store|fetch|exchange|compare|thread)/ && !model {
      printf "%s:%d: an atomic that names no step of a model\n", f, NR }' "$f"
  sed -n 's/.*Model: \([a-z]*\).*/\1/p' "$f" | while read -r m; do
    [ "$m" = none ] || [ -f "tests/model/$m.pml" ] ||
      echo "$f: there is no model $m"
  done
done >"$tmp/models"
while read -r line; do complain "$line"; done <"$tmp/models"

# Lengths: a sign to look, not a rule.
for f in $sources; do
  n=$(wc -l <"$f")
  [ "$n" -le 500 ] || warn "$f: $n lines"
  awk -v f="$f" '/^{/ { start = NR }
    /^}/ && start { if (NR - start > 51) \
      printf "warning: %s:%d: function of %d lines\n", f, start, NR - start - 1
      start = 0 }' "$f" >&2
done

# Every test script in the tree is in the list, and can be run.
for f in tests/test-*.sh; do
  grep -q "[[:space:]]$(basename "$f")\b" tests/Makefile.am ||
    complain "$f: not in tests/Makefile.am"
  [ -x "$f" ] || complain "$f: not executable"
done

exit $bad
