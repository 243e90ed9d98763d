#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Daemon: files that an export's process may write to are cut or overwritten
# under those who have them mapped.  That ends neither the daemon nor what
# serves other exports, and nothing wrong is said to be right.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdcopy nbdinfo
requires_python_nbd

head -c 8M /dev/urandom >"$tmp/a.img"
head -c 8M /dev/urandom >"$tmp/b.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img, tracking: durable}
  - {name: vdb, disk: $tmp/b.img}
X
dir=$state/exports/vda

nbdsh () { "$PYTHON" -m nbd "$@"; }
write_at () {
  nbdsh -u "$(guest_uri vda)" \
        -c "h.pwrite(b'x' * 4096, $1)" -c 'h.flush()'
}

# prepare: snapshots, checkpoints, and a client that has them open.
prepare () {
  nf snapshot create vda,vdb first --checkpoint c >/dev/null
  write_at 0
  nf snapshot create vda second --checkpoint d >/dev/null
  write_at 1048576
  cp "$tmp/b.img" "$tmp/b.first"
}

# look: asks everybody about everything.  What of vda fails may fail.
look () {
  nf status >"$tmp/looked"
  nf --json status >"$tmp/looked"
  nf checkpoint list vda >"$tmp/looked" 2>&1 || true
  nf snapshot list >"$tmp/looked"
  nbdinfo --list "nbd+unix:///?socket=$run/backup.sock" >"$tmp/looked" 2>&1 ||
    true
  timeout 60 nbdcopy "$(snapshot_uri vda first)" "$tmp/looked" 2>/dev/null ||
    true
  # An incremental is refused or fails, or has all that has changed.
  cp "$tmp/a.base" "$tmp/inc.raw"
  if timeout 60 "$NBDFLEECE" -s "$run/control.sock" backup vda \
      "$tmp/top.raw" --sync incremental --since c >"$tmp/looked" 2>&1; then
    nbdsh -c "
a, top, base = [open('$tmp/' + n, 'rb').read()
                for n in ('a.img', 'top.raw', 'a.base')]
for i in range(0, len(a), 4096):
    if a[i:i + 4096] != base[i:i + 4096]:
        assert top[i:i + 4096] == a[i:i + 4096], 'not in it: %d' % i"
  fi
  rm -f "$tmp"/top.raw*
}

# others_live: the daemon is the same, and vdb's snapshot is served.
others_live () {
  alive "$daemon" || return 1
  nbdcopy "$(snapshot_uri vdb first)" "$tmp/b.out"
  same "$tmp/b.out" "$tmp/b.first"
}

# The daemon has everything mapped when it happens.
attacks=0
attack () {          # FILE COMMAND...
  local file=$1
  shift
  cp "$tmp/a.img" "$tmp/a.base"
  start_daemon
  prepare
  look
  "$@" "$dir/$file"
  look
  others_live || return 1
  attacks=$((attacks + 1))
  kill_filter
  wait_for 60 daemon_serves_or_died
  others_live || return 1
  end_all
}
kill_filter () { kill -KILL "$(cat "$run/vda.pid" 2>/dev/null)" 2>/dev/null || true; }
end_all () {
  stop "$daemon"
  rm -rf "$state" "$run"
}
cut_to () { truncate -s "$1" "$2"; }
fill () {            # as someone who may write would, with whatever byte
  "$PYTHON" - "$1" "$2" "$3" <<'PY'
import os, sys
fd = os.open(sys.argv[3], os.O_WRONLY)
os.pwrite(fd, bytes([int(sys.argv[1])]) * (4096 - int(sys.argv[2])),
          int(sys.argv[2]))
PY
}

say "a daemon without the guard would be seen"
NBDFLEECED_REAL=$NBDFLEECED
NBDFLEECED=$abs_top_builddir/server/nbdfleeced-broken
export NBDFLEECE_BROKEN=no-guard
start_daemon
unset NBDFLEECE_BROKEN
cp "$tmp/a.img" "$tmp/a.base"
prepare
truncate -s 0 "$dir/first.map"
nf status >"$tmp/looked" 2>&1 || true
wait_for 60 dead "$daemon"
NBDFLEECED=$NBDFLEECED_REAL
stop "$daemon"
start_daemon
end_all

for file in first.map c.dirty d.dirty activity.log vda@first.scratch; do
  say "$file is cut"
  attack $file cut_to 0 || fail "somebody else has died of it"
done
say "cut after the header"
for file in first.map c.dirty; do
  attack $file cut_to 4096 || fail "somebody else has died of it"
done
say "headers overwritten, all or from the state on"
for file in first.map d.dirty; do
  attack $file fill 255 0 || fail "somebody else has died of it"
  attack $file fill 255 3080 || fail "somebody else has died of it"
done
cases "files cut or overwritten under the daemon" $attacks
