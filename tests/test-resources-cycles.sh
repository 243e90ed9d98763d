#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# A thousand snapshots, one after the other, of a disk that is written to: no
# process has more descriptors or memory after them, and no file is left.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_python_nbd

n=1000
[ "${NBDFLEECE_SANITIZER:-no}" = no ] || n=100
truncate -s 64M "$tmp/a.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X
start_daemon
nf snapshot create vda stays --checkpoint c >/dev/null
ls "$state/exports/vda" "$run" >"$tmp/before"
"$PYTHON" "$abs_top_srcdir/tests/resources.py" cycles "$run" "$daemon" \
          "$(guest_uri vda)" $n
ls "$state/exports/vda" "$run" | diff "$tmp/before" - || fail "files are left"
nf snapshot delete vda stays
no_snapshot_files
stop_daemon
