#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Backups of disks that are written to, one after the other, for a while: each
# right, and no process grows.  `make soak' goes on for an hour.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"
requires_tool nbdkit nbdcopy qemu-img qemu-nbd
requires_python_nbd

chains "${SOAK_SECONDS:-15}s"
[ "${NBDFLEECE_SANITIZER:-no}" = no ] && [ -n "$SOAK_SECONDS" ] || exit 0

# It would be seen if something stayed open.  That takes most of a minute, and
# test-resources-cycles.sh sees the same in a second.
NBDFLEECE_FILTER=$abs_top_builddir/filter/.libs/nbdkit-fleece-broken-filter.so
if NBDFLEECE_BROKEN=keep-ended NBDFLEECE_PATIENCE=2 chains 300s 2>"$tmp/said"
then
  fail "keep-ended: not found"
fi
grep -E "^chains: FAILED: vd.* has [0-9]+ descriptors, and had" "$tmp/said" >&2 ||
  { cat "$tmp/said" >&2; fail "keep-ended: not by its effect"; }
cases "mechanisms broken on purpose, and noticed" 1
