# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# What tests of the filter share, to be sourced after functions.sh.

state=$tmp/state
mkdir -p "$state/exports/vda"
disk=$tmp/disk

# make_disk BYTES: random data in $disk, a copy of it in $tmp/before.
make_disk () {
  head -c "$1" /dev/urandom >"$disk"
  cp "$disk" "$tmp/before"
}

# start_export PLUGIN-AND-FILTER-ARGS...: nbdkit with our filter on vda.sock;
# NBDFLEECE_PRELOAD, if set, is preloaded (by tests/sanitized/nbdkit itself if
# that is in use: the shell that runs it can do without).
start_export () {
  local before=()
  [ -z "$NBDFLEECE_PRELOAD" ] || [ "${NBDFLEECE_SANITIZER:-no}" != no ] ||
    before=(LD_PRELOAD="$NBDFLEECE_PRELOAD")
  rm -f "$tmp/vda.pid" "$tmp/vda.sock"
  start env "${before[@]}" "$NBDKIT" -f --exit-with-parent \
        -P "$tmp/vda.pid" -U "$tmp/vda.sock" --filter="$NBDFLEECE_FILTER" \
        "$@" fleece-export=vda fleece-state="$state/exports/vda" \
        fleece-control="$tmp/vda.ctl" 2>"$tmp/vda.log"
  export_pid=$pid
  wait_for 30 export_started
  [ -S "$tmp/vda.ctl" ] || fail "nbdkit ended: $*"
}
export_started () {
  dead "$export_pid" || ctl hello >/dev/null 2>&1
}

# ctl COMMAND...: one command to the filter, its answer on stdout.
ctl () {
  echo "$*" | "$abs_top_builddir/tests/ctl" "$tmp/vda.ctl" "$state" "file:$disk"
}

# expect ANSWER COMMAND...: the answer must match the shell pattern.
expect () {
  local want=$1 got
  shift
  got=$(ctl "$@")
  # shellcheck disable=SC2053
  [[ $got == $want ]] || fail "$*: expected '$want', got '$got'"
}

# stat_of KEY [SNAPSHOT]: one counter.
stat_of () {
  ctl "stats${2:+ $2}" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# start_front: nbdkit that serves the snapshots, on snap.sock.
start_front () { start_nbdkit snap "$NBDFLEECE_PLUGIN" dir="$state"; }

# nbdsh_vda CODE: Python with h connected to the export.
nbdsh_vda () {
  "$PYTHON" -c "
import errno, nbd, os, sys
h = nbd.NBD ()
h.set_strict_mode (0)
h.connect_uri ('$(uri vda vda)')
$1"
}
