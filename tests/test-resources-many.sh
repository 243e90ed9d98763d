#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Many at once: exports, snapshots of one export, connections.  Descriptors and
# memory come back.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool nbdcopy

exports=24 snapshots=8 connections=200
{
  echo "backup: {max-connections-per-client: $connections}"
  echo "exports:"
  for ((i = 1; i < exports; i++)); do
    truncate -s 1M "$tmp/$i.img"
    echo "  - {name: v$i, disk: $tmp/$i.img}"
  done
  echo "  - {name: vda, disk: $tmp/a.img, cluster-size: 4K}"
} | write_config
head -c 16M /dev/urandom >"$tmp/a.img"
start_daemon

say "$exports exports, all at one instant"
names=$(nf --json status | json "','.join (e['name'] for e in d['exports'])")
nf snapshot create "$names" all >/dev/null
[ "$(nf --json snapshot list | json "len (d['snapshots'])")" = $exports ]
[ "$(nf --json snapshot list | json "len (set (s['instant'] for s in d['snapshots']))")" -ge 1 ]
nf snapshot delete "$names" all
no_snapshot_files
cases "exports at one instant" $exports

say "$snapshots snapshots of one, each as it was"
for ((i = 1; i <= snapshots; i++)); do
  cp "$tmp/a.img" "$tmp/then-$i"
  nf snapshot create vda "s$i" >/dev/null
  guest vda "import random
r = random.Random ($i)
for n in range (300):
    h.pwrite (r.randbytes (r.randrange (1, 20000)), r.randrange (0, 16 << 20) * 3 // 4)
h.zero (1 << 20, $i << 20)"
done
for ((i = 1; i <= snapshots; i++)); do
  nbdcopy "$(snapshot_uri vda "s$i")" "$tmp/pulled"
  same "$tmp/pulled" "$tmp/then-$i"
done
cases "snapshots of one export at once" $snapshots

say "$connections connections of guests, and of backup software"
for uri in "$(guest_uri vda)" "$(snapshot_uri vda s1)"; do
  "$PYTHON" "$abs_top_srcdir/tests/resources.py" connect "$run" "$daemon" \
            "$uri" $connections
done
for ((i = 1; i <= snapshots; i++)); do nf snapshot delete vda "s$i"; done
no_snapshot_files
stop_daemon
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || exit 0

say "it would be seen if something stayed open"
NBDFLEECE_PLUGIN=$abs_top_builddir/plugin/.libs/nbdkit-fleece-broken-plugin.so
NBDFLEECE_BROKEN=keep-ended start_daemon
nf snapshot create vda s >/dev/null
if NBDFLEECE_PATIENCE=2 "$PYTHON" "$abs_top_srcdir/tests/resources.py" connect \
     "$run" "$daemon" "$(snapshot_uri vda s)" 20 >"$tmp/out" 2>&1; then
  fail "keep-ended: not found"
fi
grep 'resources: descriptors, KiB, pid' "$tmp/out" >&2 ||
  { cat "$tmp/out" >&2; fail "keep-ended: not by its effect"; }
nf snapshot delete vda s
stop_daemon
cases "mechanisms broken on purpose, and noticed" 1
