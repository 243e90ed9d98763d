#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The example of a hook: a guest that is frozen and thawed through its agent.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"

hook=$abs_top_srcdir/docs/examples/guest-agent
for i in 1 2; do truncate -s 1M "$tmp/$i.img"; done
write_config <<X
exports:
  - {name: v1, disk: $tmp/1.img}
  - {name: v2, disk: $tmp/2.img}
groups:
  - name: web
    exports: [v1, v2]
    hooks: {before-freeze: [$hook, $tmp/agent], after-thaw: [$hook, $tmp/agent],
            before-freeze-timeout: 60s, after-thaw-timeout: 60s}
  - name: hasty
    exports: [v1]
    hooks: {before-freeze: [$hook, $tmp/agent], after-thaw: [$hook, $tmp/agent],
            before-freeze-timeout: 10s, after-thaw-timeout: 1s}
X
start "$PYTHON" "$abs_top_srcdir/tests/fake-agent.py" "$tmp/agent" "$tmp/asked"
agent=$pid
wait_for 30 test -S "$tmp/agent"
start_daemon

asked () {
  grep -v sync "$tmp/asked" | sed 's/guest-fsfreeze-//' | tr '\n' ' '
}
deleted () { nf snapshot delete v1 s; nf snapshot delete v2 s; : >"$tmp/asked"; }

say "frozen and thawed"
nf snapshot create web s >/dev/null 2>"$tmp/err"
[ ! -s "$tmp/err" ]
[ "$(asked)" = "freeze status thaw " ]
grep -q 'web: before-freeze: 2 file systems are frozen' "$tmp/daemon.log"
grep -q 'web: after-thaw: 2 file systems are thawed' "$tmp/daemon.log"
deleted

say "an old reply that somebody has left in the channel"
: >"$tmp/asked.stale"
nf snapshot create web s >/dev/null
[ "$(asked)" = "freeze status thaw " ]
rm "$tmp/asked.stale"
deleted

say "a guest that cannot freeze is not thawed"
: >"$tmp/asked.error"
must_fail 'hook before-freeze of group web failed: .*: ended with status 1: error: guest-fsfreeze-freeze: failed to freeze /' \
  nf snapshot create web s
[ "$(asked)" = "freeze status " ]
rm "$tmp/asked.error"
no_snapshot_files

say "an agent that does not answer"
: >"$tmp/asked"; : >"$tmp/asked.silent"
must_fail 'before-freeze of group hasty failed: .*: took longer than 10s: waiting for the guest agent; and hook after-thaw of group hasty failed: .*: took longer than 1s' \
  nf snapshot create hasty s
no_snapshot_files
rm "$tmp/asked.silent"

say "and none at all"
stop "$agent"
must_fail 'before-freeze of group web failed: .*guest-agent: ended with status 1: error: .*: Connection refused' \
  nf snapshot create web s
no_snapshot_files
stop_daemon
