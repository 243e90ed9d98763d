#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The systemd unit: systemd understands it, and it starts our daemon.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool systemd-analyze

unit=$tmp/nbdfleeced.service
sed "s,@sbindir@/nbdfleeced,$NBDFLEECED," \
    "$abs_top_srcdir/packaging/nbdfleeced.service.in" >"$unit"
systemd-analyze verify --man=no "$unit" >"$tmp/out" 2>&1 || {
  cat "$tmp/out" >&2
  fail "systemd-analyze verify"
}
# Other units of the machine may be no good; ours has to be.
if grep nbdfleeced "$tmp/out" >&2; then fail "warnings about the unit"; fi

# The options it uses are options that there are.
for option in $(sed -n 's/^Exec[A-Za-z]*=.*nbdfleeced //p' "$unit"); do
  "$NBDFLEECED" --help | finds -e "$option" || fail "no option $option"
done

# What it may do is little enough, by systemd's own measure (0 to 10; the
# options that would go further are those that hooks and targets forbid).
systemd-analyze security --offline=yes --threshold=50 "$unit" \
  >"$tmp/out" 2>&1 || {
  finds 'Overall exposure' <"$tmp/out" || skip "systemd is too old to tell"
  fail "$(tail -n 1 "$tmp/out")"
}

# The system calls that the confinement of the snapshot server needs, and what
# its parts are not to have.
finds -E '^SystemCallFilter=.*landlock_restrict_self' <"$unit"
for option in NoNewPrivileges=yes RestrictNamespaces=yes ProtectSystem=full; do
  finds -Fx "$option" <"$unit" || fail "not in the unit: $option"
done
