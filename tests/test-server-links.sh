#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Daemon: links that lie where its files are to be lead nowhere.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"

truncate -s 4M "$tmp/a.img"
mkdir -p "$tmp/victims/dir"
mkdir -p -m 0700 "$state/exports/vda" "$state/jobs" "$run"
chmod 0700 "$state" "$state/exports"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X

# plant FILE...: each a link to a file of its own that must stay as it is.
nr=0
plant () {
  local f
  for f; do
    nr=$((nr + 1))
    echo "do not touch" >"$tmp/victims/$nr"
    ln -s "$tmp/victims/$nr" "$f"
  done
}
cd "$state/exports/vda"
plant s.map s~.map t.map c.dirty d.dirty disk disk.tmp vda@s.scratch \
  vda@t.scratch vda@job-1.scratch job-1.map activity hooks activity.tmp
cd "$state"
plant begin-1 hooks hooks.tmp
cd "$state/jobs"
plant 1.json 1.json.tmp 1.copy 1.result 1.result.new 2.json 2.json.tmp 2.copy \
  2.result 2.result.new
cd "$run"
plant control.sock vda.sock vda.ctl vda.pid vda.pid.tmp backup.sock \
  backup.pid backup.pid.tmp backup.data.sock backup.conf backup.conf.tmp \
  job-1.copy.pid job-2.copy.pid
cd "$tmp"
ls -lR --time-style=full-iso victims >before

say "links to files"
start_daemon
nf snapshot create vda t || true
nf snapshot create vda u
nf backup vda "$tmp/out.raw" --checkpoint e
same "$tmp/out.raw" "$tmp/a.img"
nf snapshot delete vda u
nf status >/dev/null
stop "$daemon"
[ "$status" -eq 0 ] || fail "the daemon ended with status $status"
ls -lR --time-style=full-iso victims >after
diff before after || fail "something was followed"
for f in victims/[0-9]*; do
  [ "$(cat "$f")" = "do not touch" ] || fail "written to: $f"
done

say "links in place of pipes and locks: refused"
plant "$run/vda.log"
must_fail 'vda.log: (File exists|Too many levels)' "$NBDFLEECED" -f -c "$config"
rm -f "$run/vda.log"
plant "$state/lock"
must_fail 'lock: Too many levels' "$NBDFLEECED" -f -c "$config"
rm "$state/lock"

say "links in place of directories: refused"
for d in exports exports/vda jobs; do
  mv "$state/$d" "$tmp/moved"
  ln -s "$tmp/victims/dir" "$state/$d"
  must_fail 'Not a directory' "$NBDFLEECED" -f -c "$config"
  [ -z "$(ls -A victims/dir)" ] || fail "$d: $(ls victims/dir)"
  rm "$state/$d"
  mv "$tmp/moved" "$state/$d"
done
