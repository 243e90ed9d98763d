# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# shellcheck shell=bash
# How a model of tests/model is verified: sourced by test-model-NAME.sh.

# The comment at the top of a model says how it is verified, one run a line:
#
#   verify [DEFINE...]       all of the state space, no error
#   catch [DEFINE...]        the same protocol with a mistake: an error
#   never-reached TEXT       a statement that no good run should come to
#
# A statement that no good run of its model comes to is an error, too: then
# the model does not show what it seems to show.  By hand: test-model-NAME.sh
# DEFINE... (or "" for none) runs one, and prints the way to the error.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"

requires_tool spin cc
optimise=-O2
models=$abs_top_srcdir/tests/model
bad=0

# run NAME [DEFINE...]: verifies; the outcome is in ./out.
run () {
  local name=$1
  shift
  rm -rf "$tmp/run"
  mkdir "$tmp/run"
  cd "$tmp/run"
  # Anything that spin says is a mistake in the model.
  spin -a "${@/#/-D}" "$models/$name.pml" >spin.out 2>&1 && [ ! -s spin.out ] ||
    { cat spin.out >&2; fail "spin does not like $name.pml $*"; }
  cc $optimise -w -DSAFETY -DCOLLAPSE -DMEMLIM=3000 -o pan pan.c
  ./pan -m1000000 -w22 >out || true
}

# complete: the search came to its end.
complete () { ! grep -q 'Search not completed' out; }
no_errors () { complete && grep -q 'errors: 0$' out; }
caught () { grep -Eq '^pan:[0-9]+: (assertion violated|invalid end state)' out; }

outcome () {
  sed -n -e 's/^pan:[0-9]*: //p' -e 's/^ *\([0-9.e+]* states\), stored/\1/p' out |
    tr '\n' ' '
}

states () { sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out | awk '{ printf "%d", $1 }'; }

# The statements of ./out that were not reached, one a line.
unreached () { sed -n 's/^\t\(.*\.pml:[0-9]*, state [0-9]*, .*\)/\1/p' out; }

verify_all () {
  local name=$1 kind defines first=yes
  while read -r kind defines; do
    # The broken ones are short: compiling them takes longer than running.
    [ $kind = verify ] && optimise=-O2 || optimise=-O0
    run "$name" $defines
    printf '%s: %s %s: %s\n' "$name" "$kind" "$defines" "$(outcome)" >&2
    case $kind in
      verify)
        no_errors || { cat out >&2; say "$name $defines: not verified"; bad=1; }
        # In no run so far.
        unreached | sed 's/, state [0-9]*,/:/' | sort -u >"$tmp/now"
        [ $first = no ] || cp "$tmp/now" "$tmp/never"
        comm -12 "$tmp/never" "$tmp/now" >"$tmp/both"
        mv "$tmp/both" "$tmp/never"
        first=no
        cases "states of models" "$(states)" ;;
      catch)
        cases "mistakes in models, and caught" 1
        caught || { say "$name $defines: the mistake was not caught"; bad=1; } ;;
    esac
  done < <(sed -n 's/^ \* \(verify\|catch\)\b/\1/p' "$models/$name.pml")
  [ $first = no ] || fail "$name.pml does not say how it is verified"
  sed -n 's/^ \* never-reached //p' "$models/$name.pml" |
    sed 's/ *(.*//' >"$tmp/allowed"
  # How a kill comes in, and the end of what has none, are no statements.
  if grep -vF -e '((generation!=gen))' -e '"-end-"' "$tmp/never" |
       grep -vFf "$tmp/allowed" >"$tmp/dead"; then
    cat "$tmp/dead" >&2
    say "$name: statements that no good run comes to"
    bad=1
  fi
}

# test_model NAME [DEFINE...]: what a test does.
test_model () {
  local name=$1
  shift
  if [ $# = 0 ]; then
    verify_all "$name"
    exit $bad
  fi
  [ -n "$1" ] || shift
  run "$name" "$@"
  cat out
  [ ! -f "$name.pml.trail" ] ||
    spin -p -g -l -k "$name.pml.trail" "${@/#/-D}" "$models/$name.pml"
}
