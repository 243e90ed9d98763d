# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# For tests of hooks: sourced after daemon.sh.

# One program is every hook.  It notes its call in $tmp/calls, a line
#
#     HOOK GROUP EXPORTS SNAPSHOT RESULT ARGUMENTS
#
# ("-" for what is empty), and does what the file $tmp/do.HOOK.WHO says (WHO:
# the group or the export), a piece of shell.
hook=$tmp/hook
calls=$tmp/calls
cat >"$hook" <<X
#!/bin/bash
tmp=$tmp
X
cat >>"$hook" <<'X'
call=$(printf '%s|' "$NBDFLEECE_HOOK" "$NBDFLEECE_GROUP" "$NBDFLEECE_EXPORTS" \
              "$NBDFLEECE_SNAPSHOT" "$NBDFLEECE_RESULT" "$@")
echo "$call" >>"$tmp/calls"     # one write: hooks run at once
whose=${NBDFLEECE_GROUP:-$NBDFLEECE_EXPORTS}
[ ! -e "$tmp/do.$NBDFLEECE_HOOK.$whose" ] ||
  . "$tmp/do.$NBDFLEECE_HOOK.$whose"
X
chmod +x "$hook"
: >"$calls"

# hook_does HOOK WHO: stdin is what it does from now on.
hook_does () { cat >"$tmp/do.$1.$2.new"; mv "$tmp/do.$1.$2.new" "$tmp/do.$1.$2"; }
hooks_do_nothing () { rm -f "$tmp"/do.*; : >"$calls"; }

# called PATTERN: how often a line of $calls matched.
called () { grep -c -e "$1" "$calls" || true; }

# calls_are: stdin is all of $calls; lines between marks "{" and "}" in any
# order.
calls_are () {
  "$PYTHON" - "$calls" /dev/fd/3 3<&0 <<'PY' || { cat "$calls" >&2; fail "other calls"; }
import sys
got = open(sys.argv[1]).read().split("\n")[:-1]
want = open(sys.argv[2]).read().split("\n")[:-1]
i = 0
while want:
    some = [want.pop(0)]
    if some == ["{"]:
        end = want.index("}")
        some, want = want[:end], want[end + 1:]
    assert sorted(got[i:i + len(some)]) == sorted(some), (got[i:], some)
    i += len(some)
assert i == len(got), got[i:]
PY
}

no_hook_records () { [ -z "$(find "$state" -name 'hooks-*')" ]; }
