# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# What every shell test sources first: a directory, processes, waiting.

# A test is a bash script that starts with
#
#     . "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
#
# and passes by ending with 0, skips with `skip WHY', fails with `fail WHY' or
# by any command that fails (set -e).  It works in $tmp, a directory of its
# own that is gone afterwards.  Whatever it starts in the background goes
# through `start' (or start_nbdkit), which remembers the pid; the end of the
# test, however it comes, stops exactly those.  A process that still has $tmp
# on its command line after that was left behind by the code under test: it is
# stopped too, and the test fails.
#
# `make check' passes where the built things are; by hand, from the build
# directory: `tests/run tests/test-NAME.sh', or a program `tests/run tests/NAME'.

set -eE -o pipefail
shopt -s inherit_errexit

: "${abs_top_srcdir:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${abs_top_builddir:=$abs_top_srcdir}"
: "${NBDFLEECE_FILTER:=$abs_top_builddir/filter/.libs/nbdkit-fleece-filter.so}"
: "${NBDFLEECE_PLUGIN:=$abs_top_builddir/plugin/.libs/nbdkit-fleece-plugin.so}"
: "${NBDFLEECE_COPY:=$abs_top_builddir/copier/nbdfleece-copy}"
: "${NBDFLEECED:=$abs_top_builddir/server/nbdfleeced}"
: "${NBDFLEECE:=$abs_top_builddir/cli/nbdfleece}"
: "${NBDFLEECE_FRONT:=$abs_top_builddir/server/front/nbdfleece-front}"
: "${NBDKIT:=nbdkit}"
# The only python with Debian's nbd module, whatever else is in PATH.
: "${PYTHON:=/usr/bin/python3}"
export NBDFLEECE_FILTER NBDFLEECE_PLUGIN NBDFLEECE_COPY NBDFLEECED NBDFLEECE
export NBDFLEECE_FRONT NBDKIT PYTHON abs_top_srcdir abs_top_builddir

# e2fsck and friends are no command of every user.
PATH=$PATH:/usr/sbin:/sbin

tmp=$(mktemp -d "${TMPDIR:-/tmp}/nbdfleece-test.XXXXXXXX")
pids=()
ended_well=no

say () { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }

# cases WHAT N: that many cases of WHAT were run, and all went well; the
# reliability page (docs/reliability.md) is made from what is said here.
cases () { printf 'cases: %s: %s\n' "$1" "$2"; }

fail () { say "FAILED: $*"; exit 1; }

# The machine cannot do what the test needs, and installing would not help.
skip () { say "skipped: $*"; ended_well=skip; exit 77; }

# requires COMMAND...: skips the test unless COMMAND succeeds.  Where
# everything is meant to be there (NBDFLEECE_CI=1), fails it.
requires () {
  "$@" >"$tmp/requires.out" 2>&1 </dev/null && return
  cat "$tmp/requires.out" >&2
  [ -z "$NBDFLEECE_CI" ] || fail "needed here, and not available: $*"
  skip "needs: $*"
}

# requires_tool NAME...: the same for programs in PATH.
requires_tool () {
  local t
  for t; do requires command -v "$t"; done
}

# requires_python_nbd: Python with libnbd's module.
requires_python_nbd () { requires "$PYTHON" -c 'import nbd'; }

# wait_for SECONDS COMMAND...: until COMMAND succeeds, asking often.  Fails the
# test when the time is up.
wait_for () {
  local deadline=$(( $(date +%s%N) + $1 * 1000000000 ))
  shift
  until "$@"; do
    [ "$(date +%s%N)" -lt $deadline ] || fail "waited in vain for: $*"
    sleep 0.02
  done
}

# start COMMAND...: in the background; its pid is in $pid.
start () {
  "$@" &
  pid=$!
  pids+=("$pid")
}

# A zombie is not alive, though its pid is still taken.
alive () { grep -q '^State:.[^Z]' "/proc/$1/status" 2>/dev/null; }
dead () { ! alive "$1"; }

