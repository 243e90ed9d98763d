# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# What runs of the oracle share, to be sourced after functions.sh.

# NBDFLEECE_ROUNDS is the number of rounds, in percent of what a test asks for
# (`make oracle-long' takes many).  A sanitizer makes each round longer.
case ${NBDFLEECE_SANITIZER:-no} in
  no) : "${NBDFLEECE_ROUNDS:=100}" ;;
  address) : "${NBDFLEECE_ROUNDS:=25}" ;;
  *) : "${NBDFLEECE_ROUNDS:=10}" ;;
esac

# oracle ROUNDS KEY=VALUE...: one run, in a directory of its own (see
# oracle/options.c).  Its seed is in what it prints.
oracle_runs=0
oracle () {
  local rounds=$(( ($1 * NBDFLEECE_ROUNDS + 99) / 100 ))
  local dir=$tmp/$((oracle_runs += 1))
  shift
  mkdir "$dir"
  start "$abs_top_builddir/tests/oracle/oracle" dir="$dir" rounds=$rounds "$@"
  status=0
  wait "$pid" || status=$?
  rm -rf "$dir"
  return $status
}

# chains ROUNDS: the oracle of backups (see oracle/chains.py), likewise; or, of
# SECONDSs, its soak.
chains () {
  local rounds=$1
  [[ $rounds = *s ]] || rounds=$(( (rounds * NBDFLEECE_ROUNDS + 99) / 100 ))
  local dir=$tmp/$((oracle_runs += 1)) seed=${NBDFLEECE_SEED:-$RANDOM}
  say "NBDFLEECE_SEED=$seed"
  mkdir "$dir"
  start "$PYTHON" "$abs_top_srcdir/tests/oracle/chains.py" "$dir" $rounds \
        "$seed"
  status=0
  wait "$pid" || status=$?
  [ $status -eq 0 ] || tail -n 60 "$dir/daemon.log" >"$tmp/daemon.log"
  [ -n "$NBDFLEECE_KEEP" ] || rm -rf "$dir"
  return $status
}
