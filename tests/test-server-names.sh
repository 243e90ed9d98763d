#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Whoever is told that something is done has it after a power cut: the daemon
# does not answer before the names of its files are on disk, too.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
[ "${NBDFLEECE_SANITIZER:-no}" = no ] ||
  skip "what is preloaded would not get on with a sanitizer's own"

fault=$abs_top_builddir/tests/.libs/libfault.so
[ -e "$fault" ] || fault=$abs_top_builddir/tests/libfault.so
export NBDFLEECE_FAULT=$tmp/fault
truncate -s 1M "$tmp/a.img" "$tmp/b.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
  - {name: vdb, disk: $tmp/b.img}
X
start_with_faults () {
  start env LD_PRELOAD="$fault" "$NBDFLEECED" -f -v -c "$config" \
        2>>"$tmp/daemon.log"
  daemon=$pid
  wait_for 60 daemon_serves_or_died
  wait_for 30 is_running vda
  wait_for 30 is_running vdb
}
is_gone () { [ ! -e "$1" ]; }
is_there () { compgen -G "$1" >/dev/null; }

# answered_early DIRECTORY SEEN... -- COMMAND...: DIRECTORY cannot be flushed,
# and COMMAND has come so far that SEEN succeeds: true if it was answered.
answered_early () {
  local seen=() early=1
  echo "nbdfleeced flush $1\$ hang" >"$tmp/fault.new"
  mv "$tmp/fault.new" "$NBDFLEECE_FAULT"
  shift
  while [ "$1" != -- ]; do seen+=("$1"); shift; done
  shift
  start nf "$@" >"$tmp/answer"
  wait_for 30 "${seen[@]}"
  # Nothing tells that there will be no answer.
  timeout 0.5 tail -s 0.05 --pid="$pid" -f /dev/null && early=0
  rm "$NBDFLEECE_FAULT"
  wait_for 30 dead "$pid"
  wait "$pid" || fail "$* failed"
  return $early
}
record () { answered_early /jobs is_there "$state/jobs/*.json" -- \
              backup vda "$tmp/out" --checkpoint c --detach; }
group () { answered_early /state is_there "$state/begin-*" -- \
             snapshot create vda,vdb s; }
gone () { answered_early /vda is_gone "$state/exports/vda/b.dirty" -- \
            checkpoint delete vda b; }

start_with_faults
checkpoint vda b
gone && fail "a deleted checkpoint may come back"
record && fail "a job may be forgotten"
group && fail "a group may be halved"
nf job wait 1 >/dev/null
stop_daemon
cases "names on disk before the answer" 3

# It would be seen if nobody waited.
rm -rf "$state" "$tmp/out"
NBDFLEECED=$abs_top_builddir/server/nbdfleeced-broken
export NBDFLEECE_BROKEN=names-not-flushed
start_with_faults
checkpoint vda b
gone || fail "names-not-flushed: not found by a checkpoint"
record || fail "names-not-flushed: not found by a job"
nf job wait 1 >/dev/null
# The file that a group begins with is gone once it has.
group_there () { nf --json snapshot list | finds '"vdb"'; }
answered_early /state group_there -- snapshot create vda,vdb s ||
  fail "names-not-flushed: not found by a group"
stop_daemon
cases "mechanisms broken on purpose, and noticed" 1