# stop PID [SIGNAL]: ends what `start' started and waits for it.  Its exit
# status is in $status.
stop () {
  local p kept=()
  kill "-${2:-TERM}" "$1" 2>/dev/null || true
  for p in "${pids[@]}"; do [ "$p" = "$1" ] || kept+=("$p"); done
  pids=("${kept[@]}")
  wait_for 30 dead "$1"
  status=0
  wait "$1" || status=$?
}

# start_nbdkit NAME ARGS...: nbdkit on $tmp/NAME.sock, ready for clients; its
# pid is in $pid, its messages are in $tmp/NAME.log and shown on failure.
start_nbdkit () {
  local name=$1
  shift
  rm -f "$tmp/$name.pid" "$tmp/$name.sock"
  start "$NBDKIT" -f --exit-with-parent -P "$tmp/$name.pid" \
        -U "$tmp/$name.sock" "$@" 2>"$tmp/$name.log"
  wait_for 30 nbdkit_started "$name" "$pid"
  [ -s "$tmp/$name.pid" ] || fail "nbdkit ended: $*"
}
nbdkit_started () { [ -s "$tmp/$1.pid" ] || dead "$2"; }

# uri NAME [EXPORT]: where start_nbdkit NAME listens.
uri () { printf 'nbd+unix:///%s?socket=%s' "${2:-}" "$tmp/$1.sock"; }

# must_fail PATTERN COMMAND...: COMMAND must fail (not by a signal) and say
# something that matches the extended regular expression on stderr.
must_fail () {
  local pattern=$1 status=0
  shift
  "$@" >"$tmp/must_fail.out" 2>"$tmp/must_fail.err" </dev/null || status=$?
  [ $status -ne 0 ] || fail "ought to have failed: $*"
  [ $status -lt 126 ] || fail "ended with status $status: $*"
  grep -Eq -e "$pattern" "$tmp/must_fail.err" || {
    cat "$tmp/must_fail.err" >&2
    fail "its message does not match '$pattern': $*"
  }
}

# COMMAND | finds ARGS...: what `grep -q' finds out, but it reads to the end, so
# that COMMAND is not killed by SIGPIPE, which pipefail would take for a failure.
finds () { grep "$@" >/dev/null; }

# same FILE FILE: equal byte for byte, sizes included.
same () { cmp "$1" "$2" || fail "$1 and $2 differ"; }

# Processes that have $tmp on their command line, but not this shell.
leftovers () {
  local f p
  for f in /proc/[0-9]*/cmdline; do
    p=${f#/proc/} p=${p%/cmdline}
    [ "$p" != $$ ] && [ "$p" != "$BASHPID" ] || continue
    { tr '\0' ' ' <"$f"; } 2>/dev/null | finds -F "$tmp" || continue
    alive "$p" && echo "$p"
  done
  return 0
}

cleanup () {
  local status=$? p left
  trap - EXIT ERR INT TERM HUP
  set +eE
  [ $status -ne 0 ] && [ "$ended_well" != skip ] && show_logs
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
  for p in "${pids[@]}"; do
    (wait_for 20 dead "$p") || kill -KILL "$p" 2>/dev/null
    wait "$p" 2>/dev/null
  done
  left=$(leftovers)
  if [ -n "$left" ]; then
    for p in $left; do
      say "left behind: $p: $(tr '\0' ' ' <"/proc/$p/cmdline")"
      kill -KILL "$p"
    done
    [ $status -ne 0 ] || status=1
  fi
  if [ -n "$NBDFLEECE_KEEP" ]; then say "kept: $tmp"; else rm -rf "$tmp"; fi
  exit $status
}

show_logs () {
  local f
  for f in "$tmp"/*.log; do
    [ -f "$f" ] || continue
    say "--- $(basename "$f")"
    tail -n 40 "$f" >&2
  done
}

trap cleanup EXIT
trap 'say "line $LINENO: failed: $BASH_COMMAND"' ERR
trap 'say "interrupted, perhaps by the time limit"; exit 124' INT TERM HUP
